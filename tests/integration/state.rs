//! Watches that begin with what is there, exactly as it was at one revision.

use crate::{
    stress::{Control, Load, random, shared_ids, writers},
    support::{
        Database, PATIENCE, TestHub,
        fossil::{FossilEvent, fossil_kind, messages},
        history::{Evidence, History, Journal},
        recorder::{Recorder, SENTINEL},
        until,
        validators::{bookmarked, exact_state, ordered, validate},
        wire::{RawWatch, reason},
        writer::Verb,
    },
};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::Code;
use tonic_types::StatusExt;
use trex::{
    app::Settings,
    broker::{Interest, Policy, SchemaInterest, Step},
    catalog::{Catalog, Kind},
    embedded::testing::EphemeralPostgres,
    faces::grpc::Grpc,
    faces::{Registry, ServedKind},
    feed::{self, SealedFeed, snapshot::Snapshots},
    model::{Selector, Start},
    proto::rh_trex::v1::{BackpressurePolicy, EventType, WatchDinosaursRequest},
    service::UseCases,
    store::Migration,
    wire::Rendition,
};

const KIB: usize = 1024;

async fn hub(database: &Database, window: usize) -> TestHub {
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = window;
    TestHub::start_with(settings, Registry::of_this_program()).await
}

fn lossless() -> WatchDinosaursRequest {
    WatchDinosaursRequest { backpressure: BackpressurePolicy::CatchUp.into(), ..Default::default() }
}

fn state() -> WatchDinosaursRequest {
    WatchDinosaursRequest { send_initial_state: true, ..lossless() }
}

fn every(interval: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(interval).ok()
}

const SHORTEST: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn the_state_and_what_follows_it_are_exact_under_load() {
    const ROWS: u64 = 12_000;
    let mut random = random("state");
    let database = Database::create().await;
    let hub = hub(&database, 256 * KIB).await;
    let mut control = Control::new(&database).await;
    // The witness, from before the first event.
    let mut recorders = vec![Recorder::start(hub.client().await, "plain", lossless()).await];
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let mut writers = writers(&database, &mut random);
    writers.truncate(8);
    let load = Load::start(writers);
    for step in 1..=16 {
        load.until_rows(step * ROWS / 16).await;
        let request = match step % 4 {
            0 => {
                let ids = shared_ids()
                    .into_iter()
                    .chain(["w1-2", "w2-4", "w3-2~", SENTINEL].map(str::to_owned))
                    .collect();
                WatchDinosaursRequest { resource_ids: ids, bookmark_interval: every(SHORTEST), ..state() }
            }
            1 => WatchDinosaursRequest {
                bookmark_interval: every(SHORTEST),
                include_previous: true,
                ..state()
            },
            2 => WatchDinosaursRequest { types: vec![EventType::Deleted.into()], ..state() },
            _ => WatchDinosaursRequest { backpressure: BackpressurePolicy::Unspecified.into(), ..state() },
        };
        recorders.push(Recorder::start(hub.client().await, &format!("state {step}"), request).await);
    }
    let writers = load.stop().await;
    control.write_sentinel().await;
    let mut history = History::default();
    for recorder in recorders {
        history.streams.push(recorder.finish().await);
    }
    let rows: usize = history.streams.iter().map(|stream| stream.state.len()).sum();
    let bookmarks: usize = history.streams.iter().map(|stream| stream.bookmarks.len()).sum();
    println!("state: {rows} rows, {bookmarks} bookmarks");
    assert!(rows > 0);
    validate(&history, &control.journal(writers).await);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_exact_beside_truncate() {
    let database = Database::create().await;
    let hub = hub(&database, 64 << 20).await;
    let witness = Recorder::start(hub.client().await, "plain", lossless()).await;
    let enough = Arc::new(AtomicBool::new(false));
    let mut sessions = Vec::new();
    for writer in 0..3 {
        let (session, enough) = (database.connect().await, enough.clone());
        sessions.push(tokio::spawn(async move {
            let mut rounds = 0;
            while !enough.load(Ordering::Relaxed) {
                rounds += 1;
                let insert = format!(
                    "INSERT INTO dinosaurs (id, species) SELECT '{writer}-{rounds}-' || n,
                                      's' FROM generate_series(1, 5) n"
                );
                let truncate = if writer == 0 { "TRUNCATE dinosaurs" } else { "" };
                // Sometimes emptied and filled in one transaction.
                let sql = match rounds % 3 {
                    0 => format!("BEGIN; {truncate}; {insert}; COMMIT"),
                    1 => insert,
                    _ => truncate.to_owned(),
                };
                session.batch_execute(&sql).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            rounds
        }));
    }
    let (mut recorders, mut longest) = (Vec::new(), Duration::ZERO);
    for number in 0..24 {
        let started = Instant::now();
        recorders.push(Recorder::start(hub.client().await, &format!("state {number}"), state()).await);
        longest = longest.max(started.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    enough.store(true, Ordering::Relaxed);
    let mut rounds = Vec::new();
    for session in sessions {
        rounds.push(session.await.unwrap());
    }
    let session = database.connect().await;
    let last = format!(
        "INSERT INTO dinosaurs (id, species) VALUES ('{SENTINEL}', 's'); DELETE FROM dinosaurs
         WHERE id = '{SENTINEL}'"
    );
    session.batch_execute(&last).await.unwrap();
    let rows = session.query("SELECT id FROM dinosaurs ORDER BY id", &[]).await.unwrap();
    let table: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut history = History::default();
    for recorder in [witness].into_iter().chain(recorders) {
        history.streams.push(recorder.finish().await);
    }
    println!(
        "truncate: a state within {longest:?}, rounds {rounds:?}, {} events, states of {:?} rows",
        history.streams[0].events.len(),
        history.streams[1..].iter().map(|stream| stream.state.len()).collect::<Vec<_>>()
    );
    let journal = Journal::default();
    let evidence = Evidence::new(&history, &journal);
    for validator in [ordered, exact_state, bookmarked] {
        assert_eq!(validator(&evidence), Ok(()));
    }
    for stream in &history.streams {
        let mut rows: BTreeMap<_, _> =
            stream.state.iter().map(|(id, row)| (id.clone(), row.clone())).collect();
        for event in &stream.events {
            match &event.after {
                Some(row) => assert_eq!(
                    rows.insert(event.id.clone(), row.clone()),
                    None,
                    "{}: {}",
                    stream.name,
                    event.id
                ),
                None => {
                    assert!(rows.remove(&event.id).is_some(), "{}: {} was not there", stream.name, event.id)
                }
            }
        }
        assert!(rows.keys().eq(&table), "{}", stream.name);
        let (first, last) = (stream.headers.revision, stream.events.last().unwrap().revision);
        assert_eq!(stream.events.len() as u64, last - first, "{}: neither hole nor repeat", stream.name);
    }
    hub.stop().await;
}

/// Kilobytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn fill(database: &Database, rows: u32) {
    let session = database.connect().await;
    let insert = format!(
        "INSERT INTO dinosaurs (id, species) SELECT lpad(n::text, 8, '0'), repeat('s', 100)
         FROM generate_series(1, {rows}) n"
    );
    session.batch_execute(&insert).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_large_table_takes_no_memory() {
    const ROWS: u32 = 100_000;
    let database = Database::create().await;
    hub(&database, KIB).await.stop().await;
    fill(&database, ROWS).await;
    // Nothing of the rows is in its window.
    let hub = hub(&database, 64 * KIB).await;
    let before = resident();
    let started = Instant::now();
    let mut watch = RawWatch::start(&hub, &state()).await;
    let revision = watch.header("hub-revision");
    assert_eq!(revision, u64::from(ROWS));
    let mut most = before;
    for row in 0..ROWS {
        let event = watch.event().await.unwrap();
        assert_eq!((event.r#type(), event.revision), (EventType::Snapshot, 0));
        if row % 1000 == 0 {
            most = most.max(resident());
        }
    }
    let event = watch.event().await.unwrap();
    assert_eq!((event.r#type(), event.revision), (EventType::Bookmark, revision));
    // Other tests of this process allocate as well; alone it is a few megabytes.
    println!("large: {ROWS} rows in {:?}, {} kB more", started.elapsed(), most - before);
    assert!(most - before < 64 * 1024, "{} kB more", most - before);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_the_state_pins_nothing_and_misses_nothing() {
    const ROWS: u32 = 20_000;
    let database = Database::create().await;
    hub(&database, KIB).await.stop().await;
    fill(&database, ROWS).await;
    let hub = hub(&database, 64 * KIB).await;
    let mut watch =
        RawWatch::start(&hub, &WatchDinosaursRequest { send_initial_state: true, ..Default::default() })
            .await;
    let revision = watch.header("hub-revision");
    for _ in 0..10 {
        watch.next().await.unwrap();
    }
    let session = database.connect().await;
    let pins = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'trex'
                  AND (state = 'idle in transaction' OR backend_xmin IS NOT NULL)
                  AND pid <> pg_backend_pid() AND xact_start < now() - interval '50 ms'";
    let started = Instant::now();
    while session.query_one(pins, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(started.elapsed() < *PATIENCE, "a snapshot is pinned by a client that does not read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("slow state: nothing pinned after {:?}", started.elapsed());
    // Much more than the window and the buffer hold.
    for part in 0..20 {
        let insert = format!(
            "INSERT INTO dinosaurs (id, species) SELECT 'n{part}-' || n, 's' FROM generate_series(1, 1000) n"
        );
        session.batch_execute(&insert).await.unwrap();
    }
    until("all is published", || hub.metric("hub_head_revision", "") as u64 == revision + 20_000).await;
    tokio::time::sleep(Duration::from_millis(2500)).await; // longer than a stream may be blocked
    for _ in 10..ROWS {
        assert_eq!(watch.event().await.unwrap().r#type(), EventType::Snapshot);
    }
    assert_eq!(watch.event().await.unwrap().revision, revision);
    for next in revision + 1..=revision + 20_000 {
        let event = watch.event().await.unwrap();
        assert_eq!((event.revision, event.dropped_before), (next, 0));
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_nobody_reads_fill_no_disk() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.max_state_spool_bytes = 64 * KIB as u64;
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    fill(&database, 20_000).await;
    // What the windows of a connection take in is much less than the state.
    let unread = RawWatch::start(&hub, &state()).await;
    let client = hub.client().await;
    let begin = async || client.clone().watch_dinosaurs(state()).await.map(drop);
    let deadline = Instant::now() + *PATIENCE;
    let refused = loop {
        assert!(Instant::now() < deadline, "the disk is taken");
        if let Err(status) = begin().await {
            break status;
        }
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    assert!(refused.get_details_retry_info().is_some());
    client.clone().watch_dinosaurs(lossless()).await.expect("no state, no spool");
    drop(unread);
    while let Err(status) = begin().await {
        assert_eq!(reason(&status), "TOO_MANY");
        assert!(Instant::now() < deadline, "the disk is free again");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_the_database_cannot_give_is_for_later() {
    let cluster = EphemeralPostgres::start(vec![]).await.unwrap();
    let database = Database::create_on(&cluster).await;
    let hub = hub(&database, 64 * KIB).await;
    fill(&database, 100_000).await;
    until("it is published", || hub.metric("hub_head_revision", "") == 100_000.0).await;
    let session = database.connect().await;
    let readers =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'FETCH % FROM rows'";
    let deadline = Instant::now() + *PATIENCE;
    let mut watch = loop {
        let watch = RawWatch::start(&hub, &state()).await;
        if session.query_one(readers, &[]).await.unwrap().get::<_, i64>(0) == 1 {
            break watch;
        }
        // Too early, or too late.
        assert!(Instant::now() < deadline, "it is being read");
    };
    let mut rows = 0;
    let status = loop {
        match watch.event().await {
            Ok(event) => assert_eq!(event.r#type(), EventType::Snapshot, "what is cut short is not complete"),
            Err(status) => break status,
        }
        rows += 1;
    };
    assert!(rows < 100_000);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(status.get_details_retry_info().is_some());
    cluster.halt().await.unwrap();
    let refused = Recorder::try_start(hub.client().await, "later", state(), None).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(refused.get_details_retry_info().is_some());
    hub.stop().await;
    cluster.stop().await.unwrap();
}

/// The hub does not wait for long for a table that somebody has locked, and leaves nobody on the server who
/// does.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_a_locked_table_is_for_later() {
    let database = Database::create().await;
    let hub = hub(&database, 64 * KIB).await;
    let session = database.connect().await;
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let asked = Recorder::try_start(hub.client().await, "later", state(), None);
    let refused = tokio::time::timeout(*PATIENCE, asked).await.expect("an answer").err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(refused.get_details_retry_info().is_some());
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'dinosaurs'::regclass AND NOT granted";
    assert_eq!(session.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0), 0);
    session.batch_execute("ROLLBACK").await.unwrap();
    Recorder::start(hub.client().await, "now", state()).await.leave().await;
    hub.stop().await;
}

/// Fossils in a partitioned table.
struct Strata;

impl ServedKind for Strata {
    fn kind(&self) -> Kind {
        const MIGRATIONS: &[Migration] = &[Migration {
            version: 1,
            name: "strata",
            sql:
                "CREATE TABLE public.strata (site text, number int, details jsonb, weight numeric, note text,
                    scan text NOT NULL DEFAULT '', PRIMARY KEY (site, number)) PARTITION BY LIST (site);
                  CREATE TABLE public.strata_a PARTITION OF public.strata FOR VALUES IN ('a');
                  CREATE TABLE public.strata_b PARTITION OF public.strata FOR
                  VALUES IN ('b') PARTITION BY RANGE (number);
                  CREATE TABLE public.strata_b1 PARTITION OF public.strata_b FOR VALUES FROM (0) TO (500);
                  CREATE TABLE public.strata_b2 PARTITION OF public.strata_b FOR VALUES
                  FROM (500) TO (1000000)",
        }];
        fossil_kind("Stratum", "public.strata", MIGRATIONS)
    }

    fn serve(&self, _: &UseCases, _: &mut Grpc) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_partitioned_table_is_exact() {
    let database = Database::create().await;
    let registry = Registry::new(vec![Arc::new(Strata)]);
    let hub = TestHub::start_with(Settings::new(database.target()), registry.clone()).await;
    let (capture, metrics) = (feed::Settings::default(), hub.app().metrics().clone());
    let feed = Arc::new(SealedFeed::new(database.target(), capture, metrics, Default::default()));
    let snapshots = Snapshots::new(feed, Catalog::new(registry.kinds()), u64::MAX);
    let enough = Arc::new(AtomicBool::new(false));
    let (session, stop) = (database.connect().await, enough.clone());
    let writer = tokio::spawn(async move {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            // Rows come, move between partitions, and go with one of them.
            let sql = format!(
                "INSERT INTO strata (site, number) SELECT s, m + {n} * 7 FROM unnest(ARRAY['a', 'b']) s,
                 generate_series(1, 5) m;
                 UPDATE strata SET site = 'b', number = number + 100000 WHERE site = 'a'
                 AND number % 3 = {n} % 3;
                 UPDATE strata SET note = '{n}' WHERE number % 5 = 0"
            );
            session.batch_execute(&sql).await.unwrap();
            if n % 4 == 0 {
                let part = ["strata_a", "strata_b2", "strata_b", "strata"][n as usize / 4 % 4];
                session.batch_execute(&format!("TRUNCATE {part}")).await.unwrap();
            }
        }
    });
    let everything = Interest {
        selector: Selector::ALL,
        filter: None,
        sight: trex::model::filter::Sight::Whole,
        rendition: Rendition::Grpc,
        composer: None,
        schema: SchemaInterest::NONE,
        include_previous: false,
        buffer: 8192,
        policy: Policy::CatchUp,
    };
    let era = hub.app().broker().era().unwrap();
    let mut watches = Vec::new();
    for _ in 0..12 {
        let mut snapshot = snapshots.open("Stratum", everything.clone()).await.unwrap();
        era.topic("Stratum").unwrap().reached(snapshot.revision).await;
        let start = Start::AfterStateAt(snapshot.revision);
        let subscription = era.topic("Stratum").unwrap().subscribe(start, everything.clone()).unwrap();
        let mut rows = BTreeMap::new();
        while let Some(frames) = poll_fn(|cx| snapshot.frames.poll_next(cx)).await {
            rows.extend(
                messages(&frames.unwrap())
                    .into_iter()
                    .map(|event| (event.resource_id, event.fossil.unwrap())),
            );
        }
        watches.push((rows, subscription, snapshot.revision.get()));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    enough.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    let session = database.connect().await;
    let rows = session.query("SELECT site, number, note FROM strata ORDER BY 1, 2", &[]).await.unwrap();
    let table: Vec<(String, i32, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    session.batch_execute("INSERT INTO strata (site, number) VALUES ('b', 999999)").await.unwrap();
    for (mut rows, mut subscription, revision) in watches {
        let mut last = revision;
        'events: loop {
            let step =
                tokio::time::timeout(*PATIENCE, poll_fn(|cx| subscription.poll_next(cx))).await.unwrap();
            let Step::Frames(frames) = step else { panic!("{step:?}") };
            for event in messages(&frames) {
                let FossilEvent { change, fossil, resource_id, revision, .. } = event;
                last += 1;
                assert_eq!(revision, last);
                if fossil.as_ref().is_some_and(|fossil| fossil.number == 999_999) {
                    break 'events;
                }
                let there = rows.contains_key(&resource_id);
                assert_eq!(
                    there,
                    change != 1,
                    "{revision}: {resource_id} is {}there",
                    if there { "" } else { "not " }
                );
                match fossil {
                    Some(fossil) => rows.insert(resource_id, fossil),
                    None => rows.remove(&resource_id),
                };
            }
        }
        let mut rows: Vec<_> =
            rows.into_values().map(|fossil| (fossil.site, fossil.number, fossil.note)).collect();
        rows.sort();
        assert_eq!(rows, table, "after the state at {revision}");
    }
    hub.stop().await;
}
