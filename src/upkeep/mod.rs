//! What needs regular attention while a hub runs: retention, triggers, old transactions.

mod compactor;
mod follower;
mod inspector;

pub(crate) use follower::Follower;

use crate::feed::{HistorySlot, Pipeline, Settings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Starts the tasks; they end when `stop` is cancelled.
pub(crate) fn spawn(
    pipeline: &Pipeline,
    settings: Settings,
    (history, follower): (HistorySlot, Follower),
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(inspector::run(pipeline.clone(), settings.inspect, stop.clone()));
    tasks.spawn(follower.run(settings.inspect, stop.clone()));
    tasks.spawn(compactor::run(pipeline.clone(), settings.retention, history, stop.clone()));
}
