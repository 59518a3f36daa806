//! The one reader of the log: from the database to the log in memory.
//!
//! A [`Feed`] is a source of the log. The tailer follows it, and publishes what it finds; history, states,
//! batches and controllers read, independently of the tailer, what was sealed before.

mod aside;
mod history;
mod publish;
pub mod reader;
mod replay;
mod sealed;
pub mod snapshot;
mod tailer;

use crate::{
    broker::EventBroker,
    catalog::Catalog,
    health::Health,
    model::Revision,
    store::{HubConnection, LogPosition, SealError, Sealed, SealedRow, Store, TableSnapshot, Target},
    telemetry::Metrics,
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use replay::Replay;
pub use sealed::{Doorbell, DoorbellState, SealedFeed};

/// A source of the log: a sequence of events that is numbered without gaps, and means the same at every
/// reading as long as its epoch is the same.
#[async_trait]
pub trait Feed: Send + Sync {
    /// Starts the tasks that the source needs. They end when `stop` is cancelled.
    fn attend(&self, stop: &CancellationToken, tasks: &mut JoinSet<()>);

    /// Begins to follow the log. After any failure of a tail another one is begun, which finds what was
    /// missed meanwhile.
    async fn follow(&self) -> Result<Box<dyn Tail>, SealError>;

    /// The reader of sealed pages, for everybody else.
    fn replay(&self) -> &Replay;

    /// A table exactly as it was at a revision of this log. `limit` bounds how long it may be read.
    async fn snapshot(&self, kind: &str, limit: Duration) -> Result<TableSnapshot, SealError>;
}

/// The end of a log, for its follower, who waits, reads, publishes and reports it, in turn.
#[async_trait]
pub trait Tail: Send {
    /// The connection on which the log is read.
    fn log(&self) -> &HubConnection;

    /// The newest revision, once everything that was committed before has one.
    async fn head(&mut self) -> Result<Sealed, SealError>;

    /// Waits until it is time to look for news, for a follower that has read up to a revision. Cancel safe.
    async fn wait(&mut self, position: Revision);

    /// Numbers what was committed, and reads a page after a position, which moves on. There may be more up to
    /// the returned head, and the page may reach beyond it: other hubs number events too.
    async fn next(&mut self, position: &mut LogPosition) -> Result<(Sealed, Vec<SealedRow>), SealError>;

    /// Reports that everything found by the last look is published. How long that took may decide when to
    /// look again.
    async fn done(&mut self) -> Result<(), SealError>;
}

/// How the hub learns of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wakeups {
    /// Writers ring while the hub sleeps.
    Listen,
    /// The hub polls: for transaction poolers, through which a session can neither LISTEN nor hold a lock.
    Poll,
}

/// How the capture runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How the hub learns of changes.
    pub wakeups: Wakeups,
    /// How often a sleeping hub looks by itself, in case a wake-up was missed.
    pub backup_poll: Duration,
    /// Above this many transactions a second the hub looks by itself, and asks writers not to ring; below
    /// half of it, it sleeps again.
    pub busy_above: f64,
    /// What is kept.
    pub retention: Retention,
    /// How long a polling hub waits between looks while nothing happens.
    pub poll: Duration,
    /// How often the triggers are checked.
    pub inspect: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            wakeups: Wakeups::Listen,
            backup_poll: Duration::from_millis(500),
            // Above this, bells cost writers more than polling costs the hub.
            busy_above: 400.0,
            poll: Duration::from_millis(100),
            inspect: Duration::from_secs(10),
            retention: Retention::default(),
        }
    }
}

/// How much history is kept. Whatever is older than `age`, or has more than `events` after it, may be
/// deleted.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// By age.
    pub age: Duration,
    /// By size, in events.
    pub events: u64,
    /// Imports that have rested for this long are forgotten.
    pub imports: Duration,
    /// How often to delete what may go.
    pub interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(24 * 3600),
            events: 10_000_000,
            imports: Duration::from_secs(7 * 24 * 3600),
            interval: Duration::from_secs(30),
        }
    }
}

/// What lies between the database and the broker.
#[derive(Clone)]
pub struct Pipeline {
    /// The database.
    pub target: Target,
    /// The source of the log.
    pub feed: Arc<dyn Feed>,
    /// For the inspector's short statements.
    pub store: Store,
    /// What is watched, and how it is encoded.
    pub catalog: Catalog,
    /// Where events go.
    pub broker: Arc<EventBroker>,
    /// Is told whether the database is reachable.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where the source reports how it waits.
    pub doorbell: Arc<Doorbell>,
    /// Notified when the attached tables may have changed.
    pub tables: Arc<Notify>,
}

/// The reader of the history being served.
pub(crate) type HistorySlot = Arc<parking_lot::Mutex<Option<Arc<history::HistoryReader>>>>;

/// Starts the tasks; they end when `stop` is cancelled. Returns the slot of the reader for the history being
/// served.
pub(crate) fn spawn(pipeline: &Pipeline, stop: &CancellationToken, tasks: &mut JoinSet<()>) -> HistorySlot {
    let history = HistorySlot::default();
    pipeline.feed.attend(stop, tasks);
    tasks.spawn(tailer::Tailer::new(pipeline.clone(), history.clone()).run(stop.clone()));
    history
}
