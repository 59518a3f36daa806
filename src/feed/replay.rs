//! Pages of the sealed log for readers that do not follow it: history, ReadEvents, aside readers,
//! controllers.
//!
//! All of them share a few connections. A page is read at the hub's pace, and its connection is given back
//! before anybody uses the page: a slow client holds its page, but neither a connection nor a snapshot of the
//! database.

use crate::{
    model::{Epoch, Revision},
    store::{HubConnection, LogPosition, LogState, PageBound, SealError, SealedRow, Target},
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
};
use tokio_util::task::AbortOnDropHandle;

/// Pages that are read at a time, each on its own connection.
const AT_A_TIME: usize = 4;

/// Reads pages of the log. Cheap to clone.
#[derive(Clone)]
pub struct Replay(Arc<Shared>);

struct Shared {
    target: Target,
    /// The runtime that reads pages: not the lane that asks, which may end before others do.
    runtime: Handle,
    turns: Semaphore,
    idle: Mutex<Vec<HubConnection>>,
}

impl Replay {
    /// Of this database. Pages are read on the runtime that this is called in.
    pub fn new(target: Target) -> Self {
        Self(Arc::new(Shared {
            target,
            runtime: Handle::current(),
            turns: Semaphore::new(AT_A_TIME),
            idle: Mutex::default(),
        }))
    }

    /// What the log is now.
    pub async fn state(&self) -> Result<LogState, SealError> {
        let shared = self.0.clone();
        self.run(async move {
            let (_turn, connection) = shared.connection().await?;
            let state = connection.log_state().await;
            shared.give_back(connection, state)
        })
        .await
    }

    /// The next events of a history after a position, which moves on to the last of them: at least one, and
    /// none beyond `upto`, which is sealed and beyond the position. Events of kinds other than `kind` come
    /// without their rows, if one is named.
    ///
    /// Fails if the log is of another epoch by now, or if what is asked for is compacted.
    pub async fn page(
        &self,
        position: &mut LogPosition,
        epoch: &Epoch,
        upto: Revision,
        bound: PageBound,
        kind: Option<&str>,
    ) -> Result<Vec<SealedRow>, SealError> {
        let (shared, mut next, kind) = (self.0.clone(), *position, kind.map(str::to_owned));
        let after = position.revision;
        let bound = bound.at_most(upto.get().saturating_sub(after.get()).max(1));
        let reading = async move {
            let (_turn, connection) = shared.connection().await?;
            let read = connection.read_with_state(&mut next, bound, kind.as_deref()).await;
            let (rows, state) = shared.give_back(connection, read)?;
            Ok((rows, state, next))
        };
        let (rows, state, next) = self.run(reading).await?;
        match rows {
            _ if state.epoch != *epoch => Err(SealError::EpochChanged { current: state.epoch }),
            // They existed, because there is a head beyond them.
            rows if rows.is_empty() && state.compacted > after => {
                Err(SealError::Compacted { oldest: state.compacted })
            }
            rows if rows.is_empty() => Err(SealError::Corrupt(format!("nothing to read after {after}"))),
            rows => {
                *position = next;
                Ok(rows)
            }
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        reading: impl Future<Output = Result<T, SealError>> + Send + 'static,
    ) -> Result<T, SealError> {
        let task = AbortOnDropHandle::new(self.0.runtime.spawn(reading));
        task.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and the hub with it.
            Err(_) => Err(SealError::Silent),
        })
    }
}

impl Shared {
    /// An idle connection, or a new one, on which the log is checked to be the same. It comes with a permit,
    /// so there are at most as many as permits.
    async fn connection(&self) -> Result<(SemaphorePermit<'_>, HubConnection), SealError> {
        // Nobody closes it.
        let turn = self.turns.acquire().await.map_err(|_| SealError::Silent)?;
        let at_hand = {
            let mut idle = self.idle.lock();
            idle.retain(|connection| !connection.is_closed());
            idle.pop()
        };
        if let Some(connection) = at_hand {
            return Ok((turn, connection));
        }
        let connection = HubConnection::open(&self.target).await?;
        connection.check_history().await?;
        Ok((turn, connection))
    }

    /// Keeps a connection for the next reader, unless its failure is one that a new connection may cure.
    fn give_back<T>(&self, connection: HubConnection, answer: Result<T, SealError>) -> Result<T, SealError> {
        if matches!(answer, Ok(_) | Err(SealError::Compacted { .. })) {
            self.idle.lock().push(connection);
        }
        answer
    }
}
