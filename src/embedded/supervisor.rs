//! The task that brings Postgres up again when it dies.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use super::server::Server;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that lived this long is not in a loop of crashes.
const STEADY: Duration = Duration::from_secs(10);

/// Owns the task; it ends with this value.
#[derive(Debug)]
pub(super) struct Supervisor {
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(super) fn start(server: Arc<Server>) -> Self {
        let span = tracing::info_span!("postgres_supervisor");
        Self { task: tokio::spawn(async move { keep_up(&server).await }.instrument(span)) }
    }

    /// Returns when the task has ended and launches nothing any more.
    pub(super) async fn end(mut self) {
        self.task.abort();
        // Cancelled, as it never returns.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// May be cancelled at any await: the server knows of a process as soon as there is one.
async fn keep_up(server: &Server) {
    let mut pause = FIRST_PAUSE;
    while let Some(process) = server.current() {
        let watched_since = Instant::now();
        let status = process.ended().await;
        tracing::warn!(pid = process.pid(), status, "Postgres has died; it is started again");
        if watched_since.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match server.bring_up().await {
                Ok(_) => break,
                Err(error) => tracing::error!(%error, retry_in = ?pause, "Postgres does not start again"),
            }
        }
    }
}
