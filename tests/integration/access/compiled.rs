//! A policy on a kind of the program, over gRPC and over HTTP, and every method for who has no grant.

use super::{Issuer, admin_link, call, dinosaurs, link, methods, token};
use crate::{
    http::wire::Connection,
    support::{Database, PATIENCE, TestHub, until_ok},
};
use serde_json::json;
use std::fs;
use tokio::time::timeout;
use tonic::Code;
use trex::{
    faces::Registry,
    proto::rh_trex::v1::{
        CreateDinosaurRequest, DeleteDinosaurRequest, Dinosaur, DinosaurWatchEvent, EventType,
        GetDinosaurRequest, ImportDinosaursRequest, ListDinosaursRequest, UpdateDinosaurRequest,
        WatchDinosaursRequest,
    },
};

/// Everybody sees the dinosaurs of their own name.
const POLICY: &str = r#"
[[rule]]
name = "own"
when = { role = "user" }
kinds = ["Dinosaur"]
verbs = ["get", "list", "watch", "create", "update", "delete", "import", "read_events", "audit"]
rows = "species = $sub"
"#;

async fn hub() -> (Database, Issuer, TestHub) {
    let (database, issuer) = (Database::create().await, Issuer::new());
    fs::write(issuer.file("acl.toml"), POLICY).unwrap();
    let mut settings = issuer.settings(&database);
    settings.authentication.policy = Some(issuer.file("acl.toml"));
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let bob = dinosaurs(&hub, Some(&user("bob"))).await;
    until_ok("bob may list", async || bob.clone().list_dinosaurs(ListDinosaursRequest::default()).await)
        .await;
    (database, issuer, hub)
}

fn user(name: &str) -> String {
    token(name, json!({"role": "user"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_grant_may_call_nothing() {
    let (_database, _issuer, hub) = hub().await;
    let carol = token("carol", json!({}));
    for path in methods() {
        for (link, is_admin) in
            [(link(&hub, Some(&carol)).await, false), (admin_link(&hub, Some(&carol)).await, true)]
        {
            let answer = call(link, &path).await;
            if path == "/hub.v1.TableService/ListTables" && !is_admin {
                assert!(answer.is_ok(), "an empty list: {answer:?}");
                continue;
            }
            let refused = answer.unwrap_err();
            // What a request lacks is said first; nothing was asked of the database for that.
            let expected = [Code::PermissionDenied, Code::InvalidArgument, Code::Unimplemented];
            assert!(expected.contains(&refused.code()), "{path}: {refused}");
        }
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_the_program_is_guarded_on_every_face() {
    let (database, _issuer, hub) = hub().await;
    let session = database.connect().await;
    session.batch_execute("INSERT INTO dinosaurs VALUES ('a', 'alice'), ('b', 'bob')").await.unwrap();
    let mut bob = dinosaurs(&hub, Some(&user("bob"))).await;
    let listed = bob.list_dinosaurs(ListDinosaursRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.items.len(), listed.metadata.unwrap().total), (1, 1));
    let id = |id: &str| id.to_owned();
    assert_eq!(
        bob.get_dinosaur(GetDinosaurRequest { id: id("a") }).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(bob.get_dinosaur(GetDinosaurRequest { id: id("b") }).await.unwrap().get_ref().species, "bob");
    let update =
        |of: &str, species: &str| UpdateDinosaurRequest { id: id(of), species: Some(species.into()) };
    assert_eq!(bob.update_dinosaur(update("a", "bob")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(bob.update_dinosaur(update("b", "alice")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(bob.update_dinosaur(update("b", "bob")).await.unwrap().get_ref().species, "bob");
    let create = |species: &str| CreateDinosaurRequest { species: species.into() };
    assert_eq!(bob.create_dinosaur(create("alice")).await.unwrap_err().code(), Code::PermissionDenied);
    let gone = bob.delete_dinosaur(DeleteDinosaurRequest { id: id("a") }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let made = bob.create_dinosaur(create("bob")).await.unwrap().into_inner();
    bob.delete_dinosaur(DeleteDinosaurRequest { id: made.metadata.unwrap().id }).await.unwrap();
    // An import shows of rows what the database says of them.
    let items = tokio_stream::iter([create("bob").into()]);
    assert_eq!(bob.bulk_create_dinosaurs(items).await.unwrap_err().code(), Code::PermissionDenied);
    let start = tokio_stream::iter([ImportDinosaursRequest::default().into()]);
    let refused = match bob.import_dinosaurs(start).await {
        Ok(mut stream) => stream.get_mut().message().await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut http = Connection::open(&hub).await;
    let header = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", user("bob"));
    const ALL: &str = "/api/rh-trex/v1/dinosaurs";
    let list = http.ask("GET", ALL, &header, "").await.json();
    assert_eq!((&list["total"], &list["items"][0]["species"]), (&json!(1), &json!("bob")));
    assert_eq!(http.ask("GET", &format!("{ALL}/a"), &header, "").await.status, 404);
    assert_eq!(http.ask("DELETE", &format!("{ALL}/a"), &header, "").await.status, 404);
    assert_eq!(http.ask("POST", ALL, &header, r#"{"species":"alice"}"#).await.status, 403);
    assert_eq!(http.ask("PATCH", &format!("{ALL}/b"), &header, r#"{"species":"alice"}"#).await.status, 403);

    let request = WatchDinosaursRequest {
        after_revision: Some(0),
        include_previous: true,
        ..WatchDinosaursRequest::default()
    };
    let mut watch = bob.watch_dinosaurs(request).await.unwrap().into_inner();
    session.batch_execute("UPDATE dinosaurs SET species = 'bob' WHERE id = 'a'").await.unwrap();
    let mut entered: Option<DinosaurWatchEvent> = None;
    while entered.is_none() {
        let event = timeout(*PATIENCE, watch.message()).await.expect("an event").unwrap().unwrap();
        let is_bobs = |row: &Option<Dinosaur>| row.as_ref().is_none_or(|row| row.species == "bob");
        assert!(is_bobs(&event.dinosaur) && is_bobs(&event.previous), "{event:?}");
        if event.resource_id == "a" {
            entered = Some(event);
        }
    }
    let entered = entered.unwrap();
    assert_eq!((entered.r#type(), entered.previous), (EventType::Created, None));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_its_owners_and_nobody_goes_on_with_it() {
    let (database, issuer) = (Database::create().await, Issuer::new());
    let hub = TestHub::start_with(issuer.settings(&database), Registry::of_this_program()).await;
    let bulk = async |who: &str| {
        let items = ["x", ""].map(|species| CreateDinosaurRequest { species: species.into() }.into());
        let mut request = tonic::Request::new(tokio_stream::iter(items));
        request.metadata_mut().insert("import-id", "mine".parse().unwrap());
        dinosaurs(&hub, Some(&user(who))).await.bulk_create_dinosaurs(request).await.unwrap().into_inner()
    };
    for (who, rows) in [("ann", 1), ("ann", 1), ("bob", 2)] {
        let done = bulk(who).await;
        assert_eq!((done.created, done.failed), (1, 1), "{who}");
        let session = database.connect().await;
        let count: i64 = session.query_one("SELECT count(*) FROM dinosaurs", &[]).await.unwrap().get(0);
        assert_eq!(count, rows, "{who}");
    }
    hub.stop().await;
}
