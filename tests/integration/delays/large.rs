//! A large transaction of one kind, and what its neighbours wait for it. Longer: `TREX_TEST_LARGE`, in rows.

use super::*;
use crate::{
    stress::{Control, number, random},
    support::{
        Database, PATIENCE,
        fossil::{Fossils, fossil_kind, messages},
        history::History,
        recorder::Recorder,
        validators::validate,
        writer::Writer,
    },
};
use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::{sync::watch, task::JoinHandle};
use trex::{
    app::Settings,
    broker::{Interest, Policy, SchemaInterest, Step, Subscription},
    catalog::Kind,
    faces::grpc::Grpc,
    faces::{Registry, ServedKind, dinosaurs::Dinosaurs},
    model::{Revision, Selector, Start},
    proto::rh_trex::v1::BackpressurePolicy,
    service::UseCases,
    store::Migration,
    wire::Rendition,
};

/// The number of the last transaction.
const LAST: u64 = 1_000_000;
/// More rows than are read in the tailer's way.
const LARGE: u64 = 15_000;
/// How often connections are lost, at most.
const CUTS: u64 = 12;
/// Between two transactions of a trickle.
const BEAT: Duration = Duration::from_millis(3);

fn registry() -> Registry {
    Registry::new(vec![Arc::new(Dinosaurs), Arc::new(Fossils)])
}

/// More fossils, in a table of their own: a third kind.
struct Bones;

impl ServedKind for Bones {
    fn kind(&self) -> Kind {
        const MIGRATIONS: &[Migration] = &[Migration {
            version: 1,
            name: "bones",
            sql: "CREATE TABLE public.bones (LIKE public.fossils INCLUDING ALL)",
        }];
        fossil_kind("Bone", "public.bones", MIGRATIONS)
    }

    fn serve(&self, _: &UseCases, _: &mut Grpc) {}
}

fn subscribe(hub: &TestHub, kind: &str, start: Start) -> Subscription {
    let interest = Interest {
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
    hub.app().broker().era().unwrap().topic(kind).unwrap().subscribe(start, interest).unwrap()
}

/// A fossil's event: its revision and the note, which says in which transaction it was written.
type Noted = (u64, u64);

/// Reads up to and with an event of this kind's last transaction.
async fn read(mut watch: Subscription, read: watch::Sender<Vec<Noted>>) {
    while read.borrow().last().is_none_or(|(_, transaction)| *transaction != LAST) {
        let step = tokio::time::timeout(*PATIENCE, poll_fn(|cx| watch.poll_next(cx))).await;
        let Step::Frames(frames) = step.unwrap_or_else(|_| panic!("{} came", read.borrow().len())) else {
            panic!("ended after {} events", read.borrow().len())
        };
        let noted = messages(&frames).into_iter().map(|event| {
            let note = event.fossil.and_then(|fossil| fossil.note).expect("a note");
            (event.revision, note.parse().expect("a number"))
        });
        read.send_modify(|read| read.extend(noted));
    }
}

/// Reads in a task of its own.
fn reader(watch: Subscription) -> (watch::Receiver<Vec<Noted>>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(Vec::new());
    (receiver, tokio::spawn(read(watch, sender)))
}

fn insert(table: &str, site: &str, transaction: u64, rows: u64) -> String {
    format!(
        "INSERT INTO {table} (site, number, note) SELECT '{site}', n, '{transaction}'
         FROM generate_series(1, {rows}) n;"
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
    let (mut read, reader) = reader(subscribe(&hub, "Fossil", Start::Now));
    let reads = read.clone();

    let session = database.connect().await;
    session.batch_execute(&insert("fossils", "large", 0, rows)).await.unwrap();
    let committed = Instant::now();
    // Those of the same kind wait for it, and come after it.
    let all_of_it = async {
        let _ = read.wait_for(|read| read.len() as u64 >= rows).await;
        committed.elapsed()
    };
    let after = async {
        let mut beat = tokio::time::interval(BEAT);
        for transaction in 1.. {
            beat.tick().await;
            session
                .batch_execute(&insert("fossils", &format!("small-{transaction}"), transaction, 1))
                .await
                .unwrap();
            if reads.borrow().last().is_some_and(|(_, last)| *last >= 20) {
                return transaction;
            }
        }
        unreachable!("it is stopped before the numbers end")
    };
    let (took, last) = tokio::join!(all_of_it, after);
    session.batch_execute(&insert("fossils", "last", LAST, 1)).await.unwrap();
    reader.await.unwrap();
    let read = reads.borrow().clone();
    enough.store(true, Ordering::Relaxed);
    let writer = writer.await.unwrap();
    control.write_sentinel().await;

    assert!(read.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "in the order of their transactions");
    let of_each = read.iter().map(|(_, transaction)| *transaction);
    let expected = std::iter::repeat_n(0, rows as usize).chain(1..=last).chain([LAST]);
    assert!(of_each.eq(expected), "each, and once");
    let large = Revision::new(read[rows as usize - 1].0);
    assert_eq!(large.get() - read[0].0, rows - 1, "a transaction's events stay together");
    let beside = writer.journal.iter().filter(|transaction| transaction.commit_sent.unwrap() > committed);
    let delays = arrivals.delays(beside.filter(|t| t.commit_sent.unwrap() < committed + took)).await;
    println!("large: {rows} rows took {took:.1?} to the last event; beside it: {delays}");
    let history = History { streams: vec![recorder.finish().await] };
    validate(&history, &control.journal(vec![writer]).await);
    assert!(delays.at(0.99) < took / 2, "p99 {:?} beside {took:?}", delays.at(0.99));
    hub.stop().await;
}

/// A run of transactions, large and small, of one kind and of several, whose order is known. Returns how many
/// events of dinosaurs there are.
async fn write_mixed(database: &Database) -> u64 {
    let session = database.connect().await;
    let mut others = 0;
    for transaction in 0..24 {
        let site = format!("t{transaction}");
        let (of_fossils, of_bones, of_others) = match transaction % 8 {
            0 | 3 => (LARGE, 0, 0),
            5 => (LARGE / 2, 1, LARGE),
            6 => (0, LARGE, LARGE),
            1 => (2, 0, 3),
            2 => (0, LARGE, 1),
            4 => (LARGE, LARGE, 0),
            _ => (1, 1, 0),
        };
        let statements = insert("fossils", &site, transaction, of_fossils)
            + &insert("bones", &site, transaction, of_bones)
            + &dinosaurs(&site, of_others);
        session.batch_execute(&statements).await.unwrap();
        others += of_others;
    }
    let last = ["fossils", "bones"].map(|table| insert(table, "last", LAST, 1));
    session.batch_execute(&last.concat()).await.unwrap();
    others
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_stays_in_order_through_large_transactions_and_lost_connections() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 256 << 10;
    let kinds: [Arc<dyn ServedKind>; 3] = [Arc::new(Dinosaurs), Arc::new(Fossils), Arc::new(Bones)];
    let hub = TestHub::start_with(settings, Registry::new(kinds.into())).await;
    let streams = [("Fossil", Start::Now), ("Fossil", Start::After(Revision::ZERO)), ("Bone", Start::Now)];
    let live = streams.map(|(kind, start)| reader(subscribe(&hub, kind, start)));
    let request =
        WatchDinosaursRequest { backpressure: BackpressurePolicy::CatchUp.into(), ..Default::default() };
    let mut events = hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner();
    let (written, mut expected) = watch::channel(None);
    let others = tokio::spawn(async move {
        let mut revisions: Vec<u64> = Vec::new();
        loop {
            let told = *expected.borrow_and_update();
            if told == Some(revisions.len() as u64) {
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
    for (read, reader) in live {
        reader.await.unwrap();
        all.push(read.borrow().clone());
    }
    let others = others.await.unwrap();
    enough.store(true, Ordering::Relaxed);
    let [fossils, resumed, bones] = &all[..] else { panic!("three streams") };
    println!(
        "mixed: {}, {}, {} events; {} cuts",
        fossils.len(),
        bones.len(),
        others.len(),
        cuts.await.unwrap()
    );
    assert_eq!(fossils, resumed, "live or resumed, the same");
    for of_kind in [fossils, bones] {
        assert!(of_kind.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "in the order of their transactions");
    }
    assert!(others.is_sorted_by(|a, b| a < b), "once and in order");
    let mut numbers: Vec<_> =
        fossils.iter().chain(bones).map(|(revision, _)| *revision).chain(others).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=hub.metric("hub_head_revision", "") as u64), "every revision, once");
    hub.stop().await;
}

/// Ends the hub's sessions now and then, but not for ever: on a slow machine it must get on. Returns how many
/// times.
async fn cut_connections(session: trex::store::Driven, enough: Arc<AtomicBool>) -> u64 {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query ~ 'hub\\.(seal|log|change)' AND pid <> pg_backend_pid()";
    let mut cuts = 0;
    while cuts < CUTS && !enough.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        session.query_one(cut, &[]).await.expect("a superuser");
        cuts += 1;
    }
    cuts
}
