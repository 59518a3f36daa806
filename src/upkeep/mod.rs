//! What needs regular attention while a hub runs: retention, triggers, old transactions.

mod compactor;
mod fetch;
mod follower;
mod inspector;
mod issuers;
mod keys;
mod policy;

pub use fetch::Place;
pub(crate) use follower::Follower;
pub use issuers::{Issuing, KeySource, TokenRules};
pub(crate) use policy::follow as follow_policy;
pub use policy::read_policy;

use crate::{
    auth::Authenticator,
    feed::{HistorySlot, Pipeline, Settings},
    store::Store,
};
use std::sync::Arc;
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

/// Keeps what callers are known by as it is in the database and at their issuers. The tasks end when `stop`
/// is cancelled.
pub(crate) fn spawn_authentication(
    authenticator: &Arc<Authenticator>,
    issuers: Vec<Issuing>,
    store: &Store,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    for issuing in issuers {
        tasks.spawn(issuers::follow(authenticator.clone(), issuing, stop.clone()));
    }
    if let Some(ring) = authenticator.keys() {
        tasks.spawn(keys::follow(store.clone(), ring.clone(), stop.clone()));
    }
    tasks.spawn(keys::sweep(authenticator.clone(), stop.clone()));
}
