//! The use cases, free of any transport and of SQL: what a face calls, whatever its protocol. Each takes the
//! [`Call`] that it is for, and passes [`authorize`] before it touches anything.

mod audit;
mod authorize;
mod events;
pub mod import;
pub mod keys;
pub mod operate;
mod paging;
mod resources;
mod tables;
mod watch;

pub use audit::{AuditPage, AuditQuery, AuditStream};
pub use authorize::{Action, Door};
pub use events::{EventBatch, EventBatches, EventQuery};
pub use paging::Paging;
pub use resources::{ListRequest, Listed};
pub use tables::{RowsListed, RowsRequest, Seen};
pub use watch::{WatchEnd, WatchRequest, WatchStep, WatchStream};

use crate::{
    broker::{Ending, Era, EventBroker, Topic},
    call::Call,
    catalog::Catalog,
    error::Error,
    feed::{reader::LogReader, snapshot::Snapshots},
    model::{KindName, filter::Malformed},
    store::Store,
    telemetry::Metrics,
};
use authorize::{Grant, Guarded};
use import::Bulk;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A call waits this long at most for what is about to be there: the first sight of the database, the first
/// turn of a controller.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a call is told to wait that came too early even so.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the use cases work with.
pub struct Means {
    /// For statements.
    pub store: Store,
    /// For watches.
    pub broker: Arc<EventBroker>,
    /// For watches that begin with what is there.
    pub snapshots: Snapshots,
    /// For bulk calls.
    pub bulk: Bulk,
    /// For those who read the log without watching.
    pub reader: LogReader,
    /// The kinds.
    pub catalog: Catalog,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether this hub keeps the audit trail.
    pub keeps_audit: bool,
}

/// The use cases of a hub, for its faces. Cheap to clone.
#[derive(Clone)]
pub struct UseCases {
    door: Door,
    behind: Guarded<Arc<Inner>>,
}

struct Inner {
    means: Means,
    audit: audit::Streams,
}

impl UseCases {
    /// Of these means, behind this door.
    pub fn new(means: Means, door: Door) -> Self {
        Self { door, behind: Guarded::new(Arc::new(Inner { means, audit: audit::Streams::default() })) }
    }

    /// Lets a call in, with what it may see, or says why not.
    fn enter(
        &self,
        call: &Call,
        action: Action,
        kind: Option<&KindName>,
    ) -> Result<(&Arc<Inner>, Grant), Error> {
        let grant = self.door.authorize(call, action, kind)?;
        Ok((self.behind.open(&grant), grant))
    }

    /// The same for what shows rows as they are.
    fn enter_whole(
        &self,
        call: &Call,
        action: Action,
        kind: Option<&KindName>,
    ) -> Result<&Arc<Inner>, Error> {
        let (inner, grant) = self.enter(call, action, kind)?;
        grant.of_everything().map(|_| inner)
    }
}

impl Means {
    /// The history being served. A call that comes before the hub has seen its database waits for that.
    async fn era(&self, call: &Call) -> Result<Arc<Era>, Error> {
        match self.broker.era() {
            Some(era) => Ok(era),
            None => self.soon(call, "the hub has not seen its database yet", self.broker.first_era()).await,
        }
    }

    /// What is about to be there, if it comes within the call's deadline and [`PATIENCE`]; else `why` it is
    /// not.
    async fn soon<T>(
        &self,
        call: &Call,
        why: &'static str,
        coming: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let latest = Instant::now() + PATIENCE;
        let deadline = call.deadline().filter(|deadline| *deadline < latest);
        let waiting = tokio::time::timeout_at(deadline.unwrap_or(latest).into(), coming);
        match self.broker.unless_draining(waiting).await.map_err(ended)? {
            Ok(there) => Ok(there),
            Err(_) if deadline.is_some() => Err(Error::DeadlineExceeded),
            Err(_) => Err(Error::Unavailable { why, retry_after: RETRY_AFTER }),
        }
    }
}

/// Why the hub ends a stream, in the words of its caller.
fn ended(ending: Ending) -> Error {
    match ending {
        Ending::ShuttingDown { retry_after } => {
            Error::Unavailable { why: "the hub is shutting down", retry_after }
        }
        Ending::EpochChanged { epoch } => Error::EpochChanged { current: epoch },
        Ending::Removed { kind, why } => Error::Removed { kind, why },
        Ending::StateChanged { kind, revision, why } => Error::StateChanged { kind, revision, why },
        Ending::KeyChanged { kind, revision } => Error::KeyChanged { kind, revision },
        Ending::ColumnGone { kind, column } => Error::ColumnGone { kind, column },
        Ending::ColumnChanged { kind, column } => Error::ColumnChanged { kind, column },
        Ending::SlowConsumer => Error::SlowConsumer,
        Ending::FilterFailed => Error::Internal(Malformed.into()),
        Ending::Compacted { asked, oldest } => Error::RevisionCompacted { asked, oldest },
    }
}

fn topic(era: &Era, kind: &KindName) -> Result<Arc<Topic>, Error> {
    era.topic(kind.as_str()).ok_or_else(|| match era.kinds().removal(kind.as_str()) {
        Some(why) => Error::Removed { kind: kind.clone(), why },
        None => Error::Internal(anyhow::anyhow!("kind {kind} is not registered")),
    })
}
