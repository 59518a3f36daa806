//! What has to be looked after while a hub runs: retention, triggers, old transactions.

mod compactor;
mod follower;
mod inspector;

pub(crate) use follower::Follower;

use crate::feed::{HistorySlot, Parts, Settings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Starts the tasks; they end when `stop` is cancelled.
pub(crate) fn spawn(
    parts: &Parts,
    settings: Settings,
    (history, follower): (HistorySlot, Follower),
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(inspector::run(parts.clone(), settings.inspect, stop.clone()));
    tasks.spawn(follower.run(settings.inspect, stop.clone()));
    tasks.spawn(compactor::run(parts.clone(), settings.retention, history, stop.clone()));
}
