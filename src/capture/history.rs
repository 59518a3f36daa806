//! Reads the retained history for streams that stand before the window: in pages of a fixed grid, each read once for everybody who
//! wants it at that time, and kept while there is room.

use super::backoff::Backoff;
use crate::{
    broker::{Compacted, Fetch, History, Page},
    error::chain,
    kind::Kinds,
    model::{Epoch, Revision},
    store::{HubConnection, ReadPosition, SealError, Target},
    telemetry::Metrics,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, OnceCell},
};
use tokio_util::task::AbortOnDropHandle;

/// Events per page.
const PAGE: u64 = 500;
/// Bytes of pages that are kept for whoever comes next.
const KEPT: usize = 64 << 20;

/// When the events of a page were sealed: before any stream that reads it began.
const LONG_AGO: u64 = 0;

/// The history of one epoch.
pub(super) struct HistoryReader {
    shared: Arc<Shared>,
}

struct Shared {
    epoch: Epoch,
    target: Target,
    session: bool,
    kinds: Kinds,
    metrics: Arc<Metrics>,
    /// Where pages are read: not on the lane that asks, which may end before its neighbours do.
    runtime: Handle,
    /// One reader at a time: those who wait find the page there when they get their turn.
    reader: AsyncMutex<Option<Reader>>,
    pages: Mutex<Pages>,
    oldest: AtomicU64,
}

struct Reader {
    connection: HubConnection,
    /// Where the last page ended: to begin the next one there costs nothing even inside a transaction of a million rows.
    end: ReadPosition,
}

/// By the grid's number, and up to where it reaches: a page that the head is in grows.
type Key = (u64, Revision);

#[derive(Default)]
struct Pages {
    entries: BTreeMap<Key, Entry>,
    /// Counts uses.
    now: u64,
}

struct Entry {
    page: Arc<OnceCell<Arc<Page>>>,
    used: u64,
}

impl HistoryReader {
    pub(super) fn new(
        epoch: Epoch,
        target: Target,
        session: bool,
        kinds: Kinds,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch,
                target,
                session,
                kinds,
                metrics,
                runtime: Handle::current(),
                reader: AsyncMutex::new(None),
                pages: Mutex::default(),
                oldest: AtomicU64::new(0),
            }),
        }
    }

    /// Notes the oldest revision that a reader can stand at.
    pub(super) fn set_oldest(&self, oldest: Revision) {
        self.shared.oldest.fetch_max(oldest.get(), Ordering::Relaxed);
    }
}

impl History for HistoryReader {
    fn cached(&self, after: Revision, head: Revision) -> Option<Arc<Page>> {
        let mut pages = self.shared.pages.lock();
        pages.now += 1;
        let now = pages.now;
        let number = after.get() / PAGE;
        if head <= after {
            return None;
        }
        let mut reaching = pages.entries.range_mut((number, after.next())..=(number, head));
        let (entry, page) = reaching
            .find_map(|(_, entry)| Some((entry.page.get()?.clone(), entry)))
            .map(|(page, entry)| (entry, page))?;
        entry.used = now;
        Some(page)
    }

    fn fetch(&self, after: Revision, head: Revision) -> Fetch {
        let shared = self.shared.clone();
        // A task of its own, and not its stream's: a stream whose connection blocks is not polled, and must not hold up the others that
        // wait for the reader. It ends with the stream.
        let runtime = shared.runtime.clone();
        let task = AbortOnDropHandle::new(runtime.spawn(async move {
            let number = after.get() / PAGE;
            let upto = head.min(Revision::new((number + 1) * PAGE)).max(after.next());
            let cell = shared.entry((number, upto));
            let page = cell.get_or_try_init(|| shared.read(number, upto)).await.cloned();
            shared.make_room();
            page
        }));
        Box::pin(async move {
            match task.await {
                Ok(page) => page,
                // The hub stops, and its streams with it.
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn oldest(&self) -> Revision {
        Revision::new(self.shared.oldest.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn entry(&self, key: Key) -> Arc<OnceCell<Arc<Page>>> {
        let mut pages = self.pages.lock();
        pages.now += 1;
        let used = pages.now;
        let entry = pages.entries.entry(key).or_insert_with(|| Entry { page: Arc::default(), used });
        entry.used = used;
        entry.page.clone()
    }

    /// Lets go of the pages that were not used for longest.
    fn make_room(&self) {
        let mut pages = self.pages.lock();
        let size = |entry: &Entry| entry.page.get().map_or(0, |page| page.bytes());
        let mut bytes: usize = pages.entries.values().map(size).sum();
        while bytes > KEPT
            && let Some(key) = pages
                .entries
                .iter()
                .filter(|(_, entry)| entry.page.initialized())
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| *key)
        {
            bytes -= pages.entries.remove(&key).as_ref().map_or(0, size);
        }
    }

    /// Reads a page, however long the database is out of sight: streams notice a pause.
    async fn read(&self, number: u64, upto: Revision) -> Result<Arc<Page>, Compacted> {
        let mut backoff = Backoff::new();
        let mut reader = self.reader.lock().await;
        loop {
            match self.try_read(&mut reader, Revision::new(number * PAGE), upto).await {
                Ok(page) => return Ok(Arc::new(page)),
                Err(SealError::Compacted { oldest }) => {
                    self.oldest.fetch_max(oldest.get(), Ordering::Relaxed);
                    if oldest >= upto {
                        return Err(Compacted { oldest });
                    }
                    // The floor rose into the page as it was read: those who stand above it get what is left.
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "reading history");
                    *reader = None;
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn try_read(
        &self,
        slot: &mut Option<Reader>,
        after: Revision,
        upto: Revision,
    ) -> Result<Page, SealError> {
        let Reader { connection, end } = match slot {
            Some(reader) => reader,
            None => slot.insert(self.open().await?),
        };
        let (oldest, _) = connection.bounds().await?;
        self.oldest.fetch_max(oldest.get(), Ordering::Relaxed);
        if oldest >= upto {
            return Err(SealError::Compacted { oldest });
        }
        // A page that the floor is in begins at the floor.
        let after = after.max(oldest);
        let mut position = if end.revision == after { *end } else { ReadPosition::after(after) };
        let mut batches = self.kinds.batches();
        while position.revision < upto {
            let left = u32::try_from(upto.get() - position.revision.get()).unwrap_or(u32::MAX);
            let rows = connection.read(&mut position, left).await?;
            if rows.is_empty() {
                return Err(SealError::Corrupt(format!("nothing to read after {}", position.revision)));
            }
            self.metrics.history_reads.inc();
            for row in &rows {
                batches.push(&row.change()?, LONG_AGO, &self.metrics);
            }
        }
        *end = position;
        Ok(Page::new(after, upto, batches.into_map()))
    }

    async fn open(&self) -> Result<Reader, SealError> {
        let connection = HubConnection::open(&self.target, self.session).await?;
        // The connection before may have been to a server that is no more.
        connection.check_epoch(&self.epoch).await?;
        Ok(Reader { connection, end: ReadPosition::after(Revision::ZERO) })
    }
}
