//! Calls that come early: before the hub has seen its database, or before its audit trail has begun.

use crate::support::{
    Database, PATIENCE, TestHub, until,
    wire::{client_without_clock, reason},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{Code, Request};
use trex::{
    app::Settings,
    controller::{AuditTrail, Controllers},
    faces::Registry,
    health::Notice,
    proto::{
        hub::v1::{
            ListAuditRecordsRequest, WatchAuditRecordsRequest, audit_service_client::AuditServiceClient,
        },
        rh_trex::v1::{CreateDinosaurRequest, ListDinosaursRequest, WatchDinosaursRequest},
    },
    store::Driven,
};

const SOON: Duration = Duration::from_millis(200);

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A hub that cannot see its database while the session's transaction is open.
async fn blind(database: &Database) -> (TestHub, Driven) {
    TestHub::start(database).await.stop().await;
    let session = database.connect().await;
    session.batch_execute("BEGIN; LOCK TABLE hub.head IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let settings = Settings { migrate: false, ..Settings::new(database.target()) };
    (TestHub::launch(settings, Registry::of_this_program()).await, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_the_hub_to_see_its_database() {
    let database = Database::create().await;
    let (hub, session) = blind(&database).await;
    let (mut lister, mut watcher) = (hub.client().await, hub.client().await);
    let list = tokio::spawn(async move { lister.list_dinosaurs(ListDinosaursRequest::default()).await });
    let watch = tokio::spawn(async move { watcher.watch_dinosaurs(WatchDinosaursRequest::default()).await });
    // While these wait, a call that waits for less is told so.
    let mut client = client_without_clock(&hub).await;
    let status = client.list_dinosaurs(within(SOON, ListDinosaursRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(!list.is_finished() && !watch.is_finished());
    session.batch_execute("COMMIT").await.unwrap();
    timeout(*PATIENCE, list).await.unwrap().unwrap().unwrap();
    let mut watch = timeout(*PATIENCE, watch).await.unwrap().unwrap().unwrap().into_inner();
    client.create_dinosaur(CreateDinosaurRequest { species: "s".into() }).await.unwrap();
    let event = timeout(*PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.revision, 1);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_told_of_the_drain() {
    let (hub, _session) = blind(&Database::create().await).await;
    let mut watcher = hub.client().await;
    let requests = || hub.metric("grpc_requests_total", "ListDinosaurs");
    let watch = tokio::spawn(async move { watcher.watch_dinosaurs(WatchDinosaursRequest::default()).await });
    let mut client = client_without_clock(&hub).await;
    client.list_dinosaurs(within(SOON, ListDinosaursRequest::default())).await.unwrap_err();
    until("the list has been counted", || requests() == 1.0).await;
    assert!(!watch.is_finished());
    hub.stop().await;
    let status = timeout(*PATIENCE, watch).await.unwrap().unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_that_this_hub_keeps_is_waited_for() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    // The trail cannot begin while this is open, and can be asked for.
    let session = database.connect().await;
    session.batch_execute("BEGIN; LOCK TABLE hub.controller IN SHARE MODE").await.unwrap();
    let trail = Arc::new(AuditTrail::new(Duration::from_secs(3600)));
    let settings =
        Settings { controllers: Controllers::new(vec![trail]), ..Settings::new(database.target()) };
    let hub = TestHub::start_with(Settings { migrate: false, ..settings }, Registry::of_this_program()).await;
    let (mut follower, mut lister) =
        (AuditServiceClient::new(hub.channel().await), AuditServiceClient::new(hub.channel().await));
    let request = within(SOON, ListAuditRecordsRequest::default());
    let status = lister.list_audit_records(request).await.unwrap_err();
    assert_ne!(status.code(), Code::Unimplemented, "{status:?}");
    let following = WatchAuditRecordsRequest { after_revision: Some(0), ..Default::default() };
    let follow = tokio::spawn(async move { follower.watch_audit_records(following).await });
    tokio::task::yield_now().await;
    session.batch_execute("COMMIT").await.unwrap();
    let mut records = timeout(*PATIENCE, follow).await.unwrap().unwrap().unwrap().into_inner();
    lister.list_audit_records(ListAuditRecordsRequest::default()).await.unwrap();
    hub.client().await.create_dinosaur(CreateDinosaurRequest { species: "s".into() }).await.unwrap();
    while timeout(*PATIENCE, records.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .record
        .unwrap()
        .kind
        .is_empty()
    {}
    hub.stop().await;
}

/// On one thread: nothing of the hub has run by the time that the test listens.
#[tokio::test]
async fn a_hub_is_not_ready_before_its_triggers_were_looked_at() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    database.connect().await.batch_execute("ALTER TABLE dinosaurs DISABLE TRIGGER ALL").await.unwrap();
    let settings = Settings { migrate: false, ..Settings::new(database.target()) };
    let hub = TestHub::launch(settings, Registry::of_this_program()).await;
    let (health, mut notices) = (hub.app().health(), hub.app().health().notices());
    let waits = ["the database is not in sight", "the triggers have not been looked at yet"];
    let knows = || health.reasons().iter().any(|reason| !waits.contains(&reason.as_str()));
    until("the faults are known", knows).await;
    until("the database is in sight", || !health.reasons().contains(&waits[0].to_owned())).await;
    assert_ne!(notices.try_recv().ok(), Some(Notice::Serving));
    hub.stop().await;
}
