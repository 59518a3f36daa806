//! What all streams together have received.

use crate::support::PATIENCE;
use anyhow::{Context, bail};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

#[derive(Default)]
struct Counters {
    received: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
}

/// A count that a reader adds to.
#[derive(Clone)]
pub(super) struct Tally(Arc<Counters>);

impl Tally {
    /// This many more events.
    pub(super) fn add(&self, events: u64) {
        let counters = &self.0;
        let before = counters.received.fetch_add(events, Ordering::SeqCst);
        let wanted = counters.wanted.load(Ordering::SeqCst);
        if before < wanted && before + events >= wanted {
            counters.reached.notify_one();
        }
    }
}

/// The tasks that read. They end with this.
#[derive(Default)]
pub(super) struct Readers {
    counters: Arc<Counters>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Readers {
    /// What a reader counts with.
    pub(super) fn tally(&self) -> Tally {
        Tally(self.counters.clone())
    }

    /// Adds a reader. None may end before this does.
    pub(super) fn spawn(&mut self, reader: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(reader);
    }

    /// Events received, by all.
    pub(super) fn received(&self) -> u64 {
        self.counters.received.load(Ordering::SeqCst)
    }

    /// Waits until there have been this many; more is an error.
    pub(super) async fn all_have(&mut self, wanted: u64) -> anyhow::Result<()> {
        let counters = self.counters.clone();
        counters.wanted.store(wanted, Ordering::SeqCst);
        while self.received() < wanted {
            let before = self.received();
            let waiting = timeout(PATIENCE, counters.reached.notified());
            if self.while_reading(waiting).await?.is_err() && self.received() == before {
                bail!("{before} events received of {wanted}, and no more for {PATIENCE:?}");
            }
        }
        anyhow::ensure!(self.received() == wanted, "{} events received of {wanted}", self.received());
        Ok(())
    }

    /// Waits for something, or for a reader that fails.
    pub(super) async fn while_reading<T>(&mut self, waiting: impl Future<Output = T>) -> anyhow::Result<T> {
        tokio::select! {
            done = waiting => Ok(done),
            Some(ended) = self.tasks.join_next() => {
                ended?.context("a reader")?;
                bail!("a reader has ended")
            }
        }
    }
}
