//! A hub whose every connection to its database is encrypted.

use super::{Relay, relay::SSL_REQUEST, secured, until};
use crate::support::{Database, PATIENCE, TestHub, wire::client_without_clock};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Request};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{EventType, UpdateDinosaurRequest, WatchDinosaursRequest},
    store::Target,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_needs_nothing_in_plain_text() {
    let server = secured().await;
    let database = Database::create_on(&server.cluster).await;
    let session = database.connect().await;
    let name: String = session.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let relay = Relay::before(format!("{}:5432", server.address)).await;
    let url = format!(
        "postgresql://scram:secret@db.test:{}/{name}?hostaddr=127.0.0.1&channel_binding=require&{}",
        relay.port,
        server.strict()
    );
    let settings = Settings { db_pool_size: 1, ..Settings::new(Target::parse(&url).unwrap()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let mut watch = hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner();
    let insert = "INSERT INTO dinosaurs (id, species) VALUES ('a', 'Tyrannosaurus')";
    session.batch_execute(insert).await.unwrap();
    let event = loop {
        let event = timeout(*PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
        if event.r#type() != EventType::Bookmark {
            break event;
        }
    };
    assert_eq!(event.dinosaur.unwrap().species, "Tyrannosaurus");
    // Bells come by LISTEN.
    let listening = "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_ssl USING (pid)
                     WHERE datname = current_database() AND application_name = 'trex' AND NOT ssl
                       AND pid <> pg_backend_pid()";
    assert_eq!(session.query_one(listening, &[]).await.unwrap().get::<_, i64>(0), 0);

    // A call whose time is up: its statement is cancelled, by a request of its own, which is encrypted too.
    session.batch_execute("BEGIN; SELECT FROM dinosaurs WHERE id = 'a' FOR UPDATE").await.unwrap();
    let before = relay.beginnings().len();
    let mut update = Request::new(UpdateDinosaurRequest { id: "a".into(), species: Some("late".into()) });
    update.set_timeout(Duration::from_millis(200));
    let mut client = client_without_clock(&hub).await;
    let status = timeout(*PATIENCE, client.update_dinosaur(update)).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    until("the request to cancel", || relay.beginnings().len() > before).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock'";
    let deadline = std::time::Instant::now() + *PATIENCE;
    while session.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(std::time::Instant::now() < deadline, "the statement is cancelled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    session.batch_execute("COMMIT").await.unwrap();
    assert!(relay.beginnings().iter().all(|first| *first == SSL_REQUEST), "{:?}", relay.beginnings());
    hub.stop().await;
}
