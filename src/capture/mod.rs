//! From the bell to the log: the listener hears, the tailer seals, reads and publishes, the inspector looks after the triggers.

mod aside;
mod backoff;
mod compactor;
mod doorbell;
mod drain;
mod heard;
mod history;
mod inspector;
mod listener;
mod pace;
mod publish;
mod tailer;

use crate::{
    broker::EventBroker,
    health::Health,
    kind::Kinds,
    store::{Store, Target},
    telemetry::Metrics,
};
use heard::Heard;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use doorbell::{Doorbell, DoorbellState};

/// How the hub learns of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wakeups {
    /// Writers ring while the hub sleeps.
    Listen,
    /// The hub looks by itself: for transaction poolers, through which a session can neither LISTEN nor hold a lock.
    Poll,
}

/// How the capture runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How the hub learns of changes.
    pub wakeups: Wakeups,
    /// A sleeping hub looks by itself so often, in case that a bell was lost to a fault that nobody foresaw.
    pub backup_poll: Duration,
    /// Above this many transactions a second the hub looks by itself, and asks writers not to ring; below half of it, it sleeps again.
    pub busy_above: f64,
    /// What is kept.
    pub retention: Retention,
    /// How long a polling hub waits between looks while nothing happens.
    pub poll: Duration,
    /// How often the triggers are looked after.
    pub inspect: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            wakeups: Wakeups::Listen,
            backup_poll: Duration::from_millis(500),
            // From there on bells cost writers more than looking costs the hub.
            busy_above: 400.0,
            poll: Duration::from_millis(100),
            inspect: Duration::from_secs(10),
            retention: Retention {
                age: Duration::from_secs(24 * 3600),
                events: 10_000_000,
                imports: Duration::from_secs(7 * 24 * 3600),
                interval: Duration::from_secs(30),
            },
        }
    }
}

/// How much history is kept. Whatever is older than `age`, or has more than `events` after it, may go.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// By age.
    pub age: Duration,
    /// By size, in events.
    pub events: u64,
    /// Imports that have rested for so long are forgotten.
    pub imports: Duration,
    /// How often to look for what may go.
    pub interval: Duration,
}

/// What the capture works with.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub target: Target,
    /// For the inspector's short statements.
    pub store: Store,
    /// What is watched, and how it is encoded.
    pub kinds: Kinds,
    /// Where events go.
    pub broker: Arc<EventBroker>,
    /// Who is told whether the database is in sight.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where the tailer says how it waits.
    pub doorbell: Arc<Doorbell>,
}

/// The reader of the history being served.
type HistorySlot = Arc<parking_lot::Mutex<Option<Arc<history::HistoryReader>>>>;

/// Starts the tasks; they end when `stop` is cancelled.
pub fn spawn(parts: &Parts, settings: Settings, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let (heard, hears) = watch::channel(Heard::default());
    if settings.wakeups == Wakeups::Listen {
        tasks.spawn(listener::run(parts.target.clone(), parts.metrics.clone(), heard, stop.clone()));
    }
    let history = HistorySlot::default();
    tasks.spawn(tailer::Tailer::new(parts.clone(), settings, hears, history.clone()).run(stop.clone()));
    tasks.spawn(inspector::run(parts.clone(), settings.inspect, stop.clone()));
    tasks.spawn(compactor::run(parts.clone(), settings.retention, history, stop.clone()));
}
