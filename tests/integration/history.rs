//! Watches that start in the past: read from the retained history, handed over to the window, and told when
//! the past is gone.

mod retention;

use crate::{
    stress::{Control, Load, number, random, shared_ids, writers},
    support::{
        Database, PATIENCE, TestHub,
        history::{End, History},
        recorder::{Recorder, SENTINEL},
        until, until_sql,
        validators::validate,
        wire::{RawWatch, metadata, reason},
        writer::{Verb, Writer},
    },
};
use futures_util::future::join_all;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use tonic::Code;
use trex::{
    app::Settings,
    faces::Registry,
    feed::Retention,
    proto::rh_trex::v1::{BackpressurePolicy, EventType, WatchDinosaursRequest},
    store::{HubConnection, Store},
};

const KIB: usize = 1024;
const READS: &str = "hub_history_reads_total";
const CATCH_UPS: &str = "hub_stream_catch_ups_total";
const DISCONNECTS: &str = "hub_stream_disconnects_total";
const DROPPED: &str = "grpc_stream_events_dropped_total";

fn settings(database: &Database, window: usize) -> Settings {
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = window;
    settings.limits.blocked_after = Duration::from_millis(50);
    settings
}

async fn hub(database: &Database, window: usize) -> TestHub {
    TestHub::start_with(settings(database, window), Registry::of_this_program()).await
}

/// A watch that loses nothing, however small the window is.
fn lossless() -> WatchDinosaursRequest {
    WatchDinosaursRequest { backpressure: BackpressurePolicy::CatchUp.into(), ..Default::default() }
}

fn after(revision: u64) -> WatchDinosaursRequest {
    WatchDinosaursRequest { after_revision: Some(revision), ..lossless() }
}

/// The kinds of watches that resume, in turn.
fn variant(number: u64, revision: u64) -> WatchDinosaursRequest {
    let types = |types: &[EventType]| types.iter().map(|&number| number.into()).collect();
    match number % 5 {
        0 => after(revision),
        1 => WatchDinosaursRequest { types: types(&[EventType::Created]), ..after(revision) },
        2 => WatchDinosaursRequest { include_previous: true, ..after(revision) },
        3 => {
            let ids = shared_ids().into_iter().chain([SENTINEL.to_owned()]).collect();
            WatchDinosaursRequest { resource_ids: ids, include_previous: true, ..after(revision) }
        }
        _ => WatchDinosaursRequest {
            types: types(&[EventType::Updated, EventType::Deleted]),
            bookmark_interval: prost_types::Duration::try_from(Duration::from_millis(100)).ok(),
            ..after(revision)
        },
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn check(recorders: Vec<Recorder>, mut history: History, mut control: Control, writers: Vec<Writer>) {
    for recorder in recorders {
        history.streams.push(recorder.finish().await);
    }
    validate(&history, &control.journal(writers).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_from_anywhere_while_writers_write() {
    const ROWS: u64 = 12_000;
    let mut random = random("resume");
    let database = Database::create().await;
    let hub = hub(&database, 256 * KIB).await;
    let mut control = Control::new(&database).await;
    let mut recorders = vec![Recorder::start(hub.client().await, "plain", lossless()).await];
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let load = Load::start(writers(&database, &mut random));
    for step in 1..=20 {
        load.until_rows(step * ROWS / 20).await;
        let revision = random.u64(0..=hub.metric("hub_head_revision", "") as u64);
        let request =
            WatchDinosaursRequest { epoch: recorders[0].headers.epoch.clone(), ..variant(step, revision) };
        recorders
            .push(Recorder::start(hub.client().await, &format!("{step} after {revision}"), request).await);
    }
    let writers = load.stop().await;
    control.write_sentinel().await;
    check(recorders, History::default(), control, writers).await;
    println!("resume: {} pages read", hub.metric(READS, ""));
    assert!(hub.metric(READS, "") > 0.0, "nobody began before the window");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_inside_a_large_transaction() {
    let database = Database::create().await;
    let first = hub(&database, 64 * KIB).await;
    let mut control = Control::new(&database).await;
    let plain = Recorder::start(first.client().await, "plain", lossless()).await;
    control.write(&[(Verb::Insert, &names("before", 30))]).await;
    control.write(&[(Verb::Insert, &names("large", 20_000))]).await;
    control.write(&[(Verb::Update, &names("before", 30)), (Verb::Delete, &names("before", 3))]).await;
    plain.until("all of it", |progress| progress.events == 20_063).await;
    // It has no window at all.
    let second = hub(&database, 64 * KIB).await;
    let mut recorders = vec![plain];
    for (number, revision) in
        [29, 30, 31, 499, 500, 501, 10_000, 19_777, 20_029, 20_030, 20_062].into_iter().zip(0..)
    {
        let (number, revision): (u64, u64) = (revision, number);
        let hub = if number % 2 == 0 { &second } else { &first };
        let request = if number == 4 { after(revision) } else { variant(number, revision) };
        recorders.push(Recorder::start(hub.client().await, &format!("after {revision}"), request).await);
    }
    control.write_sentinel().await;
    check(recorders, History::default(), control, vec![]).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watch_that_catches_up_loses_nothing() {
    const ROUNDS: usize = 3;
    let database = Database::create().await;
    let hub = hub(&database, 64 * KIB).await;
    let mut control = Control::new(&database).await;
    let plain = Recorder::start(hub.client().await, "plain", lossless()).await;
    let slow = WatchDinosaursRequest { buffer: 50, ..lossless() };
    let narrower = WatchDinosaursRequest {
        types: vec![EventType::Created.into(), EventType::Deleted.into()],
        include_previous: true,
        ..slow.clone()
    };
    let slow = [
        Recorder::start(hub.narrow_client().await, "slow", slow).await,
        Recorder::start(hub.narrow_client().await, "slow, typed", narrower).await,
    ];
    for round in 0..ROUNDS {
        slow.iter().for_each(Recorder::pause);
        let falls = hub.metric(CATCH_UPS, "");
        // The windows of HTTP/2 and the hub's send buffer hold less than this.
        for part in 0..6 {
            control.write(&[(Verb::Insert, &names(&format!("r{round}p{part}"), 1000))]).await;
        }
        until("both fall behind", || hub.metric(CATCH_UPS, "") >= falls + 2.0).await;
        slow.iter().for_each(Recorder::resume);
        let last = control.journal.last().unwrap().changes().last().unwrap().key();
        for recorder in &slow {
            recorder.until("the present", |progress| progress.last.as_ref() == Some(&last)).await;
        }
        // Live again: an event comes without a page being read.
        let topic = hub.app().broker().era().unwrap().topic("Dinosaur").unwrap();
        until("all wait for events", || topic.sleepers() == 3).await;
        let reads = hub.metric(READS, "");
        control.write(&[(Verb::Insert, &names(&format!("live{round}"), 1))]).await;
        let live = control.journal.last().unwrap().changes().last().unwrap().key();
        for recorder in &slow {
            recorder.until("a live event", |progress| progress.last.as_ref() == Some(&live)).await;
        }
        assert_eq!(hub.metric(READS, ""), reads, "it came from the window");
    }
    control.write_sentinel().await;
    println!("catch-up: {} falls, {} pages read", hub.metric(CATCH_UPS, ""), hub.metric(READS, ""));
    let recorders = [plain].into_iter().chain(slow).collect();
    check(recorders, History::default(), control, vec![]).await;
    assert_eq!(hub.metric(DROPPED, ""), 0.0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watch_that_asked_to_be_disconnected_resumes_where_it_was() {
    let database = Database::create().await;
    let hub = hub(&database, 64 << 20).await;
    let mut control = Control::new(&database).await;
    let plain = Recorder::start(hub.client().await, "plain", lossless()).await;
    let mut history = History::default();
    let mut request = WatchDinosaursRequest {
        backpressure: BackpressurePolicy::Disconnect.into(),
        buffer: 50,
        ..Default::default()
    };
    for round in 0..3 {
        let name = format!("disconnected {round}");
        let slow = Recorder::start(hub.narrow_client().await, &name, request.clone()).await;
        slow.pause();
        let before = hub.metric(DISCONNECTS, "");
        for part in 0..6 {
            control.write(&[(Verb::Insert, &names(&format!("r{round}p{part}"), 1000))]).await;
        }
        until("it is too slow", || hub.metric(DISCONNECTS, "") > before).await;
        slow.resume();
        let stream = slow.ended().await;
        let status = stream.status.clone().expect("a status");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SLOW_CONSUMER"));
        let End::Hub { revision: Some(revision), dropped: Some(0), retry_info: true, .. } = stream.end else {
            panic!("{:?}", stream.end)
        };
        assert!(stream.events.len() < 6000, "it got everything and was ended");
        assert_eq!(stream.events.last().map_or(stream.headers.revision, |event| event.revision), revision);
        history.streams.push(stream);
        request.after_revision = Some(revision);
    }
    let last = request.after_revision.unwrap();
    let resumed = Recorder::start(hub.client().await, "resumed", after(last)).await;
    control.write_sentinel().await;
    check(vec![plain, resumed], history, control, vec![]).await;
    hub.stop().await;
}

/// Everything that a hub on a full database sends after revision 0, up to and with a revision: a hash of the
/// bytes.
async fn read_all(hub: &TestHub, up_to: u64) -> u64 {
    let mut watch = RawWatch::start(hub, &after(0)).await;
    let mut hasher = DefaultHasher::new();
    for _ in 0..up_to {
        watch.next().await.expect("an event").hash(&mut hasher);
    }
    hasher.finish()
}

/// A larger crowd, or from further back: `TREX_TEST_CROWD`, `TREX_TEST_BACK`.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_back_at_once_shares_what_it_reads() {
    let (back, size) = (number("TREX_TEST_BACK", 20_000), number("TREX_TEST_CROWD", 200));
    let database = Database::create().await;
    hub(&database, KIB).await.stop().await;
    let session = database.connect().await;
    for part in 0..back / 500 {
        let insert = format!(
            "INSERT INTO dinosaurs (id, species) SELECT '{part}-' || n, 's' FROM generate_series(1, 500) n"
        );
        session.batch_execute(&insert).await.unwrap();
    }
    let alone = hub(&database, 64 * KIB).await;
    let started = Instant::now();
    let expected = read_all(&alone, back).await;
    let (one, took) = (alone.metric(READS, ""), started.elapsed());
    alone.stop().await;

    let hub = hub(&database, 64 * KIB).await;
    let started = Instant::now();
    let crowd = join_all((0..size).map(|_| read_all(&hub, back))).await;
    let all = hub.metric(READS, "");
    println!("crowd: {one} pages in {took:?} for one, {all} in {:?} for {size}", started.elapsed());
    assert!(crowd.iter().all(|hash| *hash == expected), "all get the same bytes");
    assert!(one > 0.0 && all <= 3.0 * one, "{all} pages for {size}, {one} for one");
    hub.stop().await;
}

/// Compacts in small steps, as a hub does.
async fn compact_to(store: &Store, events: u64) -> u64 {
    let mut floor = None;
    loop {
        let raised = store.raise_floor(Duration::from_secs(3600), events, 100).await.unwrap();
        if raised.is_some() && raised == floor {
            break;
        }
        floor = raised.or(floor);
    }
    while store.delete_below_floor(100).await.unwrap() > 0 {}
    floor.unwrap().get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_past_is_compacted_is_told() {
    compacted_under_a_watch(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_next_page_is_compacted_in_part_is_told() {
    compacted_under_a_watch(true).await;
}

async fn compacted_under_a_watch(in_part: bool) {
    let database = Database::create().await;
    hub(&database, KIB).await.stop().await;
    let session = database.connect().await;
    for part in 0..500 {
        let insert = format!(
            "INSERT INTO dinosaurs (id, species) SELECT '{part}-' || n, 's' FROM generate_series(1, 40) n"
        );
        session.batch_execute(&insert).await.unwrap();
    }
    // Another hub, or the pages would be at hand that the first of them read.
    let (other, hub) = (hub(&database, 16 * KIB).await, hub(&database, 16 * KIB).await);
    let types = vec![EventType::Deleted.into()];
    let mut filtered = RawWatch::start(&other, &WatchDinosaursRequest { types, ..after(0) }).await;
    let mut watch = RawWatch::start(&hub, &after(0)).await;
    for revision in 1..=1000 {
        assert_eq!(watch.event().await.unwrap().revision, revision);
    }
    let topic = other.app().broker().era().unwrap().topic("Dinosaur").unwrap();
    // The last of forty pages may be in the window already.
    let read = || other.metric("hub_history_reads_total", "") >= 39.0;
    until("the one that wants nothing is live", || read() && topic.sleepers() == 1).await;
    let store = Store::new(&database.target(), 1).unwrap();
    let sent = || hub.metric("grpc_stream_events_sent_total", "");
    let mut before = 0.0;
    while std::mem::replace(&mut before, sent()) < sent() || before == 0.0 {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // It is blocked. This is where the pages at hand end.
    let read = 500 * hub.metric(READS, "") as u64;
    let floor = compact_to(&store, if in_part { 20_000 - read - 300 } else { 100 }).await;
    assert_eq!(floor, if in_part { (read + 299) / 40 * 40 } else { 19_880 }, "the end of a transaction");
    let mut last = 1000;
    let status = loop {
        match watch.event().await {
            Ok(event) => {
                last += 1;
                assert_eq!(event.revision, last, "a hole without a word");
            }
            Err(status) => break status,
        }
    };
    println!("compacted: told after {last}, floor {floor}");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "REVISION_COMPACTED"));
    assert_eq!(metadata(&status, "oldest_revision"), floor.to_string());
    assert_eq!(status.metadata().get("hub-revision").unwrap(), &last.to_string());
    assert!(last == read && last < floor, "told at {last}, with {read} at hand");
    let refused = Recorder::try_start(hub.client().await, "too late", after(last), None).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "REVISION_COMPACTED"));
    assert_eq!(metadata(&refused, "oldest_revision"), floor.to_string());

    // It was live before the history went.
    session.batch_execute("DELETE FROM dinosaurs WHERE id = '1-1'").await.unwrap();
    assert_eq!(filtered.event().await.unwrap().revision, 20_001);
    let mut watch = RawWatch::start(&hub, &after(floor)).await;
    for revision in floor + 1..=20_001 {
        assert_eq!(watch.event().await.unwrap().revision, revision);
    }
    other.stop().await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_above_a_floor_that_rises_as_its_page_is_read_goes_on() {
    let database = Database::create().await;
    hub(&database, KIB).await.stop().await;
    let session = database.connect().await;
    for part in 0..3 {
        let insert = format!(
            "INSERT INTO dinosaurs (id, species) SELECT '{part}-' || n, 's' FROM generate_series(1, 100) n"
        );
        session.batch_execute(&insert).await.unwrap();
    }
    let mut settings = settings(&database, KIB);
    settings.capture.backup_poll = Duration::from_secs(3600);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    until("it knows the head", || hub.metric("hub_head_revision", "") == 300.0).await;
    session.batch_execute("BEGIN; LOCK TABLE hub.log").await.unwrap();
    let mut watch = RawWatch::start(&hub, &after(250)).await;
    let reads = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                 WHERE NOT granted AND relation = 'hub.log'::regclass AND query LIKE '%AS base, l.revision%'";
    let observer = database.connect().await;
    let reading = async { while observer.query(reads, &[]).await.unwrap().is_empty() {} };
    tokio::time::timeout(*PATIENCE, reading).await.expect("the page is read, from where the floor was");
    session.batch_execute("UPDATE hub.retention SET compacted = 100; COMMIT").await.unwrap();
    for revision in 251..=300 {
        assert_eq!(watch.event().await.unwrap().revision, revision);
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_is_unknown_only_if_the_database_does_not_know_it() {
    let database = Database::create().await;
    let mut settings = settings(&database, 64 * KIB);
    settings.capture.backup_poll = Duration::from_secs(3600);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let client = hub.client().await;
    let session = database.connect().await;
    let other = HubConnection::open(&database.target()).await.unwrap();
    for round in 0..50 {
        // Every other round several events, so that the page of the asked one is not at hand.
        let insert = format!(
            "INSERT INTO dinosaurs (species) SELECT 's' FROM generate_series(1, {})",
            1 + round % 2 * 700
        );
        session.batch_execute(&insert).await.unwrap();
        let sealed = other.seal().await.unwrap().revision.get();
        let watch = Recorder::start(client.clone(), "just sealed", after(sealed)).await;
        assert_eq!(watch.headers.revision, sealed);
        let refused =
            Recorder::try_start(client.clone(), "ahead", after(sealed + 1), None).await.err().unwrap();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "REVISION_UNKNOWN"));
        assert_eq!(metadata(&refused, "head_revision"), sealed.to_string());
        assert_eq!(watch.leave().await.events, []);
    }
    hub.stop().await;
}
