//! The log that is captured by triggers: the listener hears writers, and whoever follows seals what they
//! left.

mod doorbell;
mod drain;
mod heard;
mod listener;
mod pace;
mod tail;

pub use doorbell::{Doorbell, DoorbellState};

use super::{Feed, Replay, Settings, Tail, Wakeups};
use crate::{
    store::{HubConnection, SealError, TableSnapshot, Target},
    telemetry::Metrics,
};
use async_trait::async_trait;
use heard::Heard;
use std::{sync::Arc, time::Duration};
use tail::SealedTail;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The log that triggers write and hubs seal.
pub struct SealedFeed {
    target: Target,
    settings: Settings,
    metrics: Arc<Metrics>,
    doorbell: Arc<Doorbell>,
    replay: Replay,
    heard: watch::Sender<Heard>,
    tables: Arc<Notify>,
}

impl SealedFeed {
    /// Of this database. Pages are read on the runtime that this is called in; how it waits is said at the
    /// doorbell, and whoever follows the attached tables is told when to look.
    pub fn new(
        target: Target,
        settings: Settings,
        metrics: Arc<Metrics>,
        (doorbell, tables): (Arc<Doorbell>, Arc<Notify>),
    ) -> Self {
        let replay = Replay::new(target.clone());
        Self { target, settings, metrics, doorbell, replay, heard: watch::Sender::default(), tables }
    }
}

#[async_trait]
impl Feed for SealedFeed {
    fn attend(&self, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
        if self.settings.wakeups == Wakeups::Listen {
            let (target, metrics) = (self.target.clone(), self.metrics.clone());
            let told = (self.heard.clone(), self.tables.clone());
            tasks.spawn(listener::run(target, metrics, told, stop.clone()));
        }
    }

    async fn follow(&self) -> Result<Box<dyn Tail>, SealError> {
        let hears = self.heard.subscribe();
        let log = HubConnection::open(&self.target).await?;
        let (metrics, doorbell) = (self.metrics.clone(), self.doorbell.clone());
        Ok(Box::new(SealedTail::new(log, self.settings, metrics, doorbell, hears)))
    }

    fn replay(&self) -> &Replay {
        &self.replay
    }

    async fn snapshot(&self, kind: &str, limit: Duration) -> Result<TableSnapshot, SealError> {
        TableSnapshot::open(&self.target, kind, limit).await
    }
}
