//! What the operator sees agrees with what the clients saw, and with the metrics.

mod status;
mod stopped;

use crate::support::{
    Database, NARROW, TestHub, until, until_ok, until_true,
    wire::{RawWatch, reason, violations},
};
use std::time::Duration;
use tonic::Code;
use trex::{
    app::Settings,
    faces::Registry,
    proto::{
        hub::v1::{ListSubscriptionsRequest, ListSubscriptionsResponse, Subscription, SubscriptionState},
        rh_trex::v1::{BackpressurePolicy, EventType, WatchDinosaursRequest},
    },
};

async fn list(hub: &TestHub, request: ListSubscriptionsRequest) -> ListSubscriptionsResponse {
    let mut admin = hub.admin().await.max_decoding_message_size(64 << 20);
    admin.list_subscriptions(request).await.unwrap().into_inner()
}

/// The only subscription.
async fn the_one(hub: &TestHub) -> Subscription {
    let mut listed = list(hub, ListSubscriptionsRequest::default()).await;
    assert_eq!((listed.total_size, listed.subscriptions.len()), (1, 1));
    listed.subscriptions.remove(0)
}

/// The only subscription, as soon as it is in a state.
async fn once(hub: &TestHub, state: SubscriptionState) -> Subscription {
    until_ok(format!("{state:?}"), async || {
        let open = the_one(hub).await;
        if open.state() == state { Ok(open) } else { Err(open) }
    })
    .await
}

fn span(wire: Option<prost_types::Duration>) -> Duration {
    wire.expect("a duration").try_into().expect("not negative")
}

/// A window that a flood passes, and one that it does not.
const SMALL: usize = 64 << 10;
const LARGE: usize = 64 << 20;

/// A hub with a window of this many bytes, and dinosaurs in its log.
async fn hub_with(rows: u64, window: usize) -> (Database, TestHub) {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = window;
    settings.limits.blocked_after = Duration::from_millis(100);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    insert(&database, &hub, "d", rows).await;
    (database, hub)
}

async fn insert(database: &Database, hub: &TestHub, prefix: &str, rows: u64) {
    let head = hub.metric("hub_head_revision", "") as u64;
    let sql = format!(
        "INSERT INTO dinosaurs (id, species) SELECT '{prefix}' || n, 's' FROM generate_series(1, {rows}) n"
    );
    database.connect().await.batch_execute(&sql).await.unwrap();
    until("it is published", || hub.metric("hub_head_revision", "") as u64 >= head + rows).await;
}

/// More events than a connection that takes nothing can hold.
const MANY: u64 = 4 * NARROW as u64 / 100;

#[tokio::test]
async fn a_subscription_is_shown_as_it_was_asked_for() {
    let (_database, hub) = hub_with(10, LARGE).await;
    let request = WatchDinosaursRequest {
        types: vec![EventType::Created.into(), EventType::Deleted.into()],
        resource_ids: vec!["d1".into(), "d2".into(), "other".into()],
        backpressure: BackpressurePolicy::Disconnect.into(),
        include_previous: true,
        buffer: 77,
        after_revision: Some(0),
        ..Default::default()
    };
    let mut watch = RawWatch::start(&hub, &request).await;
    for id in ["d1", "d2"] {
        assert_eq!(watch.event().await.unwrap().resource_id, id);
    }
    let open = once(&hub, SubscriptionState::Live).await;
    assert_eq!(open.id, watch.headers["x-operation-id"].to_str().unwrap());
    assert_eq!((open.peer, open.principal), (watch.address.to_string(), String::new()));
    assert_eq!((open.kind.as_str(), &open.types, open.resource_ids), ("Dinosaur", &request.types, 3));
    assert_eq!((open.filter.as_str(), open.include_previous, open.buffer), ("", true, 77));
    assert_eq!(open.backpressure, request.backpressure);
    assert_eq!((open.revision, open.lag_events, open.lag), (10, 0, None), "what it does not want is passed");
    assert_eq!((open.sent, open.dropped, open.blocked_for), (2, 0, None));
    drop(watch);
    until("it is gone", || hub.metric("grpc_stream_subscribers_active", "") == 0.0).await;
    assert_eq!(list(&hub, ListSubscriptionsRequest::default()).await, ListSubscriptionsResponse::default());
    hub.stop().await;
}

#[tokio::test]
async fn a_principal_is_shown_where_a_proxy_is_believed() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.trusted_actor = Some(http::HeaderName::from_static("trex-actor"));
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut request = tonic::Request::new(WatchDinosaursRequest::default());
    request.metadata_mut().insert("trex-actor", "alice".parse().unwrap());
    let watch = hub.client().await.watch_dinosaurs(request).await.unwrap();
    assert_eq!(the_one(&hub).await.principal, "alice");
    drop(watch);
    hub.stop().await;
}

#[tokio::test]
async fn a_state_is_sent_before_it_is_live() {
    let (database, hub) = hub_with(MANY, SMALL).await;
    let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let mut watch = RawWatch::start(&hub, &request).await;
    insert(&database, &hub, "later", 10).await;
    let open = the_one(&hub).await;
    assert_eq!((open.state(), open.revision, open.lag_events), (SubscriptionState::Initial, MANY, 10));
    assert_eq!((open.sent, open.dropped), (0, 0));
    for _ in 0..MANY + 1 + 10 {
        watch.event().await.unwrap();
    }
    let open = once(&hub, SubscriptionState::Live).await;
    assert_eq!((open.revision, open.lag_events, open.sent), (MANY + 10, 0, 10));
    hub.stop().await;
}

#[tokio::test]
async fn a_reader_of_history_that_takes_nothing_is_blocked_and_dated_by_the_database() {
    let (_database, hub) = hub_with(MANY, SMALL).await;
    let request = WatchDinosaursRequest { after_revision: Some(0), ..Default::default() };
    let mut watch = RawWatch::start(&hub, &request).await;
    watch.event().await.unwrap();
    let open = once(&hub, SubscriptionState::Blocked).await;
    assert!(span(open.blocked_for) >= Duration::from_millis(100), "{open:?}");
    assert_eq!(open.lag_events, MANY - open.revision);
    assert!(span(open.lag) >= span(open.blocked_for), "sealed before it was read: {open:?}");
    assert_eq!(open.sent, open.revision, "it wants them all");
    for _ in 1..MANY {
        watch.event().await.unwrap();
    }
    assert_eq!(once(&hub, SubscriptionState::Live).await.sent, MANY);
    hub.stop().await;
}

#[tokio::test]
async fn a_slow_one_that_asked_to_be_ended_is_ending_until_it_takes_its_end() {
    let (database, hub) = hub_with(1, LARGE).await;
    let request = WatchDinosaursRequest {
        backpressure: BackpressurePolicy::Disconnect.into(),
        buffer: 50,
        ..Default::default()
    };
    let mut watch = RawWatch::start(&hub, &request).await;
    insert(&database, &hub, "flood", MANY).await;
    once(&hub, SubscriptionState::Ending).await;
    let end = loop {
        if let Err(end) = watch.next().await {
            break end;
        }
    };
    assert_eq!(reason(&end), "SLOW_CONSUMER");
    until("it is gone", || hub.metric("grpc_stream_subscribers_active", "") == 0.0).await;
    hub.stop().await;
}

#[tokio::test]
async fn one_of_a_history_that_is_over_is_shown_until_it_has_noticed() {
    let (database, hub) = hub_with(MANY, SMALL).await;
    let request = WatchDinosaursRequest { after_revision: Some(0), ..Default::default() };
    let mut watch = RawWatch::start(&hub, &request).await;
    once(&hub, SubscriptionState::Blocked).await;
    let epoch = hub.app().broker().era().unwrap().epoch.clone();
    trex::store::begin_epoch(&database.target(), trex::store::Doubt::Told).await.unwrap();
    until("a new epoch", || hub.app().broker().era().unwrap().epoch != epoch).await;
    assert_eq!(the_one(&hub).await.state(), SubscriptionState::Ending);
    assert_eq!(hub.metric("grpc_stream_subscribers_active", ""), 1.0, "the metric counts it too");
    while watch.next().await.is_ok() {}
    until("it is gone", || hub.metric("grpc_stream_subscribers_active", "") == 0.0).await;
    assert_eq!(list(&hub, ListSubscriptionsRequest::default()).await.total_size, 0);
    hub.stop().await;
}

#[tokio::test]
async fn a_list_is_narrowed_and_bounded() {
    let (database, hub) = hub_with(1, LARGE).await;
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(RawWatch::start(&hub, &WatchDinosaursRequest::default()).await);
    }
    insert(&database, &hub, "flood", MANY).await;
    for watch in &mut watches[1..] {
        for _ in 0..MANY {
            watch.next().await.unwrap();
        }
    }
    let all = ListSubscriptionsRequest::default;
    let blocked = vec![SubscriptionState::Blocked.into()];
    let narrow = ListSubscriptionsRequest { states: blocked, kind: "Dinosaur".into(), ..all() };
    until_true("one is blocked", async || list(&hub, narrow.clone()).await.total_size == 1).await;
    let slow = watches[0].address.to_string();
    let first = list(&hub, ListSubscriptionsRequest { page_size: 2, ..all() }).await;
    assert_eq!((first.total_size, first.subscriptions.len()), (5, 2));
    assert_eq!(first.subscriptions[0].peer, slow, "the furthest behind first");
    let lagging = list(&hub, ListSubscriptionsRequest { min_lag_events: 1, ..all() }).await;
    assert_eq!((lagging.total_size, lagging.subscriptions[0].peer.as_str()), (1, slow.as_str()));
    let mut admin = hub.admin().await;
    for (wrong, field) in [
        (ListSubscriptionsRequest { kind: "Unicorn".into(), ..all() }, "kind"),
        (ListSubscriptionsRequest { states: vec![0], ..all() }, "states"),
        (ListSubscriptionsRequest { states: vec![99], ..all() }, "states"),
        (ListSubscriptionsRequest { page_size: 10_001, ..all() }, "page_size"),
    ] {
        let status = admin.list_subscriptions(wrong).await.unwrap_err();
        assert_eq!((status.code(), violations(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    hub.stop().await;
}
