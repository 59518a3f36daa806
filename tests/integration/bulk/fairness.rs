//! Others, while bulk streams run.

use super::{Importing, assert_exact, count, create, hub, import, item, start};
use crate::support::{Database, PATIENCE, TestHub, until};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{CreateDinosaurRequest, EventType, GetDinosaurRequest, WatchDinosaursRequest},
};

#[tokio::test(flavor = "multi_thread")]
async fn unary_calls_answer_beside_eight_streams() {
    let database = Database::create().await;
    // Fewer connections than streams.
    let settings = Settings { db_pool_size: 4, ..Settings::new(database.target()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut client = hub.client().await;
    // All on the connection of the calls: they share its flow control too.
    let streams: Vec<_> = (0..8)
        .map(|n| {
            let (mut client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let items = (0..)
                    .take_while(move |_| !stop.load(Ordering::Relaxed))
                    .map(move |m| create(format!("{n} {m}")));
                client.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner()
            })
        })
        .collect();
    until("they all run", || hub.metric("hub_bulk_items_total", r#"outcome="created""#) > 2000.0).await;
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let started = std::time::Instant::now();
        let species = format!("unary {n}");
        let created = client.create_dinosaur(CreateDinosaurRequest { species }).await.unwrap().into_inner();
        let id = created.metadata.unwrap().id;
        client.get_dinosaur(GetDinosaurRequest { id }).await.unwrap();
        slowest = slowest.max(started.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let mut created = 50;
    for stream in streams {
        created += u64::try_from(stream.await.unwrap().created).unwrap();
    }
    println!("beside {created} rows of 8 streams the slowest create and get took {slowest:?}");
    assert_eq!(count(&database, "true").await, created);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_with_the_default_request_follows_an_import_without_a_drop() {
    const ITEMS: u64 = 30_000;
    let (_database, hub) = hub().await;
    let mut watch =
        hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    let watcher = tokio::spawn(async move {
        let (mut ids, mut revision) = (HashSet::new(), 0);
        while (ids.len() as u64) < ITEMS {
            let event = timeout(*PATIENCE, watch.message()).await.expect("an event").unwrap().unwrap();
            assert_eq!((event.r#type(), event.dropped_before), (EventType::Created, 0));
            assert_eq!(event.revision, revision + 1, "nothing else happens");
            revision = event.revision;
            assert!(ids.insert(event.resource_id), "twice");
        }
        ids
    });
    let items = (0..ITEMS).map(|n| item(&format!("id {n}"), "followed"));
    let acknowledgements = import(&mut hub.client().await, start("followed"), items).await;
    assert_eq!(acknowledgements.last().unwrap().created, ITEMS);
    let ids = watcher.await.unwrap();
    assert!((0..ITEMS).all(|n| ids.contains(&format!("id {n}"))));
    assert_eq!(hub.metric("grpc_stream_events_dropped_total", ""), 0.0);
    hub.stop().await;
}

/// A client that is faster than the database is held back: what the hub has taken and not committed is two
/// batches at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_no_further_than_two_batches() {
    let (database, hub) = hub().await;
    let session = database.connect().await;
    let mut stream = Importing::start(&mut hub.client().await, start("held-back")).await;
    stream.acknowledgement().await;
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs IN SHARE MODE").await.unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let sender = tokio::spawn(async move {
        // More than the windows of a stream take.
        while stream.try_send(item("", "x".repeat(255))).await {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let received = || hub.metric("hub_bulk_items_total", r#"outcome="received""#);
    until("a batch fills", || received() > 100.0).await;
    // Until the client is blocked: nothing goes for a while.
    let mut seen = u64::MAX;
    while sent.load(Ordering::Relaxed) != seen {
        seen = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The first may have gone off before it was full.
    assert!((101.0..=200.0).contains(&received()), "{}", received());
    assert!(seen < 10_000, "{seen} items are on their way");
    session.batch_execute("COMMIT").await.unwrap();
    until("it goes on", || received() > 1000.0).await;
    sender.abort();
    let _ = sender.await;
    hub.stop().await;
}

/// Two imports that meet on the same ids, in opposite order, wait for each other and may deadlock: both get
/// through.
#[tokio::test(flavor = "multi_thread")]
async fn imports_that_meet_on_the_same_ids_both_get_through() {
    const ITEMS: u64 = 2000;
    let (database, hub) = hub().await;
    let forth = (0..ITEMS).map(|n| item(&n.to_string(), "forth"));
    let back = (0..ITEMS).rev().map(|n| item(&n.to_string(), "back"));
    let (mut one, mut two) = (hub.client().await, hub.client().await);
    let (forth, back) =
        tokio::join!(import(&mut one, start("forth"), forth), import(&mut two, start("back"), back));
    let created: u64 = [&forth, &back].iter().map(|all| all.last().unwrap().created).sum();
    [&forth, &back].into_iter().for_each(|all| assert_exact(all));
    assert_eq!((created, count(&database, "true").await), (ITEMS, ITEMS));
    hub.stop().await;
}

/// A batch that is the victim of a deadlock is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_does_not_end_an_import() {
    let (database, hub) = hub().await;
    let (other, looking) = (database.connect().await, database.connect().await);
    // Whoever finds the deadlock loses. This session does not look for it.
    let holds_b =
        "SET deadlock_timeout = '1h'; BEGIN; INSERT INTO dinosaurs (id, species) VALUES ('b', 'other')";
    other.batch_execute(holds_b).await.unwrap();
    let mut client = hub.client().await;
    let items = ["a", "b"].map(|id| item(id, "imported"));
    let asks_for_a = async {
        let waits =
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let waiting = async { while looking.query(waits, &[]).await.unwrap().is_empty() {} };
        timeout(*PATIENCE, waiting).await.expect("the import waits");
        other
            .batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 'other'); ROLLBACK")
            .await
            .unwrap();
    };
    let (all, ()) = tokio::join!(import(&mut client, start("victim"), items.into_iter()), asks_for_a);
    assert_exact(&all);
    assert_eq!(all.last().unwrap().created, 2);
    hub.stop().await;
}
