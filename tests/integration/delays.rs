//! What one transaction costs the events of others: nothing while it stays open, little when it is large.

mod held_open;
mod large;

use crate::support::{TestHub, history::Transaction, until};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::task::AbortOnDropHandle;
use trex::proto::rh_trex::v1::WatchDinosaursRequest;

/// A watch that notes when each resource's first event came.
struct Arrivals {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    _task: AbortOnDropHandle<()>,
}

impl Arrivals {
    async fn of(hub: &TestHub) -> Self {
        let mut client = hub.client().await;
        let watch = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.expect("a watch");
        let (mut events, seen) = (watch.into_inner(), Arc::<Mutex<HashMap<_, _>>>::default());
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok(Some(event)) = events.message().await {
                noted.lock().entry(event.resource_id).or_insert_with(Instant::now);
            }
        });
        Self { seen, _task: AbortOnDropHandle::new(task) }
    }

    /// From COMMIT sent to the receipt, of the first change of each of these transactions.
    async fn delays<'a>(&self, transactions: impl Iterator<Item = &'a Transaction>) -> Delays {
        let mut delays = Vec::new();
        for transaction in transactions {
            let id = &transaction.changes().next().expect("a change").id;
            until("its event", || self.seen.lock().contains_key(id)).await;
            let came = self.seen.lock()[id];
            delays.push(came.saturating_duration_since(transaction.commit_sent.expect("committed")));
        }
        delays.sort();
        Delays(delays)
    }
}

/// Sorted.
struct Delays(Vec<Duration>);

impl Delays {
    fn at(&self, quantile: f64) -> Duration {
        assert!(!self.0.is_empty(), "nothing was measured");
        self.0[((self.0.len() - 1) as f64 * quantile).round() as usize]
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|quantile| self.at(quantile));
        write!(
            f,
            "{} transactions, delays {median:.1?} in the median, {p99:.1?} p99, {most:.1?} at most",
            self.0.len()
        )
    }
}
