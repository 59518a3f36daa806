//! From the bell to the log: the listener hears, the tailer seals, reads and publishes, the inspector looks after the triggers.

mod backoff;
mod drain;
mod inspector;
mod listener;
mod pace;
mod tailer;

use crate::{
    broker::EventBroker,
    health::Health,
    kinds::Registry,
    store::{Store, Target},
    telemetry::Metrics,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

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
    /// How long a polling hub waits between looks while nothing happens.
    pub poll: Duration,
}

/// What the capture works with.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub target: Target,
    /// For the inspector's short statements.
    pub store: Store,
    /// What is watched, and how it is encoded.
    pub registry: Arc<Registry>,
    /// Where events go.
    pub broker: Arc<EventBroker>,
    /// Who is told whether the database is in sight.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// What has been heard so far; newer news replace older ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Heard {
    /// Whether bells can be heard at all.
    connected: bool,
    /// How often the listener has connected. Who captured before the last time may have rung for nobody.
    connections: u64,
    bells: u64,
    /// The newest revision that some hub has announced.
    sealed: crate::model::Revision,
}

/// Starts the tasks; they end when `stop` is cancelled.
pub fn spawn(parts: &Parts, settings: Settings, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let (heard, hears) = watch::channel(Heard::default());
    if settings.wakeups == Wakeups::Listen {
        tasks.spawn(listener::run(parts.target.clone(), parts.metrics.clone(), heard, stop.clone()));
    }
    tasks.spawn(tailer::Tailer::new(parts.clone(), settings, hears).run(stop.clone()));
    tasks.spawn(inspector::run(parts.clone(), stop.clone()));
}
