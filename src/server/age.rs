//! How old a connection may become. Its client is told to make another one (GOAWAY), and its streams end with
//! where they stand, so that load spreads over hubs and what a connection was let in with is looked at again.

use crate::auth::{Over, Terms};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The end of a connection that comes by itself.
pub(super) struct Age {
    most: Duration,
    /// The connection's streams.
    pub(super) terms: Arc<Terms>,
    graceful: GracefulShutdown,
    stop: CancellationToken,
}

impl Age {
    /// Of a connection that may become this old. The stop ends it, too.
    pub(super) fn new(most: Duration, stop: &CancellationToken) -> Self {
        Self { most, terms: Arc::default(), graceful: GracefulShutdown::new(), stop: stop.clone() }
    }

    /// What lets the connection know.
    pub(super) fn watcher(&self) -> Watcher {
        self.graceful.watcher()
    }

    /// Serves the connection until it is gone, and ends it in time.
    pub(super) async fn bound(self, connection: impl Future<Output = ()>) {
        let Self { most, terms, graceful, stop } = self;
        let ends = async {
            if stop.run_until_cancelled(tokio::time::sleep(most)).await.is_some() {
                terms.end_all(Over::ConnectionTooOld);
            }
            // Ready when the connection is gone.
            graceful.shutdown().await;
        };
        tokio::select! {
            () = connection => {}
            () = ends => {}
        }
    }
}
