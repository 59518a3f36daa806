//! Kinds come and go while a hub runs.
//!
//! The gate runs it with few watches.
//! `TREX_WATCHES=1000 TREX_PAUSE_MS=50 cargo test --test integration -- catalog::` is what the hub is held to
//! on a machine that does nothing else.

use crate::{
    stress::number,
    support::{
        Database, PATIENCE, TestHub,
        fossil::{FossilEvent, fossil_kind, fossils},
        until, until_sql,
    },
};
use prost::Message;
use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use trex::{
    app::Settings,
    broker::{Ending, Interest, Policy, Refused, SchemaInterest, Step, Subscription, Topic},
    catalog::Kind,
    faces::Registry,
    model::{Removal, Revision, Selector, Start},
    proto::rh_trex::v1::DinosaurWatchEvent,
    store::Driven,
    wire::Rendition,
};

const FOSSIL: &str = "Fossil";
const CREATE: &str =
    "CREATE TABLE public.fossils (site text, number int, details jsonb, weight numeric, note text,
      scan text NOT NULL DEFAULT '', PRIMARY KEY (site, number));
    SELECT hub.watch('Fossil', 'public.fossils')";

fn everything() -> Interest {
    Interest {
        selector: Selector::ALL,
        filter: None,
        sight: trex::model::filter::Sight::Whole,
        rendition: Rendition::Grpc,
        composer: None,
        schema: SchemaInterest::NONE,
        include_previous: false,
        buffer: 8192,
        policy: Policy::CatchUp,
    }
}

/// What a watch of dinosaurs has seen.
#[derive(Default)]
struct Seen {
    revisions: Vec<u64>,
    /// The longest time for which an event waited to be seen.
    longest: Duration,
    ended: Option<Ending>,
}

/// Reads until the hub ends it. What it was sent and when is compared with when it was published.
fn watch(topic: &Arc<Topic>) -> JoinHandle<Seen> {
    let mut subscription = topic.subscribe(Start::Now, everything()).unwrap();
    tokio::spawn(async move {
        let mut seen = Seen::default();
        loop {
            match poll_fn(|cx| subscription.poll_next(cx)).await {
                Step::Frames(frames) => {
                    let mut frames = &frames[..];
                    while let Some((header, rest)) = frames.split_first_chunk::<5>() {
                        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
                        let (message, rest) = rest.split_at(length);
                        let event = DinosaurWatchEvent::decode(message).unwrap();
                        seen.revisions.push(event.revision);
                        let species = event.dinosaur.unwrap().species;
                        let written: u128 = species.split('-').next_back().unwrap().parse().unwrap();
                        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros();
                        let waited = Duration::from_micros(now.saturating_sub(written) as u64);
                        seen.longest = seen.longest.max(waited);
                        frames = rest;
                    }
                }
                Step::End(ending) => {
                    seen.ended = Some(ending);
                    return seen;
                }
            }
        }
    })
}

/// Writes dinosaurs that say when they were written, until there were enough. Returns how many.
fn load(session: Driven, enough: Arc<AtomicBool>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut written = 0;
        while !enough.load(Ordering::Relaxed) {
            let insert = "INSERT INTO dinosaurs (species)
                SELECT 'T-' || (extract(epoch FROM clock_timestamp()) * 1e6)::bigint
                FROM generate_series(1, 5)";
            written += session.execute(insert, &[]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        written
    })
}

async fn head(session: &Driven) -> Revision {
    let row = session.query_one("SELECT revision FROM hub.head", &[]).await.unwrap();
    Revision::from_sql(row.get(0))
}

/// Waits until every fossil has its revision: a head that is read before that may be passed by them alone.
async fn all_sealed(session: &Driven) {
    let sql = "SELECT NOT EXISTS (SELECT FROM hub.change c WHERE c.kind = 'Fossil'
        AND NOT EXISTS (SELECT FROM hub.log l WHERE l.xid = c.xid))";
    until_sql(session, "the fossils are sealed", sql, &[]).await;
}

async fn insert(session: &Driven, numbers: std::ops::RangeInclusive<i32>) {
    let sql = "INSERT INTO fossils (site, number) SELECT 'a', n FROM generate_series($1::int, $2::int) n";
    session.execute(sql, &[numbers.start(), numbers.end()]).await.unwrap();
}

fn fossil(since: Revision) -> Kind {
    Kind { scope: None, since, ..fossil_kind(FOSSIL, "public.fossils", &[]) }
}

fn topic(hub: &TestHub, kind: &str) -> Option<Arc<Topic>> {
    hub.app().broker().era().unwrap().topic(kind)
}

/// The numbers of the fossils that a watch brings.
async fn numbers(subscription: &mut Subscription, count: usize) -> BTreeSet<i32> {
    let events: Vec<FossilEvent> = fossils(subscription, count).await;
    events.into_iter().map(|event| event.fossil.unwrap().number).collect()
}

async fn hub_with_a_small_window(database: &Database) -> TestHub {
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 64 * 1024;
    TestHub::start_with(settings, Registry::of_this_program()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_comes_and_goes_and_no_other_stream_notices() {
    let database = Database::create().await;
    let hub = hub_with_a_small_window(&database).await;
    let session = database.connect().await;
    let dinosaurs = topic(&hub, "Dinosaur").unwrap();
    let watches: Vec<_> = (0..number("TREX_WATCHES", 100)).map(|_| watch(&dinosaurs)).collect();
    let enough = Arc::new(AtomicBool::new(false));
    let writer = load(database.connect().await, enough.clone());

    // The table is captured before the hub knows it: the pages that cross these events do not have them.
    session.batch_execute(CREATE).await.unwrap();
    let since = head(&session).await;
    insert(&session, 1..=700).await;
    all_sealed(&session).await;
    let then = head(&session).await.get();
    until("they have left the window", || dinosaurs.head().get() > then + dinosaurs.window().events).await;
    let mut past = dinosaurs.subscribe(Start::After(since), everything()).unwrap();
    let deadline = Instant::now() + *PATIENCE;
    while hub.metric("hub_history_reads_total", "") < 1.0 {
        assert!(Instant::now() < deadline, "it reads from the history");
        let step = tokio::time::timeout(*PATIENCE, poll_fn(|cx| past.poll_next(cx))).await.unwrap();
        assert!(matches!(step, Step::Frames(_)), "{step:?}");
    }
    drop(past);

    for round in 0..5 {
        hub.app().catalog().put(fossil(since));
        until("the kind is there", || topic(&hub, FOSSIL).is_some()).await;
        let fossils = topic(&hub, FOSSIL).unwrap();
        let too_old = fossils.subscribe(Start::After(since.previous()), everything());
        assert_eq!(too_old.err(), Some(Refused::Compacted { oldest: since }));
        let mut first = fossils.subscribe(Start::After(since), everything()).unwrap();
        let mut live = fossils.subscribe(Start::Now, everything()).unwrap();
        let next = 701 + round * 10;
        insert(&session, next..=next + 9).await;
        assert_eq!(numbers(&mut first, next as usize + 9).await, (1..=next + 9).collect());
        assert_eq!(numbers(&mut live, 10).await, (next..=next + 9).collect());

        let why = if round % 2 == 0 { Removal::Detached } else { Removal::Dropped };
        hub.app().catalog().remove(FOSSIL, why);
        for watch in [&mut first, &mut live] {
            let ended = tokio::time::timeout(*PATIENCE, poll_fn(|cx| watch.poll_next(cx))).await.unwrap();
            assert_eq!(ended, Step::End(Ending::Removed { kind: FOSSIL.into(), why }));
        }
        until("the kind is gone", || topic(&hub, FOSSIL).is_none()).await;
        until("its series are gone", || hub.metric("grpc_stream_subscribers_active", FOSSIL) == 0.0).await;
    }

    enough.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    let last = head(&session).await;
    dinosaurs.reached(last).await;
    let bound = Duration::from_millis(number("TREX_PAUSE_MS", 5_000));
    let wanted = (written * watches.len() as u64) as f64;
    until("every watch gets every event", || {
        hub.metric("grpc_stream_events_sent_total", "Dinosaur") >= wanted
    })
    .await;
    hub.stop().await;
    let mut all: Option<Vec<u64>> = None;
    for watch in watches {
        let Seen { revisions, longest, ended } = watch.await.unwrap();
        assert!(matches!(ended, Some(Ending::ShuttingDown { .. })), "{ended:?}");
        assert!(longest <= bound, "an event waited for {longest:?}");
        assert!(revisions.is_sorted_by(|one, next| one < next), "in order");
        assert_eq!(revisions.len() as u64, written, "nothing is lost");
        assert_eq!(*all.get_or_insert_with(|| revisions.clone()), revisions);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_comes_again_is_another() {
    let database = Database::create().await;
    let hub = hub_with_a_small_window(&database).await;
    let session = database.connect().await;
    session.batch_execute(CREATE).await.unwrap();
    let first = head(&session).await;
    hub.app().catalog().put(fossil(first));
    until("the kind is there", || topic(&hub, FOSSIL).is_some()).await;
    let mut old = topic(&hub, FOSSIL).unwrap().subscribe(Start::Now, everything()).unwrap();
    insert(&session, 1..=3).await;
    assert_eq!(numbers(&mut old, 3).await.len(), 3);
    // Between two looks of the hub.
    let second = head(&session).await;
    hub.app().catalog().remove(FOSSIL, Removal::Dropped);
    hub.app().catalog().put(fossil(second));
    let ended = tokio::time::timeout(*PATIENCE, poll_fn(|cx| old.poll_next(cx))).await.unwrap();
    assert_eq!(ended, Step::End(Ending::Removed { kind: FOSSIL.into(), why: Removal::Dropped }));
    // The hub may have looked in between after all.
    until("the other kind is there", || topic(&hub, FOSSIL).is_some()).await;
    let topic = topic(&hub, FOSSIL).unwrap();
    let refused = topic.subscribe(Start::After(first), everything()).err();
    assert_eq!(refused, Some(Refused::Compacted { oldest: second }));
    let mut new = topic.subscribe(Start::After(second), everything()).unwrap();
    insert(&session, 4..=5).await;
    assert_eq!(numbers(&mut new, 2).await, BTreeSet::from([4, 5]));
    drop(new);
    hub.stop().await;
}
