//! A large transaction of one kind, and what its neighbours wait for it. Longer: `TREX_TEST_LARGE`, in rows.

use super::*;
use crate::{
    stress::{Control, number, random},
    support::{
        Database,
        fossil::{Fossils, messages},
        history::History,
        recorder::{PATIENCE, Recorder},
        validators::validate,
        writer::Writer,
    },
};
use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering},
};
use trex::{
    app::Settings,
    broker::{Interest, Policy, Step, Subscription},
    kinds::{Registry, dinosaur::Dinosaurs},
    model::{Revision, Selector, Start},
    proto::rh_trex::v1::BackpressurePolicy,
};

/// More rows than are read in the tailer's way.
const LARGE: u64 = 15_000;
/// Between two transactions of a trickle.
const BEAT: Duration = Duration::from_millis(3);

fn registry() -> Registry {
    Registry::new(vec![Arc::new(Dinosaurs), Arc::new(Fossils)])
}

fn fossils(hub: &TestHub, start: Start) -> Subscription {
    let interest =
        Interest { selector: Selector::ALL, include_previous: false, buffer: 8192, policy: Policy::CatchUp };
    hub.app().broker().era().unwrap().topic("Fossil").unwrap().subscribe(start, interest).unwrap()
}

/// A fossil's event: its revision and the note, which says in which transaction it was written.
type Noted = (u64, u64);

/// Reads so many events, and checks on the way that no bookmark would say more than was read.
async fn read(mut watch: Subscription, count: u64) -> Vec<Noted> {
    let mut read: Vec<Noted> = Vec::new();
    while (read.len() as u64) < count {
        let step = tokio::time::timeout(*PATIENCE, poll_fn(|cx| watch.poll_next(cx))).await;
        let Step::Frames(frames) = step.unwrap_or_else(|_| panic!("{} of {count} came", read.len())) else {
            panic!("ended after {} events", read.len())
        };
        read.extend(messages(&frames).into_iter().map(|event| {
            let note = event.fossil.and_then(|fossil| fossil.note).expect("a note");
            (event.revision, note.parse().expect("a number"))
        }));
    }
    assert_eq!(read.len() as u64, count);
    read
}

fn insert(site: &str, transaction: u64, rows: u64) -> String {
    format!(
        "INSERT INTO fossils (site, number, note) SELECT '{site}', n, '{transaction}' FROM generate_series(1, {rows}) n;"
    )
}

fn dinosaurs(prefix: &str, rows: u64) -> String {
    format!(
        "INSERT INTO dinosaurs (id, species) SELECT '{prefix}-' || n, 's' FROM generate_series(1, {rows}) n;"
    )
}

/// Transactions of one row each, until it is enough.
async fn trickle(mut writer: Writer, enough: Arc<AtomicBool>) -> Writer {
    let mut beat = tokio::time::interval(BEAT);
    while !enough.load(Ordering::Relaxed) {
        beat.tick().await;
        writer.insert_one().await;
    }
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_of_one_kind_holds_up_no_other() {
    let rows = number("TREX_TEST_LARGE", 100_000);
    let database = Database::create().await;
    let hub = TestHub::start_with(Settings::new(database.target()), registry()).await;
    let mut control = Control::new(&database).await;
    let request = WatchDinosaursRequest {
        bookmark_interval: prost_types::Duration::try_from(Duration::from_millis(100)).ok(),
        ..Default::default()
    };
    let recorder = Recorder::start(hub.client().await, "dinosaurs", request).await;
    let arrivals = Arrivals::of(&hub).await;
    let enough = Arc::new(AtomicBool::new(false));
    let writer = Writer::new("w", database.url(), &[], random("large"));
    let writer = tokio::spawn(trickle(writer, enough.clone()));
    let reader = tokio::spawn(read(fossils(&hub, Start::Now), rows + 10));

    let session = database.connect().await;
    session.batch_execute(&insert("large", 0, rows)).await.unwrap();
    let committed = Instant::now();
    for transaction in 1..=10 {
        session.batch_execute(&insert(&format!("small-{transaction}"), transaction, 1)).await.unwrap();
    }
    let read = reader.await.unwrap();
    let took = committed.elapsed();
    enough.store(true, Ordering::Relaxed);
    let writer = writer.await.unwrap();
    control.write_sentinel().await;

    assert!(read.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "in the order of their transactions");
    assert_eq!(read.iter().filter(|(_, transaction)| *transaction == 0).count() as u64, rows);
    let large = Revision::new(read[rows as usize - 1].0);
    assert_eq!(large.get() - read[0].0, rows - 1, "a transaction's events stay together");
    let beside = writer.journal.iter().filter(|transaction| transaction.commit_sent.unwrap() > committed);
    let delays = arrivals.delays(beside.filter(|t| t.commit_sent.unwrap() < committed + took)).await;
    println!("large: {rows} rows took {took:.1?} to the last event; beside it: {delays}");
    let history = History { streams: vec![recorder.finish().await] };
    validate(&history, &control.journal(vec![writer]).await);
    assert!(delays.at(0.99) < took / 4, "p99 {:?} beside {took:?}", delays.at(0.99));
    hub.stop().await;
}

/// A run of transactions, large and small, of one kind and of both, whose order is known.
async fn write_mixed(database: &Database) -> (u64, u64) {
    let session = database.connect().await;
    let (mut fossils, mut others) = (0, 0);
    for transaction in 0..24 {
        let site = format!("t{transaction}");
        let (of_fossils, of_others) = match transaction % 8 {
            0 | 3 => (LARGE, 0),
            5 => (LARGE / 2, LARGE),
            6 => (0, LARGE),
            1 | 4 => (2, 3),
            2 => (0, 1),
            _ => (1, 0),
        };
        let statements = insert(&site, transaction, of_fossils) + &dinosaurs(&site, of_others);
        session.batch_execute(&statements).await.unwrap();
        fossils += of_fossils;
        others += of_others;
    }
    (fossils, others)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_stays_in_order_through_large_transactions_and_lost_connections() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 256 << 10;
    let hub = TestHub::start_with(settings, registry()).await;
    let mut live = Vec::new();
    let watch = |start| fossils(&hub, start);
    let (now, resumed) = (watch(Start::Now), watch(Start::After(Revision::ZERO)));
    let request =
        WatchDinosaursRequest { backpressure: BackpressurePolicy::CatchUp.into(), ..Default::default() };
    let mut events = hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner();
    let (written, expected) = tokio::sync::watch::channel(None);
    for watch in [now, resumed] {
        let mut expected = expected.clone();
        live.push(tokio::spawn(async move {
            let (count, _) = expected.wait_for(Option::is_some).await.unwrap().unwrap();
            read(watch, count).await
        }));
    }
    let others = tokio::spawn(async move {
        let mut expected = expected;
        let mut revisions: Vec<u64> = Vec::new();
        loop {
            let told = *expected.borrow_and_update();
            if let Some((_, count)) = told
                && revisions.len() as u64 == count
            {
                return revisions;
            }
            tokio::select! {
                event = events.message() => revisions.push(event.unwrap().unwrap().revision),
                Ok(()) = expected.changed() => {}
            }
        }
    });
    let enough = Arc::new(AtomicBool::new(false));
    let cuts = tokio::spawn(cut_connections(database.connect().await, enough.clone()));
    written.send_replace(Some(write_mixed(&database).await));
    let mut all = Vec::new();
    for reader in live {
        all.push(reader.await.unwrap());
    }
    let others = others.await.unwrap();
    enough.store(true, Ordering::Relaxed);
    println!("mixed: {} and {} events, {} cuts", all[0].len(), others.len(), cuts.await.unwrap());
    assert_eq!(all[0], all[1], "live or resumed, the same");
    assert!(all[0].is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "in the order of their transactions");
    assert!(others.is_sorted_by(|a, b| a < b), "once and in order");
    let mut numbers: Vec<_> = all[0].iter().map(|(revision, _)| *revision).chain(others).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=hub.metric("hub_head_revision", "") as u64), "every revision, once");
    hub.stop().await;
}

/// Ends the hub's sessions now and then. Returns how many times.
async fn cut_connections(session: trex::store::Driven, enough: Arc<AtomicBool>) -> u64 {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query ~ 'hub\\.(seal|log|change)' AND pid <> pg_backend_pid()";
    let mut cuts = 0;
    while !enough.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        session.query_one(cut, &[]).await.expect("a superuser");
        cuts += 1;
    }
    cuts
}
