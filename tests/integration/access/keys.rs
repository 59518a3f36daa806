//! API keys: made, shown, checked for others, and taken back.

use super::{Issuer, admin_link, dinosaurs, reason, token};
use crate::{
    commands::trex,
    support::{Database, PATIENCE, TestHub, until_ok},
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::{Code, Status};
use trex::{
    faces::Registry,
    proto::{
        hub::v1::{
            CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest, ValidateApiKeyRequest,
            internal_auth_service_client::InternalAuthServiceClient,
        },
        rh_trex::v1::{ListDinosaursRequest, WatchDinosaursRequest},
    },
};

async fn hub() -> (Database, TestHub, String) {
    let (database, issuer) = (Database::create().await, Issuer::new());
    let hub = TestHub::start_with(issuer.settings(&database), Registry::of_this_program()).await;
    (database, hub, token("operator", json!({})))
}

/// Until a key that was just made is known everywhere.
async fn until_taken(hub: &TestHub, key: &str) {
    until_ok("the key is known", async || {
        let listed = list(hub, key).await;
        assert!(
            listed.as_ref().err().is_none_or(|status| status.code() == Code::Unauthenticated),
            "{listed:?}"
        );
        listed
    })
    .await;
}

async fn list(hub: &TestHub, key: &str) -> Result<(), Status> {
    dinosaurs(hub, Some(key)).await.list_dinosaurs(ListDinosaursRequest::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_back_ends_its_streams_and_no_others() {
    let (database, hub, operator) = hub().await;
    let mut keys = InternalAuthServiceClient::new(admin_link(&hub, Some(&operator)).await);
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let request = CreateApiKeyRequest { name: name.into(), ..Default::default() };
        made.push(keys.create_api_key(request).await.unwrap().into_inner());
    }
    let [one, two] = made.as_slice() else { panic!("two keys") };
    until_taken(&hub, &one.api_key).await;
    until_taken(&hub, &two.api_key).await;
    let watch = async |key: &str| {
        let mut client = dinosaurs(&hub, Some(key)).await;
        client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner()
    };
    let (mut first, mut second) = (watch(&one.api_key).await, watch(&two.api_key).await);
    let id = one.key.as_ref().unwrap().id.clone();
    keys.revoke_api_key(RevokeApiKeyRequest { id: id.clone() }).await.unwrap();
    let revoked = Instant::now();
    let ended = timeout(*PATIENCE, first.message()).await.expect("its end").unwrap_err();
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unauthenticated, "CREDENTIAL_REVOKED"));
    assert!(revoked.elapsed() < Duration::from_secs(3), "{:?}", revoked.elapsed());
    assert!(ended.metadata().contains_key("hub-revision"), "{ended:?}");
    assert_eq!(reason(&list(&hub, &one.api_key).await.unwrap_err()), "CREDENTIAL_INVALID");
    let sql = "INSERT INTO dinosaurs (species) VALUES ('x')";
    database.connect().await.batch_execute(sql).await.unwrap();
    assert!(timeout(*PATIENCE, second.message()).await.expect("an event").unwrap().is_some());
    let gone = keys.revoke_api_key(RevokeApiKeyRequest { id }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let all = keys.list_api_keys(ListApiKeysRequest { include_revoked: true }).await.unwrap().into_inner();
    assert_eq!((all.keys.len(), &*all.keys[0].created_by), (2, "https://sso.example#operator"));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_as_a_digest_and_checked_for_others() {
    let (database, hub, operator) = hub().await;
    let mut keys = InternalAuthServiceClient::new(admin_link(&hub, Some(&operator)).await);
    for (name, scopes) in [("", vec![]), ("a\nb", vec![]), ("ci", vec!["fly"])] {
        let scopes = scopes.into_iter().map(str::to_owned).collect();
        let request = CreateApiKeyRequest { name: name.into(), scopes, ..Default::default() };
        assert_eq!(keys.create_api_key(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let request =
        CreateApiKeyRequest { name: "ci".into(), scopes: vec!["list".into()], ..Default::default() };
    let key = keys.create_api_key(request).await.unwrap().into_inner().api_key;
    until_taken(&hub, &key).await;
    let mut check = async |key: &str| {
        let request = ValidateApiKeyRequest { api_key: key.into() };
        keys.validate_api_key(request).await.unwrap().into_inner()
    };
    let valid = check(&key).await;
    assert_eq!((valid.is_valid, &*valid.principal, valid.scopes), (true, "trex#ci", vec!["list".to_owned()]));
    let wrong = format!("{}0000", &key[..key.len() - 4]);
    assert_eq!(check(&wrong).await, check("trex_000000000000_x").await);
    assert_eq!(check("").await, Default::default());
    let kept = database.connect().await.query_one("SELECT k::text FROM hub.api_key k", &[]).await;
    let kept: String = kept.unwrap().get(0);
    let secret = key.split('_').nth(2).unwrap();
    assert!(!kept.contains(secret), "{kept}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_is_made_in_the_database() {
    let (database, hub, _) = hub().await;
    let run = async |arguments: &[&str]| {
        let mut command = trex(&[&["keys"], arguments].concat());
        let output = command.env("DATABASE_URL", database.url()).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let key = run(&["create", "operator", "--expires", "1day", "--database"]).await;
    until_taken(&hub, key.trim()).await;
    let admin = format!("http://{}", hub.app().addresses().admin);
    let mut command = trex(&["keys", "list", "--output", "json", "--server", &admin]);
    let output = command.env("TREX_TOKEN", key.trim()).output().await.unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains("\"name\":\"operator\"") && !listed.contains(key.trim()), "{listed}");
    let id = key.split('_').nth(1).unwrap();
    assert_eq!(run(&["revoke", id, "--database"]).await, format!("revoked {id}\n"));
    assert_eq!(run(&["list", "--database"]).await.lines().count(), 1);
    hub.stop().await;
}
