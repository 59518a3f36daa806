//! The hub as a whole, and its database.

use super::{list, span};
use crate::support::{Database, TestHub, until, until_ok, until_true, wire::RawWatch};
use std::{sync::Arc, time::Duration};
use tonic::Code;
use trex::{
    app::Settings,
    controller::{AuditTrail, Controllers},
    embedded::testing::EphemeralPostgres,
    faces::Registry,
    feed::Wakeups,
    proto::{
        hub::v1::{
            DatabaseStatus, DoorbellState, GetStatusRequest, GetStatusResponse, ListSubscriptionsRequest,
            SubscriptionState, admin_service_client::AdminServiceClient,
        },
        rh_trex::v1::WatchDinosaursRequest,
    },
};

async fn status(hub: &TestHub) -> GetStatusResponse {
    hub.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

async fn database_of(hub: &TestHub) -> DatabaseStatus {
    status(hub).await.database.expect("an answer of the database")
}

#[tokio::test]
async fn a_hub_says_how_it_is() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    let _watch = RawWatch::start(&hub, &WatchDinosaursRequest::default()).await;
    session
        .batch_execute("INSERT INTO dinosaurs (species) SELECT 's' FROM generate_series(1, 10)")
        .await
        .unwrap();
    until("it is published", || hub.metric("hub_head_revision", "") == 10.0).await;
    let status = status(&hub).await;
    assert_eq!(
        (status.version.as_str(), status.ready, &status.reasons[..]),
        (env!("CARGO_PKG_VERSION"), true, &[][..])
    );
    assert!(span(status.uptime) < Duration::from_secs(600));
    assert_eq!(status.epoch, hub.app().broker().era().unwrap().epoch.as_str());
    assert_eq!((status.head_revision, status.oldest_revision), (10, 0));
    let [kind] = &status.kinds[..] else { panic!("{status:?}") };
    assert_eq!((kind.kind.as_str(), kind.subscriptions, kind.head_revision), ("Dinosaur", 1, 10));
    assert_eq!(kind.window_events, hub.metric("hub_log_window_events", "") as u64);
    assert_eq!(kind.window_bytes, hub.metric("hub_log_window_bytes", "") as u64);
    let doorbell = status.doorbell.unwrap();
    assert_eq!(doorbell.rings, hub.metric("hub_doorbell_rings_total", "") as u64);
    assert_eq!(doorbell.sealed_events, 10);
    let database = status.database.unwrap();
    assert_eq!((database.sealed_revision, database.compacted_revision), (10, 0));
    until_true("nothing happens", async || {
        self::status(&hub).await.doorbell.unwrap().state() == DoorbellState::Armed
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn the_oldest_resumable_revision_is_where_a_watch_can_begin() {
    let (database, hub) = super::hub_with(1_000, super::SMALL).await;
    let store = trex::store::Store::new(&database.target(), 1).unwrap();
    store.raise_floor(Duration::ZERO, u64::MAX, 100).await.unwrap();
    super::insert(&database, &hub, "more", 10).await;
    // A page that is read tells the hub; so would its own compactor.
    let refused = WatchDinosaursRequest { after_revision: Some(0), ..Default::default() };
    let mut stream = hub.client().await.watch_dinosaurs(refused).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::OutOfRange);
    let status = status(&hub).await;
    assert_eq!(status.database.unwrap().compacted_revision, 1_000);
    let oldest = status.oldest_revision;
    assert!(oldest > 0 && oldest <= 1_000, "{oldest}: its memory reaches further back than the history");
    let mut client = hub.client().await;
    let mut after = async |revision| {
        let request = WatchDinosaursRequest { after_revision: Some(revision), ..Default::default() };
        client.watch_dinosaurs(request).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!((after(oldest).await, after(oldest - 1).await), (Ok(()), Err(Code::OutOfRange)));
    hub.stop().await;
}

#[tokio::test]
async fn hubs_that_listen_are_counted() {
    let database = Database::create().await;
    let first = TestHub::start(&database).await;
    assert_eq!(database_of(&first).await.listening_hubs, 1);
    let second = TestHub::start(&database).await;
    let mut settings = Settings::new(database.target());
    settings.capture.wakeups = Wakeups::Poll;
    let polling = TestHub::start_with(settings, Registry::of_this_program()).await;
    // A hub is ready once it seals; it may listen a moment later.
    until_true("two listen, and the polling hub does not announce itself", async || {
        database_of(&polling).await.listening_hubs == 2
    })
    .await;
    assert_eq!(status(&polling).await.doorbell.unwrap().state(), DoorbellState::Polling);
    // Another database of the same server has its own hubs.
    let elsewhere = TestHub::start(&Database::create().await).await;
    assert_eq!(database_of(&first).await.listening_hubs, 2);
    for hub in [elsewhere, second, polling, first] {
        hub.stop().await;
    }
}

#[tokio::test]
async fn the_transaction_that_holds_changes_back_is_named() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let (reader, trimmer) = (database.connect().await, database.connect().await);
    reader.batch_execute("BEGIN; SELECT * FROM dinosaurs; SELECT * FROM hub.change").await.unwrap();
    // It deletes from hub.change without having captured anything.
    let trim = "BEGIN; SELECT pg_current_xact_id(); SELECT hub.delete_below_floor(1);
                DELETE FROM hub.change WHERE false";
    trimmer.batch_execute(trim).await.unwrap();
    assert_eq!((database_of(&hub).await.open_writers, database_of(&hub).await.oldest_writer), (0, None));
    let (first, second) = (database.connect().await, database.connect().await);
    first
        .batch_execute(
            "SET application_name = 'night job'; BEGIN; INSERT INTO dinosaurs (species) VALUES ('held')",
        )
        .await
        .unwrap();
    second.batch_execute("BEGIN; INSERT INTO dinosaurs (species) VALUES ('held too')").await.unwrap();
    let found = database_of(&hub).await;
    let oldest = found.oldest_writer.expect("one");
    let row = first.query_one("SELECT pg_backend_pid(), current_user::text", &[]).await.unwrap();
    assert_eq!((found.open_writers, oldest.pid), (2, row.get::<_, i32>(0)));
    assert_eq!(
        (oldest.state.as_str(), oldest.application_name.as_str()),
        ("idle in transaction", "night job")
    );
    assert_eq!(oldest.user, row.get::<_, String>(1));
    assert!(span(oldest.age) < *crate::support::PATIENCE);
    first.batch_execute("COMMIT").await.unwrap();
    assert_eq!(database_of(&hub).await.open_writers, 1);
    second.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(database_of(&hub).await.oldest_writer, None);
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_whose_database_is_away_says_what_it_knows() {
    let cluster = EphemeralPostgres::start(vec![]).await.unwrap();
    let database = Database::create_on(&cluster).await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 64 << 10;
    settings.limits.blocked_after = Duration::from_millis(50);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    super::insert(&database, &hub, "d", 2_000).await;
    cluster.halt().await.unwrap();
    until("it has noticed", || !hub.app().health().reasons().is_empty()).await;
    let request = WatchDinosaursRequest { after_revision: Some(0), ..Default::default() };
    let _watch = RawWatch::start(&hub, &request).await;
    let mut client: AdminServiceClient<_> = hub.admin().await;
    let away = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((away.ready, &away.reasons[..]), (false, &["the database is not in sight".to_owned()][..]));
    assert_eq!((away.head_revision, &away.database), (2_000, &None));
    assert_eq!(away.doorbell.unwrap().state(), DoorbellState::Away);
    assert_eq!(away.kinds[0].subscriptions, 1);
    // It waits for the hub, not the hub for it.
    tokio::time::sleep(Duration::from_millis(60)).await;
    let listed = list(&hub, ListSubscriptionsRequest::default()).await;
    let open = &listed.subscriptions[0];
    assert_eq!((open.state(), open.lag_events, open.lag), (SubscriptionState::History, 2_000, None));
    cluster.restart().await.unwrap();
    until("it is back", || hub.app().health().reasons().is_empty()).await;
    hub.stop().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn controllers_are_shown_with_their_lag() {
    let database = Database::create().await;
    let plain = TestHub::start(&database).await;
    assert_eq!(database_of(&plain).await.controllers, [], "none ever ran");
    let mut settings = Settings::new(database.target());
    settings.controllers = Controllers::new(vec![Arc::new(AuditTrail::new(Duration::from_secs(3600)))]);
    let auditing = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    let insert = "INSERT INTO dinosaurs (species) SELECT 's' FROM generate_series(1, 10)";
    session.batch_execute(insert).await.unwrap();
    let audit = until_ok("the trail is complete", async || {
        // Any hub knows.
        let controllers = database_of(&plain).await.controllers;
        match &controllers[..] {
            [audit] if audit.revision == 10 => Ok(audit.clone()),
            _ => Err(controllers),
        }
    })
    .await;
    assert_eq!((audit.lag_events, audit.dead_letters), (0, 0));
    assert!(!audit.holder.is_empty() && audit.moved_at.is_some(), "{audit:?}");
    auditing.stop().await;
    session.batch_execute(insert).await.unwrap();
    until("it is sealed", || plain.metric("hub_head_revision", "") == 20.0).await;
    let controllers = database_of(&plain).await.controllers;
    assert_eq!((controllers[0].revision, controllers[0].lag_events), (10, 10), "nobody runs it");
    plain.stop().await;
}
