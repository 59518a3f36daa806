//! The initial state of a watch: every row of the table, exactly as it was at one revision, as frames for the
//! wire.

mod spool;

pub use spool::{Broken, SpoolReader};

use super::Feed;
use crate::{
    broker::Interest,
    catalog::{Catalog, Kind},
    error::{Error, chain},
    model::{
        Change, ChangeType, Epoch, Revision, Writer,
        filter::{Malformed, RowEvent, Verdict},
    },
    store::{SealError, SnapshotRow, TableSnapshot},
    wire::Context,
};
use futures_util::TryStreamExt;
use spool::{Room, Spool};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// Tables that are read at a time: each holds a connection and keeps vacuum from cleaning up.
const AT_A_TIME: usize = 4;
/// A table must be read within this, at the hub's pace.
const LIMIT: Duration = Duration::from_secs(600);

/// Frames are written once they have this many bytes, or at the end of a fetch.
const PIECE: usize = 1 << 20;

/// Its revision must be fixed within this.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// Makes initial states.
#[derive(Clone)]
pub struct Snapshots {
    feed: Arc<dyn Feed>,
    catalog: Catalog,
    permits: Arc<Semaphore>,
    room: Arc<Room>,
    runtime: Handle,
}

/// An initial state on its way.
pub struct Snapshot {
    /// The revision that it shows.
    pub revision: Revision,
    /// The history that the revision belongs to.
    pub epoch: Epoch,
    /// Its frames.
    pub frames: SpoolReader,
}

impl Snapshots {
    /// Of the tables of these kinds, at revisions of this source. No state is begun while those that wait for
    /// their clients have this many bytes on the disk.
    pub fn new(feed: Arc<dyn Feed>, catalog: Catalog, most_spooled: u64) -> Self {
        Self {
            feed,
            catalog,
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            room: Arc::new(Room::new(most_spooled)),
            runtime: Handle::current(),
        }
    }

    /// Fixes a revision and begins to read what an interest wants of a kind. The reading goes on in a task
    /// that ends with the returned frames.
    pub async fn open(&self, kind: &str, interest: Interest) -> Result<Snapshot, Error> {
        let internal = |error: anyhow::Error| Error::Internal(error);
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| internal(error.into()))?;
        let spool = Spool::new(&self.room).map_err(|error| internal(error.into()))?;
        let mut spool = spool.ok_or(Error::TooMany {
            what: "the initial states that wait for their clients take as much disk as they may",
        })?;
        let known = self.catalog.kinds().get(kind).cloned();
        let kind = known.ok_or_else(|| internal(anyhow::anyhow!("kind {kind} is not registered")))?;
        let feed = self.feed.clone();
        // On the hub's own runtime: the connection must outlive the lane that asked.
        let opening = AbortOnDropHandle::new(self.runtime.spawn(async move {
            let opened = tokio::time::timeout(OPEN_LIMIT, feed.snapshot(kind.name().as_str(), LIMIT));
            opened.await.unwrap_or(Err(SealError::Silent)).map(|table| (table, kind))
        }));
        let (table, kind) = opening.await.map_err(|error| internal(error.into()))??;
        let (revision, epoch) = (table.revision, table.epoch.clone());
        let frames = spool.reader();
        let reading = self.runtime.spawn(async move {
            let _permit = permit;
            let copied = tokio::time::timeout(LIMIT, copy(&table, &kind, &interest, &mut spool)).await;
            spool.finish(match copied {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Broken::Failed(format!("the table could not be read within {LIMIT:?}"))),
            });
        });
        Ok(Snapshot { revision, epoch, frames: frames.fed_by(AbortOnDropHandle::new(reading)) })
    }
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Database(#[from] SealError),
    #[error("the spool file: {0}")]
    Spool(#[from] std::io::Error),
    #[error(transparent)]
    Filter(#[from] Malformed),
}

impl From<CopyError> for Broken {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Database(error) => match Error::from(error) {
                Error::Unavailable { .. } => Self::Interrupted,
                error => Self::Failed(chain(&error)),
            },
            CopyError::Spool(error) => Self::Failed(error.to_string()),
            CopyError::Filter(error) => Self::Failed(error.to_string()),
        }
    }
}

async fn copy(
    table: &TableSnapshot,
    kind: &Kind,
    interest: &Interest,
    spool: &mut Spool,
) -> Result<(), CopyError> {
    loop {
        let mut rows = pin!(table.fetch().await?);
        let (mut frames, mut is_over) = (Vec::new(), true);
        while let Some(row) = rows.try_next().await? {
            is_over = false;
            add(&mut frames, &row, kind, interest)?;
            // The rows of a fetch may be of any size.
            if frames.len() >= PIECE {
                spool.write(std::mem::take(&mut frames)).await?;
            }
        }
        spool.write(frames).await?;
        if is_over {
            return Ok(());
        }
    }
}

/// A row, encoded, if it is wanted.
fn add(frames: &mut Vec<u8>, row: &SnapshotRow, kind: &Kind, interest: &Interest) -> Result<(), CopyError> {
    let resource_id = &*row.resource_id()?;
    if !interest.selector.wants_resource(resource_id) {
        return Ok(());
    }
    let (change, json) = (ChangeType::Snapshot, row.json()?);
    let (filter, sight) = (interest.filter.as_ref(), &interest.sight);
    if filter.is_some() || !sight.is_whole() {
        let event = RowEvent { change, resource_id, occurred_at: None, old: None, new: json };
        if sight.judge(filter, event)? == Verdict::Unwanted {
            return Ok(());
        }
    }
    let composed =
        interest.composer.as_ref().zip(json).map(|(composer, json)| composer.compose(json)).transpose()?;
    let change = Change {
        revision: Revision::ZERO,
        kind: kind.name().as_str(),
        resource_id,
        change,
        after: composed.as_deref().or(json),
        before: None,
        captured_at: None,
        transaction_end: Revision::ZERO,
        writer: Writer::default(),
    };
    // A row of the state is no position, so its epoch is not said.
    let context = Context { renderer: &*kind.renderer, epoch: "" };
    if let Err(error) = interest.rendition.spelling().event(&change, context, frames) {
        tracing::error!(kind = kind.name().as_str(), resource_id, %error, "a row does not fit its kind");
    } else if json.is_none() {
        tracing::error!(kind = kind.name().as_str(), resource_id, "a row cannot be read as UTF-8");
    }
    Ok(())
}
