//! What only tests need: a cluster that leaves nothing behind, and faults.

use std::ops::Deref;
use std::path::PathBuf;

use super::error::EmbeddedError;
use super::process::Signal;
use super::{EmbeddedPostgres, Options};

/// A cluster in a temporary directory, without `fsync`.
///
/// It is stopped and removed when the process that started it ends in any way, `kill -9` included; so one in
/// a `static` serves all tests of a binary. It depends on no runtime, and is not restarted when it dies.
#[derive(Debug)]
pub struct EphemeralPostgres {
    postgres: EmbeddedPostgres,
}

impl EphemeralPostgres {
    /// Starts a cluster with these settings on top of the usual.
    pub async fn start(settings: Vec<(String, String)>) -> Result<Self, EmbeddedError> {
        let options = Options { settings, ..Options::ephemeral() };
        Ok(Self { postgres: EmbeddedPostgres::start(options).await? })
    }

    /// The same, by programs of this directory.
    pub async fn start_from(bindir: PathBuf, settings: Vec<(String, String)>) -> Result<Self, EmbeddedError> {
        let options = Options { bindir: Some(bindir), settings, ..Options::ephemeral() };
        Ok(Self { postgres: EmbeddedPostgres::start(options).await? })
    }

    /// The same for a caller that cannot await, such as the initialiser of a `LazyLock`; it may be called
    /// from within a runtime.
    pub fn start_blocking(settings: Vec<(String, String)>) -> Result<Self, EmbeddedError> {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(EmbeddedError::io("start", "a runtime"))?.block_on(Self::start(settings))
        };
        // On another thread, because a runtime cannot block within another.
        let outcome = std::thread::scope(|scope| scope.spawn(start).join());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// `kill -9` of the postmaster; returns when it is dead. Its backends may live a moment longer.
    pub async fn kill(&self) -> Result<(), EmbeddedError> {
        if let Some(process) = self.postgres.server.current() {
            process.signal(Signal::Kill)?;
            process.ended().await;
        }
        Ok(())
    }

    /// An orderly stop, which keeps the data for [`restart`](Self::restart).
    pub async fn halt(&self) -> Result<(), EmbeddedError> {
        match self.postgres.server.current() {
            Some(process) => self.postgres.server.stop(&process).await,
            None => Ok(()),
        }
    }

    /// Brings the server up on the same data, after it was killed or halted; if it still runs, it is halted
    /// first.
    pub async fn restart(&self) -> Result<(), EmbeddedError> {
        self.halt().await?;
        self.postgres.server.bring_up().await.map(drop)
    }

    /// Stops the server and removes its directory.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.postgres.stop().await
    }
}

impl Deref for EphemeralPostgres {
    type Target = EmbeddedPostgres;

    fn deref(&self) -> &EmbeddedPostgres {
        &self.postgres
    }
}
