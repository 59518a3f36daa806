//! From the database to the log in memory: the listener hears, the tailer seals, reads and publishes; history, states and batches are read
//! beside it.

mod history;
pub mod reader;
mod replay;
mod sealed;
pub mod snapshot;

use crate::{
    broker::EventBroker,
    catalog::Catalog,
    health::Health,
    store::{Store, Target},
    telemetry::Metrics,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use replay::Replay;
pub use sealed::{Doorbell, DoorbellState};

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
    /// Where the log is read by those who do not follow it.
    pub replay: Replay,
    /// For the inspector's short statements.
    pub store: Store,
    /// What is watched, and how it is encoded.
    pub catalog: Catalog,
    /// Where events go.
    pub broker: Arc<EventBroker>,
    /// Who is told whether the database is in sight.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where the tailer says how it waits.
    pub doorbell: Arc<Doorbell>,
    /// Rung when the attached tables are to be looked at.
    pub tables: Arc<Notify>,
}

/// The reader of the history being served.
pub(crate) type HistorySlot = Arc<parking_lot::Mutex<Option<Arc<history::HistoryReader>>>>;

/// Starts the tasks; they end when `stop` is cancelled. Returns where the reader of the history stands that is being served.
pub(crate) fn spawn(
    parts: &Parts,
    settings: Settings,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> HistorySlot {
    let history = HistorySlot::default();
    sealed::spawn(parts, settings, history.clone(), stop, tasks);
    history
}
