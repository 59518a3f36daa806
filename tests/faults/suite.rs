//! A run: one world, writers and watchers all the time, one fault after the other, and at the end every
//! validator.

use crate::{
    faults::{Fault, inject},
    lister::{self, Lister},
    load::{Burst, Load, shared_ids},
    support::PATIENCE,
    support::{
        history::{Evidence, History, Journal, Stream, Transaction},
        recorder::SENTINEL,
        validators::validate,
        writer::Verb,
    },
    trail,
    watcher::{By, Plan, Recording, Watcher},
    world::{Hub, World},
};
use fastrand::Rng;
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::Write,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use trex::proto::rh_trex::v1::{BackpressurePolicy, WatchDinosaursRequest};

/// Between two faults, at most.
const CALM: Duration = Duration::from_millis(600);

/// Says something to whoever runs the tests, also when they succeed.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What some runs have shown.
#[derive(Debug, Default)]
pub struct Report {
    pub runs: usize,
    /// How often each came, and the longest time from the end of its cause until every watcher had
    /// everything.
    pub faults: BTreeMap<Fault, (usize, Duration)>,
    transactions: usize,
    changes: usize,
    /// Commits whose acknowledgement was lost.
    unknown: usize,
    streams: usize,
    /// Initial states.
    lists: usize,
    events: usize,
    longest_recovery: Duration,
    /// From the acknowledgement of a commit to its event, between recovery and the next fault.
    longest_delay: Duration,
    elapsed: Duration,
}

impl Report {
    pub fn count(&self) -> usize {
        self.faults.values().map(|(count, _)| count).sum()
    }

    fn note(&mut self, fault: Fault, recovery: Duration) {
        let (count, longest) = self.faults.entry(fault).or_default();
        *count += 1;
        *longest = recovery.max(*longest);
        self.longest_recovery = recovery.max(self.longest_recovery);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "faults: {} runs, {} faults (", self.runs, self.count())?;
        for (number, (fault, (count, longest))) in self.faults.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(out, "{comma}{fault} {count} in {:.1} s", longest.as_secs_f32())?;
        }
        write!(
            out,
            "); {} transactions, {} changes, {} lost acknowledgements; {} events on {} streams, {} lists; \
             longest recovery {:.2} s, longest delay \
             after it {:.3} s; {:.0} s in all",
            self.transactions,
            self.changes,
            self.unknown,
            self.events,
            self.streams,
            self.lists,
            self.longest_recovery.as_secs_f32(),
            self.longest_delay.as_secs_f32(),
            self.elapsed.as_secs_f32()
        )
    }
}

/// One run of this many faults, drawn from a seed: every kind comes once before any comes again.
pub async fn run(seed: u64, faults: usize, report: &mut Report) {
    say(&format!("faults: TREX_SEED={seed} TREX_FAULTS={faults}"));
    let mut random = Rng::with_seed(seed);
    let drawn = draw(faults, &mut random);
    let world = World::start(&format!("seed-{seed}")).await;
    run_these(world, drawn, random, report).await;
}

/// One run of these faults.
pub async fn run_these(world: World, mut faults: VecDeque<Fault>, mut random: Rng, report: &mut Report) {
    let started = Instant::now();
    let watchers = watch(&world);
    for watcher in &watchers {
        watcher.until_connected().await;
    }
    let shared = shared_ids();
    assert!(world.control.lock().await.write("shared", &[(Verb::Insert, &shared)]).await);
    let (load, lister) = (Load::start(&world, &mut random), Lister::start(&world));
    let (mut transactions, mut calms) = (Vec::new(), vec![Calm::from_now()]);
    while let Some(fault) = faults.pop_front() {
        let mut now = vec![fault];
        if random.u8(0..4) == 0
            && let Some(place) = faults.iter().position(|other| other.goes_with(fault))
        {
            now.extend(faults.remove(place));
        }
        // Half of them under a load in which a hub asks for no bells; a full disk is felt by who writes.
        let burst = (random.bool() || now.contains(&Fault::FillDisk)).then(|| Burst::start(&world));
        if let Some(burst) = &burst {
            timeout(*PATIENCE, burst.until_going()).await.expect("a database that works");
        }
        calms.last_mut().expect("one").until = Some(Instant::now());
        let happened = happen(&now, &world, &watchers, &mut random).await;
        let ended = Instant::now();
        let (beacon, _) = timeout(*PATIENCE, world.beacon()).await.expect("a database that came back");
        if let Some(burst) = burst {
            transactions.extend(timeout(*PATIENCE, burst.stop()).await.expect("writers that end"));
        }
        for watcher in &watchers {
            if timeout(*PATIENCE, watcher.until_beacon(beacon)).await.is_err() {
                panic!("{now:?}: {} has not caught up within {:?}", watcher.name, *PATIENCE);
            }
        }
        println!("{happened:?}: everybody had everything after {:?}", ended.elapsed());
        happened.into_iter().for_each(|fault| report.note(fault, ended.elapsed()));
        calms.push(Calm::from_now());
        tokio::time::sleep(CALM.mul_f32(random.f32())).await;
    }
    transactions.extend(timeout(*PATIENCE, load.stop()).await.expect("writers that end"));
    let lists = timeout(*PATIENCE, lister.stop()).await.expect("a lister that ends");
    let (journal, unknown) = finish(&world, transactions).await;
    let mut recordings = Vec::new();
    for watcher in watchers {
        let name = watcher.name;
        let recording = timeout(*PATIENCE, watcher.finish()).await;
        recordings.push(recording.unwrap_or_else(|_| panic!("{name}: the sentinel did not come")));
    }
    let trail = timeout(*PATIENCE, trail::of(&world)).await.expect("an audit trail that is complete");
    world.stop().await;
    check(&recordings, trail, &journal, &calms, report);
    report.lists += lists.len();
    lister::check(lists, &recordings[0].whole());
    report.runs += 1;
    report.unknown += unknown;
    report.elapsed += started.elapsed();
}

/// Lets one fault or two happen at once. Returns which did.
async fn happen(faults: &[Fault], world: &World, watchers: &[Watcher], random: &mut Rng) -> Vec<Fault> {
    let one = async |fault| {
        let mut random = Rng::with_seed(random.get_seed() ^ fault as u64);
        timeout(*PATIENCE, inject(fault, world, watchers, &mut random)).await
    };
    let mut happened = Vec::new();
    for (&fault, outcome) in faults.iter().zip(join_all(faults.iter().map(|&fault| one(fault))).await) {
        if outcome.unwrap_or_else(|_| panic!("{fault} takes too long")) {
            happened.push(fault);
        }
    }
    happened
}

fn draw(count: usize, random: &mut Rng) -> VecDeque<Fault> {
    let mut drawn = VecDeque::new();
    while drawn.len() < count {
        let mut deck = Fault::ALL;
        random.shuffle(&mut deck);
        drawn.extend(deck);
    }
    drawn.truncate(count);
    drawn
}

/// The watchers: of one hub and of both in turn, through the proxies that faults happen to and not, readers
/// and stallers.
fn watch(world: &World) -> Vec<Watcher> {
    let [a, b] = &world.hubs;
    let plain = |hub: &Hub| hub.plain.address.to_string();
    let exposed = |hub: &Hub| hub.clients.address.to_string();
    let catch_up = WatchDinosaursRequest {
        backpressure: BackpressurePolicy::CatchUp.into(),
        ..WatchDinosaursRequest::default()
    };
    let reader = |name, addresses| Plan {
        name,
        addresses,
        request: catch_up.clone(),
        stalls: false,
        by: By::Generated,
    };
    let staller = |name, addresses| Plan { stalls: true, ..reader(name, addresses) };
    let client = |name, addresses| Plan { by: By::Client, ..reader(name, addresses) };
    let program = |name, addresses| Plan { by: By::Program, ..reader(name, addresses) };
    let with_previous = WatchDinosaursRequest { include_previous: true, ..catch_up.clone() };
    let dropping =
        WatchDinosaursRequest { backpressure: BackpressurePolicy::Drop.into(), ..catch_up.clone() };
    [
        reader("of hub a", vec![plain(a)]),
        reader("of hub b, exposed", vec![exposed(b)]),
        reader("of both", vec![plain(a), plain(b)]),
        Plan {
            request: with_previous,
            ..reader("of both, exposed, with previous", vec![exposed(b), exposed(a)])
        },
        client("client of hub a, exposed", vec![exposed(a)]),
        client("client of hub b", vec![plain(b)]),
        program("program of hub a, exposed", vec![exposed(a)]),
        program("program of hub b", vec![plain(b)]),
        staller("staller of hub a", vec![plain(a)]),
        staller("staller of both, exposed", vec![exposed(b), exposed(a)]),
        Plan { request: dropping, ..staller("staller that loses", vec![exposed(a), plain(b)]) },
    ]
    .map(Watcher::start)
    .into()
}

/// After the writers: the sentinel, and what they could not know.
async fn finish(world: &World, transactions: Vec<Transaction>) -> (Journal, usize) {
    let mut control = world.control.lock().await;
    timeout(*PATIENCE, control.until_writers_are_done()).await.expect("sessions that end");
    let ids = [SENTINEL.to_owned()];
    let sentinel: [(Verb, &[String]); 3] = [(Verb::Insert, &ids), (Verb::Update, &ids), (Verb::Delete, &ids)];
    assert!(control.write("sentinel", &sentinel).await, "there is no fault any more");
    control.resolve(transactions).await
}

fn check(recordings: &[Recording], trail: Stream, journal: &Journal, calms: &[Calm], report: &mut Report) {
    let mut history = History { streams: vec![trail] };
    for recording in recordings {
        history.streams.extend(recording.streams.iter().cloned());
        report.streams += recording.streams.len();
        report.events += recording.arrivals.len();
        history.streams.push(recording.whole());
    }
    report.transactions += journal.committed().count();
    report.changes +=
        journal.committed().map(|(_, transaction)| transaction.changes().count()).sum::<usize>();
    validate(&history, journal);
    let evidence = Evidence::new(&history, journal);
    for recording in recordings {
        let events = recording.streams.iter().flat_map(|stream| &stream.events);
        for (event, &arrival) in events.zip(&recording.arrivals) {
            let entry = evidence.entry(event).expect("a change that a writer knows");
            let Some(committed) = evidence.transaction(entry).acknowledged() else { continue };
            if calms.iter().any(|calm| calm.includes(committed, arrival)) {
                report.longest_delay = report.longest_delay.max(arrival.saturating_duration_since(committed));
            }
        }
    }
}

/// From a recovery to the next fault.
struct Calm {
    since: Instant,
    until: Option<Instant>,
}

impl Calm {
    fn from_now() -> Self {
        Self { since: Instant::now(), until: None }
    }

    fn includes(&self, committed: Instant, arrival: Instant) -> bool {
        committed >= self.since && self.until.is_none_or(|until| arrival <= until)
    }
}
