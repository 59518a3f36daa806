//! `grpc-timeout` and the hub's own limit are kept, and a call that is cut off holds up nobody else.

use crate::support::{
    Database, PATIENCE, TestHub,
    wire::{client_without_clock, reason},
};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Request};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{GetDinosaurRequest, UpdateDinosaurRequest, WatchDinosaursRequest},
    store::Driven,
};

const SOON: Duration = Duration::from_millis(200);

/// A hub with one connection for calls, and a row `a` that a session holds locked.
async fn locked(call_timeout: Duration) -> (TestHub, Driven) {
    let database = Database::create().await;
    let settings = Settings { db_pool_size: 1, call_timeout, ..Settings::new(database.target()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    let insert = "INSERT INTO dinosaurs (id, species) VALUES ('a', 'locked'), ('b', 'free')";
    session.batch_execute(insert).await.unwrap();
    session.batch_execute("BEGIN; SELECT FROM dinosaurs WHERE id = 'a' FOR UPDATE").await.unwrap();
    (hub, session)
}

fn update() -> UpdateDinosaurRequest {
    UpdateDinosaurRequest { id: "a".into(), species: Some("too late".into()) }
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

#[tokio::test]
async fn a_watch_ends_with_its_deadline() {
    let hub = TestHub::start(&Database::create().await).await;
    let mut client = client_without_clock(&hub).await;
    let request = within(SOON, WatchDinosaursRequest::default());
    let mut watch = client.watch_dinosaurs(request).await.unwrap().into_inner();
    let status = timeout(*PATIENCE, watch.message()).await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    hub.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_for_a_lock_ends_with_its_deadline_and_changes_nothing() {
    let (hub, session) = locked(*PATIENCE).await;
    let mut client = client_without_clock(&hub).await;
    let status =
        timeout(*PATIENCE, client.update_dinosaur(within(SOON, update()))).await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    // The only connection is free again while the lock is still held.
    let free = GetDinosaurRequest { id: "b".into() };
    let free = timeout(Duration::from_secs(10), client.get_dinosaur(free)).await.expect("a free connection");
    assert_eq!(free.unwrap().into_inner().species, "free");
    session.batch_execute("COMMIT").await.unwrap();
    let row =
        session.query_one("SELECT species FROM dinosaurs WHERE id = 'a' FOR UPDATE", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "locked");
    hub.stop().await;
}

#[tokio::test]
async fn the_hub_limits_a_call_without_a_deadline() {
    let (hub, session) = locked(SOON).await;
    let mut client = client_without_clock(&hub).await;
    let status = timeout(*PATIENCE, client.update_dinosaur(update())).await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    let counted = r#"method="/rh_trex.v1.DinosaurService/UpdateDinosaur",code="DeadlineExceeded""#;
    let counted = [counted, r#"code="DeadlineExceeded",method="/rh_trex.v1.DinosaurService/UpdateDinosaur""#]
        .iter()
        .map(|labels| hub.metric("grpc_requests_total", labels))
        .sum::<f64>();
    assert_eq!(counted, 1.0);
    drop(session);
    hub.stop().await;
}
