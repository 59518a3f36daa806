//! Many writers at once, through spells of load and of calm, with every watcher put through every validator.
//! The hub's back-up timer is set to an hour, so that a wake-up that is lost is a test that fails.
//!
//! Longer runs: `TREX_STRESS_ROWS`; the same run again: `TREX_SEED`, which every run prints.

mod bells;
mod faults;
mod rivals;

use crate::support::{
    Database, PATIENCE, TestHub,
    history::{End, History, Journal, Row, Stream, Transaction},
    recorder::{Progress, Recorder, SENTINEL, record_reconnecting},
    until, until_sql, until_true,
    validators::validate,
    writer::{MARKS, Open, Verb, Writer, session},
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::Client;
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{EventType, WatchDinosaursRequest},
};

const WRITERS: usize = 16;
const CYCLES: u64 = 5;
/// Rows that all writers update.
const SHARED: usize = 5;

pub(super) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The generator of a run; printed, so that the run can be made again.
pub(super) fn random(test: &str) -> fastrand::Rng {
    let seed = number("TREX_SEED", fastrand::u64(..));
    println!("{test}: TREX_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A hub that only a bell wakes.
async fn sleeper(database: &Database) -> TestHub {
    let mut settings = Settings::new(database.target());
    settings.capture.backup_poll = Duration::from_secs(3600);
    // Also on a slow machine the writers reach it.
    settings.capture.busy_above = 150.0;
    TestHub::start_with(settings, Registry::of_this_program()).await
}

/// The session of the test itself, which writes what is not random.
pub(super) struct Control {
    url: String,
    pub(super) client: Client,
    pub(super) journal: Vec<Transaction>,
}

impl Control {
    pub(super) async fn new(database: &Database) -> Self {
        let client = session(database.url()).await.expect("a session");
        client.batch_execute(MARKS).await.expect("a table");
        Self { url: database.url().to_owned(), client, journal: Vec::new() }
    }

    pub(super) async fn reconnect(&mut self) {
        self.client = session(&self.url).await.expect("a session");
    }

    fn name(&self) -> String {
        format!("control-{}", self.journal.len())
    }

    /// One transaction.
    pub(super) async fn write(&mut self, statements: &[(Verb, &[String])]) {
        let mut open = Open::begin(&self.client, self.name()).await.expect("BEGIN");
        for (verb, ids) in statements {
            open.run(*verb, ids).await.expect("a change");
        }
        self.journal.push(open.commit().await);
    }

    /// The last transaction: also those whose writers hung up are over by then.
    pub(super) async fn write_sentinel(&mut self) {
        let rest = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'writer'
                    AND datname = current_database()
            AND state <> 'idle' AND pid <> pg_backend_pid()";
        until_sql(&self.client, "every writer ends", rest, &[]).await;
        let ids = [SENTINEL.to_owned()];
        self.write(&[(Verb::Insert, &ids), (Verb::Update, &ids), (Verb::Delete, &ids)]).await;
    }

    /// Whether a hub says that it needs no bell.
    async fn is_busy(&self) -> bool {
        let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1953654136
                     AND objid = 2
            AND mode = 'ExclusiveLock' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        self.client.query_one(sql, &[]).await.expect("locks").get(0)
    }

    pub(super) async fn until_busy(&self, wanted: bool) {
        let what = if wanted { "the hub becomes busy" } else { "the hub becomes calm" };
        until_true(what, async || self.is_busy().await == wanted).await;
    }

    /// The journals of all writers, with the outcomes that they could not know and the table as it is.
    pub(super) async fn journal(&mut self, writers: Vec<Writer>) -> Journal {
        let mut journal = Journal { transactions: std::mem::take(&mut self.journal), ..Journal::default() };
        journal.transactions.extend(writers.into_iter().flat_map(|writer| writer.journal));
        let marks = self.client.query("SELECT mark FROM marks", &[]).await.expect("marks");
        journal.resolve(&marks.iter().map(|row| row.get(0)).collect::<HashSet<String>>());
        let table = "SELECT id, species, (extract(epoch FROM updated_at) * 1000000)::bigint FROM dinosaurs";
        let rows = self.client.query(table, &[]).await.expect("rows");
        journal.table =
            rows.iter().map(|row| (row.get(0), Row::new(row.get::<_, String>(1), row.get(2)))).collect();
        journal
    }
}

/// The watchers of a run.
struct Watchers {
    recorders: Vec<Recorder>,
    reconnecting: JoinHandle<Vec<Stream>>,
}

impl Watchers {
    async fn start(hub: &TestHub, shared: &[String], random: &mut fastrand::Rng) -> Self {
        let plain = WatchDinosaursRequest::default;
        let typed = |types: &[EventType]| WatchDinosaursRequest {
            types: types.iter().map(|&number| number.into()).collect(),
            ..plain()
        };
        let of = |more: &[&str]| WatchDinosaursRequest {
            resource_ids: shared.iter().cloned().chain(more.iter().map(|&id| id.to_owned())).collect(),
            ..plain()
        };
        let mut recorders = Vec::new();
        for (name, request) in [
            ("plain", plain()),
            ("created", typed(&[EventType::Created])),
            ("updated and deleted", typed(&[EventType::Updated, EventType::Deleted])),
            ("of some", of(&[SENTINEL])),
            ("with previous", WatchDinosaursRequest { include_previous: true, ..plain() }),
            ("until shutdown", of(&[])),
        ] {
            recorders.push(Recorder::start(hub.client().await, name, request).await);
        }
        let most = random.u64(500..5000);
        let reconnecting = tokio::spawn(record_reconnecting(hub.client().await, most, random.fork()));
        Self { recorders, reconnecting }
    }

    fn plain(&self) -> &Recorder {
        &self.recorders[0]
    }

    /// After the sentinel: all streams but the one that only the hub ends.
    async fn finish(mut self) -> (History, Recorder) {
        let last = self.recorders.pop().expect("the one until shutdown");
        let mut history = History::default();
        for recorder in self.recorders {
            history.streams.push(recorder.finish().await);
        }
        history.streams.extend(self.reconnecting.await.expect("a recorder that does not panic"));
        (history, last)
    }
}

pub(super) fn shared_ids() -> Vec<String> {
    (0..SHARED).map(|number| format!("shared-{number}")).collect()
}

pub(super) fn writers(database: &Database, random: &mut fastrand::Rng) -> Vec<Writer> {
    (0..WRITERS)
        .map(|number| Writer::new(&format!("w{number}"), database.url(), &shared_ids(), random.fork()))
        .collect()
}

/// Writers at work, until they are told that it is enough.
pub(super) struct Load {
    rows: Arc<AtomicU64>,
    enough: Arc<AtomicBool>,
    tasks: JoinSet<Writer>,
}

impl Load {
    pub(super) fn start(writers: Vec<Writer>) -> Self {
        let mut load = Self { rows: Arc::default(), enough: Arc::default(), tasks: JoinSet::new() };
        for mut writer in writers {
            let (rows, enough) = (load.rows.clone(), load.enough.clone());
            load.tasks.spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    writer.write().await;
                    let written = writer.journal.last().filter(|last| last.is_committed());
                    let changes = written.map_or(0, |last| last.changes().count());
                    rows.fetch_add(changes as u64, Ordering::Relaxed);
                }
                writer
            });
        }
        load
    }

    /// How many committed changes there are.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(super) async fn until_rows(&self, rows: u64) {
        until("enough rows", || self.rows() >= rows).await;
    }

    pub(super) async fn stop(self) -> Vec<Writer> {
        self.enough.store(true, Ordering::Relaxed);
        self.tasks.join_all().await
    }
}

const RINGS: &str = "hub_doorbell_rings_total";
const SKIPS: &str = "hub_doorbell_skips_total";

#[tokio::test(flavor = "multi_thread")]
async fn every_change_comes_once_and_in_order_through_load_and_calm() {
    let started = Instant::now();
    let mut random = random("stress");
    let rows = number("TREX_STRESS_ROWS", 50_000);
    let database = Database::create().await;
    let hub = sleeper(&database).await;
    let mut control = Control::new(&database).await;
    let watchers = Watchers::start(&hub, &shared_ids(), &mut random).await;
    control.write(&[(Verb::Insert, &shared_ids())]).await;

    let mut writers = writers(&database, &mut random);
    for cycle in 0..CYCLES {
        let skips = hub.metric(SKIPS, "");
        let load = Load::start(writers);
        let straggler = session(database.url()).await.expect("a session");
        let straggler = straggle(&straggler, &control, cycle).await;
        load.until_rows(rows.div_ceil(CYCLES)).await;
        until("changes without a bell", || hub.metric(SKIPS, "") > skips).await;
        writers = load.stop().await;

        control.until_busy(false).await;
        // While the hub owes it a look, and also after the time for which it waits for every transaction.
        tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
        let straggler = straggler.commit().await;
        let last = straggler.changes().last().expect("a change").key();
        watchers
            .plain()
            .until("the straggler's event", |progress| progress.last.as_ref() == Some(&last))
            .await;
        control.journal.push(straggler);
        ring(&hub, &mut control, watchers.plain()).await;
    }
    control.write_sentinel().await;
    let skips = hub.metric(SKIPS, "");
    let rings = hub.metric(RINGS, "");
    check(hub, watchers, control, writers, rows).await;
    println!("stress: {CYCLES} cycles, {rings} bells rung, {skips} skipped, {:?}", started.elapsed());
}

/// A transaction that saw the hub busy, and so rang no bell, and stays open when the load is over.
async fn straggle<'a>(client: &'a Client, control: &Control, cycle: u64) -> Open<'a> {
    for attempt in 0.. {
        control.until_busy(true).await;
        let name = format!("straggler-{cycle}-{attempt}");
        let mut open = Open::begin(client, name.clone()).await.expect("BEGIN");
        open.run(Verb::Insert, &[name]).await.expect("a change");
        if control.is_busy().await {
            return open;
        }
        open.roll_back().await.expect("ROLLBACK");
    }
    unreachable!("until_busy gives up first")
}

/// In a calm, each transaction rings and is seen at once.
async fn ring(hub: &TestHub, control: &mut Control, plain: &Recorder) {
    for _ in 0..3 {
        let rings = hub.metric(RINGS, "");
        let id = control.name();
        control.write(&[(Verb::Insert, std::slice::from_ref(&id))]).await;
        let key = control.journal.last().expect("it").changes().last().expect("a change").key();
        plain.until("an event in the calm", |progress: &Progress| progress.last.as_ref() == Some(&key)).await;
        until("a bell", || hub.metric(RINGS, "") > rings).await;
    }
}

/// Puts everything that was recorded through the validators.
async fn check(hub: TestHub, watchers: Watchers, mut control: Control, writers: Vec<Writer>, rows: u64) {
    let (mut history, until_shutdown) = watchers.finish().await;
    hub.stop().await;
    let ended = until_shutdown.ended().await;
    assert!(matches!(ended.end, End::Hub { .. }), "{:?}", ended.end);
    history.streams.push(ended);
    let journal = control.journal(writers).await;
    let plain = &history.streams[0];
    for (event, revision) in plain.events.iter().zip(plain.headers.revision + 1..) {
        assert_eq!(event.revision, revision, "revisions of the only kind are contiguous");
    }
    assert!(plain.events.len() as u64 >= rows, "{} events", plain.events.len());
    let streams = history.streams.len();
    let received: usize = history.streams.iter().map(|stream| stream.events.len()).sum();
    let resolved =
        journal.committed().filter(|(_, transaction)| transaction.acknowledged().is_none()).count();
    println!(
        "{} transactions ({} committed, {resolved} of them known by their marks), {} changes; {received} \
         events on {streams} streams",
        journal.transactions.len(),
        journal.committed().count(),
        plain.events.len(),
    );
    validate(&history, &journal);
}
