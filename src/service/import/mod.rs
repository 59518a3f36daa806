//! Bulk creation, of any kind: a client's items become batches, one committing while the next one fills.
//!
//! A [`Session`] is one stream. It stops reading while both of its batches are full, so flow control holds
//! back a client that is faster than the database, and a stream's memory is two batches. A hub's streams
//! share a part of the pool's connections.

mod session;
mod writer;

pub use session::{Acknowledgement, Failures, Item, Session};

use super::{Action, UseCases};
use crate::{
    broker::Ending,
    call::Call,
    error::Error,
    store::{BulkTable, Store},
    telemetry::{BulkMetrics, Metrics},
};
use futures_util::Stream;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use writer::Writer;

/// The most items that a batch may have.
pub const LARGEST_BATCH: u32 = 10_000;
/// Bulk transactions may have one in this many of the pool's connections: the others are for calls.
const POOL_SHARE: usize = 4;
/// How long the client of a stream that a drain ends is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds on bulk calls.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items per transaction, if a request does not say; at most [`LARGEST_BATCH`].
    pub batch_size: u32,
    /// Streams at a time.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_size: 100, streams: 64 }
    }
}

/// An import to begin or to resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumable {
    /// As the client chose it.
    pub id: String,
    /// Its client has handled the outcome of every item below.
    pub acknowledged: u64,
    /// Whether the client sends every item again from the first on; else it sends them from where the import
    /// stands.
    pub from_the_first: bool,
}

/// How a client opens a stream of items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// The import that the items belong to; `None`: none can be resumed.
    pub resumable: Option<Resumable>,
    /// Items per transaction; 0: as many as [`Limits::batch_size`] says.
    pub batch_size: u32,
}

/// The bulk calls of a hub.
#[derive(Clone)]
pub struct Bulk(Arc<Shared>);

struct Shared {
    store: Store,
    limits: Limits,
    /// Transactions at a time.
    transactions: Semaphore,
    streams: Arc<Semaphore>,
    drain: CancellationToken,
    metrics: BulkMetrics,
}

/// A stream's place among those that are counted and bounded.
struct Place {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.metrics.stream_ended();
    }
}

impl UseCases {
    /// Begins to take items, or goes on with an import: once the client has said how, unless a drain comes
    /// first. The acknowledgement says where the import stands; without one, at its beginning.
    ///
    /// # Errors
    ///
    /// Those of `opening`, a batch that is too large, too many streams at a time, a hub that drains, and what
    /// the database says of the import.
    pub async fn import<S>(
        &self,
        call: &Call,
        table: BulkTable,
        opening: impl Future<Output = Result<(Opening, S), Error>>,
    ) -> Result<(Session<S>, Acknowledgement), Error>
    where
        S: Stream<Item = Result<Item, Error>> + Unpin,
    {
        let bulk = &self.enter_whole(call, Action::Import, Some(&table.table.kind))?.means.bulk;
        let opened = bulk.0.drain.run_until_cancelled(opening).await;
        let (mut opening, items) = opened.ok_or_else(draining)??;
        if let Some(resumable) = &mut opening.resumable {
            resumable.id = owned(call, &resumable.id);
        }
        bulk.begin(call, table, opening, items).await
    }
}

/// An import's id, which is its client's own: nobody goes on with another's, or finds out that there is one.
fn owned(call: &Call, id: &str) -> String {
    let Some(principal) = call.principal() else { return id.to_owned() };
    let mut digest = Sha256::new();
    for part in [&principal.issuer, &principal.subject] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let owner: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{owner}/{id}")
}

impl Bulk {
    /// On a pool of this many connections.
    pub fn new(store: Store, pool_size: usize, limits: Limits, metrics: &Metrics) -> Self {
        Self(Arc::new(Shared {
            store,
            limits,
            transactions: Semaphore::new((pool_size / POOL_SHARE).max(1)),
            streams: Arc::new(Semaphore::new(limits.streams)),
            drain: CancellationToken::new(),
            metrics: metrics.bulk(),
        }))
    }

    async fn begin<S>(
        &self,
        call: &Call,
        table: BulkTable,
        Opening { resumable, batch_size }: Opening,
        items: S,
    ) -> Result<(Session<S>, Acknowledgement), Error>
    where
        S: Stream<Item = Result<Item, Error>> + Unpin,
    {
        let batch_size = match batch_size {
            0 => self.0.limits.batch_size,
            asked if asked > LARGEST_BATCH => {
                return Err(Error::invalid("start.batch_size", format!("must be at most {LARGEST_BATCH}")));
            }
            asked => asked,
        };
        let place = self.place()?;
        let mut import = None;
        let mut failures = Failures::default();
        if let Some(Resumable { id, acknowledged, .. }) = &resumable {
            // This may wait for a batch of the stream that it takes over from.
            let opened = self.0.store.open_import(table.table.kind.as_str(), id, *acknowledged).await;
            let opened = opened.map_err(not_the_callers)?;
            if opened.is_resumed() {
                self.0.metrics.resumed();
            }
            if opened.failed > 0 {
                failures = Failures::known(
                    self.0.store.import_failures(&opened, *acknowledged, Failures::MOST).await?,
                );
            }
            import = Some(opened);
        }
        let skip = resumable.is_some_and(|resumable| resumable.from_the_first);
        let writer = Writer::new(self.0.clone(), call.clone(), table, import);
        let first = writer.acknowledgement(failures);
        let skip = if skip { first.next_index } else { 0 };
        Ok((Session::new(place, writer, batch_size, skip, items), first))
    }

    fn place(&self) -> Result<Place, Error> {
        if self.0.drain.is_cancelled() {
            return Err(draining());
        }
        let Ok(permit) = self.0.streams.clone().try_acquire_owned() else {
            return Err(Error::TooMany { what: "the hub has as many bulk streams as it may hold" });
        };
        self.0.metrics.stream_began();
        Ok(Place { shared: self.0.clone(), _permit: permit })
    }

    /// Ends all streams: batches being committed are finished and acknowledged, no others are begun.
    pub fn drain(&self) {
        self.0.drain.cancel();
    }
}

/// The deadline that passed was not the caller's but that of a statement.
fn not_the_callers(error: Error) -> Error {
    match error {
        Error::DeadlineExceeded => {
            Error::Unavailable { why: "the database took too long", retry_after: RETRY_AFTER }
        }
        error => error,
    }
}

fn draining() -> Error {
    super::ended(Ending::ShuttingDown { retry_after: RETRY_AFTER })
}
