//! The log from a revision to the newest at the time of asking, for clients that do not watch.

use super::replay::Replay;
use crate::{
    error::Error,
    model::{Epoch, Revision},
    store::{LogPosition, LogState, PageBound, SealError, SealedRow},
};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Readings at a time. Each may hold one page, and another that is being sent.
const READINGS: usize = 64;

/// Reads the log.
#[derive(Clone)]
pub struct LogReader {
    replay: Replay,
    readings: Arc<Semaphore>,
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
    replay: Replay,
    _reading: OwnedSemaphorePermit,
    /// The history that it reads.
    pub epoch: Epoch,
    /// Where it ends.
    pub head: Revision,
    position: LogPosition,
}

impl LogReader {
    /// Of pages that are read here.
    pub fn new(replay: Replay) -> Self {
        Self { replay, readings: Arc::new(Semaphore::new(READINGS)) }
    }

    /// Begins to read after a revision, of this epoch if one is named.
    pub async fn begin(&self, after: Revision, epoch: Option<&str>) -> Result<Reading, Error> {
        let reading = self.readings.clone().try_acquire_owned().map_err(|_| Error::TooMany {
            what: "the hub answers as many readers of its log as it may at a time",
        })?;
        let LogState { compacted, head, epoch: found } = self.replay.state().await?;
        if epoch.is_some_and(|asked| asked != found.as_str()) {
            return Err(Error::EpochChanged { current: found });
        }
        if after > head {
            return Err(Error::RevisionUnknown { asked: after, head });
        }
        if after < compacted {
            return Err(Error::RevisionCompacted { asked: after, oldest: compacted });
        }
        let (replay, position) = (self.replay.clone(), LogPosition::after(after));
        Ok(Reading { replay, _reading: reading, epoch: found, head, position })
    }
}

impl Reading {
    /// Whether the head is reached.
    pub fn is_over(&self) -> bool {
        self.position.revision >= self.head
    }

    /// The next page, of at most this many events. An error is the end; what came before it stands.
    pub async fn next(&mut self, most: u32) -> Result<LogPage, Error> {
        let bound = PageBound { events: most, ..PageBound::CLIENT };
        let mut rows = self.step(bound).await?;
        while let Some(left) = left(bound, &rows)
            && !self.is_over()
        {
            match self.step(left).await {
                Ok(more) => rows.extend(more),
                // What is here is good; the next call finds the same again.
                Err(_) => break,
            }
        }
        Ok(LogPage { rows, upto: self.position.revision })
    }

    /// A part of a page.
    async fn step(&mut self, bound: PageBound) -> Result<Vec<SealedRow>, Error> {
        let asked = self.position.revision;
        // Where rows are suddenly large, the server sends some in vain.
        let bound = bound.at_most(PageBound::CLIENT.events.into());
        let reading = self.replay.page(&mut self.position, &self.epoch, self.head, bound, None);
        reading.await.map_err(|error| match error {
            SealError::Compacted { oldest } => Error::RevisionCompacted { asked, oldest },
            error => error.into(),
        })
    }
}

/// What fits beside these rows; `None`: nothing.
fn left(bound: PageBound, rows: &[SealedRow]) -> Option<PageBound> {
    let bytes =
        bound.bytes.checked_sub(rows.iter().map(SealedRow::bytes).sum()).filter(|bytes| *bytes > 0)?;
    let events = u64::from(bound.events).checked_sub(rows.len() as u64).filter(|events| *events > 0)?;
    Some(PageBound { bytes, ..bound }.at_most(events))
}
