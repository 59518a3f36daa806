//! The sealed log in pages, for those who do not watch: from a revision to the newest at the time of asking.
//!
//! A page is read at the hub's pace, on a connection that is given back before the page is sent: a slow client holds its page, and
//! neither a connection nor a snapshot of the database.

use crate::{
    error::Error,
    model::{Epoch, Revision},
    store::{HubConnection, LogState, ReadPosition, SealError, SealedRow, Target},
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
};
use tokio_util::task::AbortOnDropHandle;

/// Pages that are read at a time, each on a connection of its own.
const PAGES_AT_A_TIME: usize = 2;
/// Readings at a time. Each may hold a page, and another on its way to its client.
const READINGS: usize = 64;
/// Bytes of rows in a page, unless a single row has more.
const PAGE_BYTES: usize = 1 << 20;
/// Rows that are asked for at a time. Where rows are suddenly large, the server sends as many in vain.
const STEP: u32 = 500;

/// Reads the log.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
    readings: Arc<Semaphore>,
}

struct Shared {
    target: Target,
    /// Whether a server session is a connection's own.
    session: bool,
    /// Where pages are read: not on the lane that asks, which may end before its neighbours do.
    runtime: Handle,
    turns: Semaphore,
    idle: Mutex<Vec<HubConnection>>,
}

/// A page: every event, of every kind, after where the page before it ended and up to `upto`.
pub struct LogPage {
    /// The events.
    pub rows: Vec<SealedRow>,
    /// Where it ends.
    pub upto: Revision,
}

/// One reading, from a revision to a head.
pub struct Reading {
    shared: Arc<Shared>,
    _reading: OwnedSemaphorePermit,
    /// The history that it reads.
    pub epoch: Epoch,
    /// Where it ends.
    pub head: Revision,
    position: ReadPosition,
    /// Rows that are likely to fit, `STEP` at most.
    rows: u32,
}

impl LogReader {
    /// Of this database. `session`: whether a server session is a connection's own.
    pub fn new(target: Target, session: bool) -> Self {
        let shared = Shared {
            target,
            session,
            runtime: Handle::current(),
            turns: Semaphore::new(PAGES_AT_A_TIME),
            idle: Mutex::default(),
        };
        Self { shared: Arc::new(shared), readings: Arc::new(Semaphore::new(READINGS)) }
    }

    /// Begins to read after a revision, of this epoch if one is named.
    pub async fn begin(&self, after: Revision, epoch: Option<&str>) -> Result<Reading, Error> {
        let reading = self.readings.clone().try_acquire_owned().map_err(|_| Error::TooMany {
            what: "the hub answers as many readers of its log as it may at a time",
        })?;
        let LogState { compacted, head, epoch: found } = self.shared.clone().state().await?;
        if epoch.is_some_and(|asked| asked != found.as_str()) {
            return Err(Error::EpochChanged { current: found });
        }
        if after > head {
            return Err(Error::RevisionUnknown { asked: after, head });
        }
        if after < compacted {
            return Err(Error::RevisionCompacted { asked: after, oldest: compacted });
        }
        Ok(Reading {
            shared: self.shared.clone(),
            _reading: reading,
            epoch: found,
            head,
            position: ReadPosition::after(after),
            rows: STEP,
        })
    }
}

impl Reading {
    /// Whether the head is reached.
    pub fn is_over(&self) -> bool {
        self.position.revision >= self.head
    }

    /// The next page, of at most so many events. An error is the end; what came before it stands.
    pub async fn next(&mut self, most: u32) -> Result<LogPage, Error> {
        let mut page = self.step(most, PAGE_BYTES).await?;
        loop {
            let left = most.saturating_sub(u32::try_from(page.rows.len()).unwrap_or(u32::MAX));
            let room = PAGE_BYTES.saturating_sub(page.rows.iter().map(SealedRow::bytes).sum());
            if left == 0 || room == 0 || self.is_over() {
                return Ok(page);
            }
            match self.step(left, room).await {
                Ok(more) => {
                    page.rows.extend(more.rows);
                    page.upto = more.upto;
                }
                // What is here is good; the next call finds the same again.
                Err(_) => return Ok(page),
            }
        }
    }

    /// A part of a page.
    async fn step(&mut self, most: u32, bytes: usize) -> Result<LogPage, Error> {
        let left = u32::try_from(self.head.get().saturating_sub(self.position.revision.get()));
        let asked = self.rows.min(most).min(left.unwrap_or(u32::MAX));
        let reading = self.shared.clone().read(self.position, (asked, bytes), self.epoch.clone());
        let (rows, position) = reading.await?;
        // As many as fitted, or twice as many if all did: what is asked for in vain is sent in vain.
        let fitted = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        self.rows = if fitted < asked { fitted.max(1) } else { (asked * 2).clamp(self.rows, STEP) };
        self.position = position;
        Ok(LogPage { rows, upto: position.revision })
    }
}

impl Shared {
    async fn state(self: Arc<Self>) -> Result<LogState, Error> {
        let shared = self.clone();
        let asking = async move {
            let _turn = shared.turn().await?;
            let connection = shared.connection().await?;
            let state = connection.log_state().await?;
            shared.idle.lock().push(connection);
            Ok(state)
        };
        self.run(asking).await
    }

    async fn read(
        self: Arc<Self>,
        mut position: ReadPosition,
        (most, bytes): (u32, usize),
        epoch: Epoch,
    ) -> Result<(Vec<SealedRow>, ReadPosition), Error> {
        let (shared, asked) = (self.clone(), position.revision);
        let compacted = move |oldest| Error::RevisionCompacted { asked, oldest };
        let reading = async move {
            let _turn = shared.turn().await?;
            let connection = shared.connection().await?;
            let read = connection.read_within(&mut position, most, bytes).await;
            let (rows, state) = read.map_err(|error| match error {
                SealError::Compacted { oldest } => compacted(oldest),
                error => error.into(),
            })?;
            shared.idle.lock().push(connection);
            match rows {
                _ if state.epoch != epoch => Err(Error::EpochChanged { current: state.epoch }),
                // They were there, for there is a head beyond them.
                rows if rows.is_empty() && state.compacted > asked => Err(compacted(state.compacted)),
                rows if rows.is_empty() => {
                    Err(SealError::Corrupt(format!("nothing to read after {asked}")).into())
                }
                rows => Ok((rows, position)),
            }
        };
        self.run(reading).await
    }

    /// Whoever has one may open a connection: so there are as many as turns.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.turns.acquire().await.map_err(|closed| Error::Internal(closed.into()))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = AbortOnDropHandle::new(self.runtime.spawn(work));
        task.await.map_err(|error| Error::Internal(error.into()))?
    }

    /// One that is at hand, or a new one, on which it is checked that the log is the one that it was.
    async fn connection(&self) -> Result<HubConnection, SealError> {
        let at_hand = {
            let mut idle = self.idle.lock();
            idle.retain(|connection| !connection.is_closed());
            idle.pop()
        };
        if let Some(connection) = at_hand {
            return Ok(connection);
        }
        let connection = HubConnection::open(&self.target, self.session).await?;
        connection.check_history().await?;
        Ok(connection)
    }
}
