//! The faults: what each does, for how long, and how it is made good.

use crate::{
    process::{Frozen, signal},
    proxy::{Flow, Proxy},
    watcher::Watcher,
    world::{Hub, World},
};
use fastrand::Rng;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio::time::sleep;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillHub,
    KillBothHubs,
    TerminateHub,
    StopHub,
    EndSessionsOfHub,
    KillPostgres,
    KillBackendOfHub,
    StopPostgres,
    StopBackendsOfHub,
    DelayDatabase,
    CutDatabase,
    BlackholeDatabase,
    DelayClients,
    CutClients,
    BlackholeClients,
    CutWriters,
    StallWatchers,
    StopClients,
    FillDisk,
    FillWal,
    StepClockOfHub,
    StepClockOfPostgres,
}

impl Fault {
    /// Those that happen to any world; the others need one that is made for them.
    pub const ALL: [Self; 19] = [
        Self::KillHub,
        Self::KillBothHubs,
        Self::TerminateHub,
        Self::StopHub,
        Self::EndSessionsOfHub,
        Self::KillPostgres,
        Self::KillBackendOfHub,
        Self::StopPostgres,
        Self::StopBackendsOfHub,
        Self::DelayDatabase,
        Self::CutDatabase,
        Self::BlackholeDatabase,
        Self::DelayClients,
        Self::CutClients,
        Self::BlackholeClients,
        Self::CutWriters,
        Self::StallWatchers,
        Self::StopClients,
        Self::FillDisk,
    ];
}

/// Faults with different subjects can happen at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Hubs,
    Postgres,
    Ways,
    Watchers,
}

impl Fault {
    fn subject(self) -> Subject {
        match self {
            Self::KillHub
            | Self::KillBothHubs
            | Self::TerminateHub
            | Self::StopHub
            | Self::StepClockOfHub => Subject::Hubs,
            Self::EndSessionsOfHub
            | Self::KillPostgres
            | Self::KillBackendOfHub
            | Self::StopPostgres
            | Self::StopBackendsOfHub
            | Self::FillDisk
            | Self::FillWal
            | Self::StepClockOfPostgres => Subject::Postgres,
            Self::DelayDatabase
            | Self::CutDatabase
            | Self::BlackholeDatabase
            | Self::DelayClients
            | Self::CutClients
            | Self::BlackholeClients
            | Self::CutWriters => Subject::Ways,
            Self::StallWatchers | Self::StopClients => Subject::Watchers,
        }
    }

    /// Whether both can happen at the same time.
    pub fn goes_with(self, other: Self) -> bool {
        self.subject() != other.subject()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

const SESSIONS: &str = "SELECT pid FROM pg_stat_activity WHERE usename = $1";
const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";
const EVERYBODY: &str = "SELECT pid FROM pg_stat_activity";
/// The sessions are chosen first: in one WHERE the server may end any.
const END_SESSIONS: &str = "WITH hub AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE usename = $1)
    SELECT pid FROM hub WHERE pg_terminate_backend(pid)";

/// How long a fault lasts.
fn spell(random: &mut Rng) -> Duration {
    Duration::from_millis(random.u64(200..1200))
}

/// Lets a fault happen. When this returns, its cause is gone; its effects may not be. `false`: it cannot
/// happen here.
pub async fn inject(fault: Fault, world: &World, watchers: &[Watcher], random: &mut Rng) -> bool {
    let hub = &world.hubs[random.usize(0..world.hubs.len())];
    match fault {
        Fault::KillHub => kill(hub, random).await,
        Fault::KillBothHubs => {
            let [one, other] = &world.hubs;
            let mut fork = random.fork();
            tokio::join!(kill(one, random), kill(other, &mut fork));
        }
        Fault::TerminateHub => {
            let status = hub.take().await.terminate().await;
            assert!(status.success(), "{}: {status} after SIGTERM", hub.name);
            hub.start().await;
        }
        Fault::StopHub => {
            let _frozen = Frozen::new(vec![hub.pid().await]);
            sleep(spell(random)).await;
        }
        Fault::EndSessionsOfHub => {
            for _ in 0..random.u8(1..4) {
                world.control.lock().await.numbers(END_SESSIONS, &[&hub.name]).await;
                sleep(Duration::from_millis(random.u64(0..400))).await;
            }
        }
        Fault::KillPostgres => {
            world.cluster.kill().await.expect("a kill");
            sleep(spell(random) / 2).await;
            world.cluster.restart().await.expect("a restart");
        }
        Fault::KillBackendOfHub => {
            // The postmaster ends all others and recovers.
            let mut control = world.control.lock().await;
            let pids = control.numbers(SESSIONS, &[&hub.name]).await;
            let Some(&pid) = random.choice(&pids) else { return false };
            signal("KILL", &[pid]);
            control.until_lost().await;
        }
        Fault::StopPostgres => stop_postgres(world, spell(random)).await,
        Fault::StopBackendsOfHub => {
            let pids = world.control.lock().await.numbers(SESSIONS, &[&hub.name]).await;
            let _frozen = Frozen::new(pids);
            sleep(spell(random)).await;
        }
        Fault::DelayDatabase => delay(&hub.database, random).await,
        Fault::CutDatabase => cut(&hub.database, random).await,
        Fault::BlackholeDatabase => blackhole(&hub.database, random).await,
        Fault::DelayClients => delay(&hub.clients, random).await,
        Fault::CutClients => cut(&hub.clients, random).await,
        Fault::BlackholeClients => blackhole(&hub.clients, random).await,
        Fault::CutWriters => {
            // So that acknowledgements of COMMITs are lost.
            world.writers.set(Flow::Clear, Flow::Blackhole);
            sleep(spell(random) / 4).await;
            cut(&world.writers, random).await;
        }
        Fault::StallWatchers => {
            let stalling = || watchers.iter().filter(|watcher| watcher.stalls);
            stalling().for_each(|watcher| watcher.stall(true));
            sleep(spell(random) + Duration::from_secs(1)).await;
            stalling().for_each(|watcher| watcher.stall(false));
        }
        Fault::StopClients => {
            let _frozen = Frozen::new(watchers.iter().filter_map(Watcher::process).collect());
            sleep(spell(random) + Duration::from_secs(1)).await;
        }
        Fault::FillWal => {
            let Some(disk) = &world.wal else { return false };
            let filler = disk.fill();
            world.control.lock().await.until_fallen().await;
            let log = std::fs::read_to_string(world.cluster.log_path()).expect("a log");
            assert!(log.contains("PANIC"), "it fell for another reason");
            sleep(spell(random)).await;
            drop(filler);
            world.cluster.restart().await.expect("a restart");
        }
        Fault::StepClockOfHub => {
            let Some([of_a, of_b, _]) = &world.clocks else { return false };
            let clock = if random.bool() { of_a } else { of_b };
            clock.step(offset(random)).await;
            sleep(spell(random)).await;
        }
        Fault::StepClockOfPostgres => {
            let Some([.., of_postgres]) = &world.clocks else { return false };
            let seconds = offset(random);
            of_postgres.step(seconds).await;
            let mut control = world.control.lock().await;
            let seen = control.client().await.query_one(CLOCK, &[]).await.expect("a time").get::<_, f64>(0);
            let since = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs_f64();
            assert!(
                (seen - since - seconds as f64).abs() < 60.0,
                "the step was not seen: {seen}, not {since} {seconds:+}"
            );
        }
        Fault::FillDisk => {
            let Some(disk) = &world.disk else { return false };
            let _filler = disk.fill();
            world.control.lock().await.until_full().await;
            sleep(spell(random)).await;
        }
    }
    true
}

/// The step of a clock, in seconds: hours, but too few to make the history too old to be kept.
fn offset(random: &mut Rng) -> i64 {
    random.i64(-10 * 3600..10 * 3600)
}

async fn kill(hub: &Hub, random: &mut Rng) {
    hub.take().await.kill().await;
    sleep(spell(random) / 2).await;
    hub.start().await;
}

async fn stop_postgres(world: &World, spell: Duration) {
    let postmaster = world.cluster.postmaster_pid().expect("a Postgres that runs");
    let mut control = world.control.lock().await;
    // There must be a session before the one is stopped who makes them; he is first, so that no backend is
    // missed.
    control.client().await;
    let mut frozen = Frozen::new(vec![postmaster]);
    frozen.add(control.numbers(EVERYBODY, &[]).await);
    sleep(spell).await;
}

async fn delay(way: &Proxy, random: &mut Rng) {
    let mut flow = || match random.u64(0..120) {
        0..20 => Flow::Clear,
        delay => Flow::Delayed(Duration::from_millis(delay)),
    };
    way.set(flow(), flow());
    sleep(spell(random)).await;
    way.clear();
}

/// Once, or for a while.
async fn cut(way: &Proxy, random: &mut Rng) {
    way.refuse(random.bool());
    for _ in 0..random.u8(1..4) {
        way.cut();
        sleep(Duration::from_millis(random.u64(0..300))).await;
    }
    way.clear();
}

/// One direction or both; afterwards the connections go on, or are cut.
async fn blackhole(way: &Proxy, random: &mut Rng) {
    let (up, down) = match random.u8(0..3) {
        0 => (Flow::Blackhole, Flow::Clear),
        1 => (Flow::Clear, Flow::Blackhole),
        _ => (Flow::Blackhole, Flow::Blackhole),
    };
    way.set(up, down);
    sleep(spell(random)).await;
    if random.bool() {
        way.cut();
    }
    way.clear();
}
