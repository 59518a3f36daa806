//! Tokens: which are taken, which are not, and that nobody is let in without one.

use super::{ISSUER, Issuer, admin_link, call, dinosaurs, link, methods, now, reason, token};
use crate::{
    http::wire::Connection,
    support::{Database, TestHub, until},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tonic::{Code, Request};
use trex::{
    faces::Registry,
    proto::{
        hub::v1::{
            ListSubscriptionsRequest, ReadEventsRequest, admin_service_client::AdminServiceClient,
            event_service_client::EventServiceClient,
        },
        rh_trex::v1::{CreateDinosaurRequest, ListDinosaursRequest, WatchDinosaursRequest},
    },
};

async fn hub(issuer: &Issuer) -> (Database, TestHub) {
    let database = Database::create().await;
    let hub = TestHub::start_with(issuer.settings(&database), Registry::of_this_program()).await;
    (database, hub)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_calls_any_method_without_a_credential() {
    let issuer = Issuer::new();
    let (_database, hub) = hub(&issuer).await;
    for path in methods() {
        for link in [link(&hub, None).await, admin_link(&hub, None).await] {
            let refused = call(link, &path).await.unwrap_err();
            let (code, reason) = (refused.code(), reason(&refused));
            assert_eq!((code, &*reason), (Code::Unauthenticated, "UNAUTHENTICATED"), "{path}");
            assert!(refused.message().contains("authorization: Bearer"), "{refused}");
        }
    }
    for path in ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/no.such/Method"] {
        assert_eq!(
            call(link(&hub, None).await, path).await.unwrap_err().code(),
            Code::Unauthenticated,
            "{path}"
        );
    }
    // Whoever looks after the process has no credential.
    assert!(call(link(&hub, None).await, "/grpc.health.v1.Health/Check").await.is_ok());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_asks_as_grpc_does() {
    let issuer = Issuer::new();
    let (_database, hub) = hub(&issuer).await;
    let mut client = Connection::open(&hub).await;
    for path in ["/api/rh-trex/v1/dinosaurs", "/api/rh-trex/v1/openapi", "/nothing"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert!(answer.text().contains("authorization: Bearer"), "{}", answer.text());
    }
    let header = format!("authorization: Bearer {}\r\n", token("alice", json!({})));
    let answer = client.ask("GET", "/api/rh-trex/v1/dinosaurs", &header, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let twice = client.ask("GET", "/api/rh-trex/v1/dinosaurs", &format!("{header}{header}"), "").await;
    assert_eq!(twice.status, 401);
    assert_eq!(client.ask("OPTIONS", "/api/rh-trex/v1/dinosaurs", "", "").await.status, 204);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_calls_or_is_refused() {
    let issuer = Issuer::new();
    let (_database, hub) = hub(&issuer).await;
    let list = async |credential: &str| {
        dinosaurs(&hub, Some(credential)).await.list_dinosaurs(ListDinosaursRequest::default()).await
    };
    let hs256 = {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        let claims = json!({"iss": ISSUER, "aud": "trex", "sub": "alice", "exp": now() + 60});
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(super::X.as_bytes())).unwrap()
    };
    let good = token("alice", json!({}));
    let none = {
        let (_, rest) = good.split_once('.').unwrap();
        let (payload, _) = rest.split_once('.').unwrap();
        format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"one"}"#))
    };
    for (what, credential, expected) in [
        ("expired", token("alice", json!({"exp": now() - 5})), "TOKEN_EXPIRED"),
        ("another audience", token("alice", json!({"aud": "other"})), "CREDENTIAL_INVALID"),
        ("another issuer", token("alice", json!({"iss": "https://evil.example"})), "CREDENTIAL_INVALID"),
        ("an ID token", token("alice", json!({"typ": "ID"})), "CREDENTIAL_INVALID"),
        ("a time that is no number", token("alice", json!({"exp": "4000000000"})), "CREDENTIAL_INVALID"),
        ("a subject that is too long", token(&"x".repeat(2000), json!({})), "CREDENTIAL_INVALID"),
        ("no algorithm", none, "CREDENTIAL_INVALID"),
        ("signed with the public key", hs256, "CREDENTIAL_INVALID"),
        ("nonsense", "nonsense".to_owned(), "CREDENTIAL_INVALID"),
    ] {
        let refused = list(&credential).await.unwrap_err();
        assert_eq!(
            (refused.code(), &*reason(&refused)),
            (Code::Unauthenticated, expected),
            "{what}: {refused}"
        );
        assert!(!refused.message().contains(&credential), "{what}");
    }
    assert!(list(&good).await.is_ok());

    // Who it is stands with what it does, and what it says of itself beside its token does not.
    let mut alice = dinosaurs(&hub, Some(&token("al#ice", json!({})))).await;
    let mut request = Request::new(CreateDinosaurRequest { species: "Tyrannosaurus".into() });
    request.metadata_mut().insert("trex-actor", "mallory".parse().unwrap());
    let _open = alice.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap();
    alice.create_dinosaur(request).await.unwrap();
    let mut events = EventServiceClient::new(link(&hub, Some(&good)).await);
    let mut read = events.read_events(ReadEventsRequest::default()).await.unwrap().into_inner();
    let batch = read.message().await.unwrap().unwrap();
    assert_eq!(batch.events[0].actor, format!("{ISSUER}#al%23ice"));
    let mut admin = AdminServiceClient::new(admin_link(&hub, Some(&good)).await);
    let open = admin.list_subscriptions(ListSubscriptionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(open.subscriptions[0].principal, format!("{ISSUER}#al%23ice"));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_whether_a_hub_is_ready_is_not_told_why_not() {
    for (asks, said) in [(true, "not ready\n"), (false, "dinosaurs")] {
        let (database, issuer) = (Database::create().await, Issuer::new());
        let mut settings = issuer.settings(&database);
        settings.capture.inspect = std::time::Duration::from_millis(20);
        if !asks {
            settings.authentication = Default::default();
        }
        let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
        let sql = "ALTER TABLE dinosaurs DISABLE TRIGGER \"!trex_insert\"";
        database.connect().await.batch_execute(sql).await.unwrap();
        until("a fault is seen", || !hub.app().health().reasons().is_empty()).await;
        let answer = Connection::to(&hub.app().addresses().health).await.get("/readyz").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains(said) && (answer.text() == said || !asks), "{}", answer.text());
        hub.stop().await;
    }
}
