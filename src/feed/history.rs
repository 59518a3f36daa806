//! Reads the retained history for streams that stand before the window: in pages of a fixed grid, each read
//! once for everybody who wants it at that time, and kept while there is room. Where rows are large the grid
//! is finer.

use super::replay::Replay;
use crate::{
    backoff::Backoff,
    broker::{Compacted, Fetch, History, Page},
    catalog::Catalog,
    error::chain,
    log::Parts,
    model::{Epoch, KindId, Revision},
    store::{LogPosition, PageBound, SealError, SealedRow},
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
const PAGE: u64 = PageBound::HUB.events as u64;
/// Bytes of pages that are kept for later readers.
const KEPT: usize = 64 << 20;

/// When the events of a page were sealed: before any stream that reads it began.
const LONG_AGO: u64 = 0;

/// The history of one epoch.
pub(crate) struct HistoryReader {
    shared: Arc<Shared>,
}

struct Shared {
    epoch: Epoch,
    replay: Replay,
    catalog: Catalog,
    metrics: Arc<Metrics>,
    /// The runtime that encodes pages: not the lane that asks, which may end before others do.
    runtime: Handle,
    /// One reader at a time: those who wait find the page when they get their turn. Holds where the last page
    /// ended: beginning the next one there costs nothing even inside a transaction of a million rows.
    reader: AsyncMutex<LogPosition>,
    pages: Mutex<Pages>,
    oldest: AtomicU64,
}

/// After which line of the grid, and up to where it reaches: a page that the head is in grows.
type Key = (Revision, Revision);

#[derive(Default)]
struct Pages {
    entries: BTreeMap<Key, Entry>,
    /// Events per page in those cells of the grid that are too large for one, by their numbers.
    finer: BTreeMap<u64, u64>,
    /// Counts uses.
    now: u64,
}

impl Pages {
    /// The lines of the grid between which the event after a revision is.
    fn lines(&self, after: Revision) -> (Revision, Revision) {
        let cell = after.get() / PAGE;
        let events = self.finer.get(&cell).copied().unwrap_or(PAGE);
        let begin = cell * PAGE + after.get() % PAGE / events * events;
        (Revision::new(begin), Revision::new((begin + events).min((cell + 1) * PAGE)))
    }

    fn key(&self, after: Revision, head: Revision) -> Key {
        let (begin, end) = self.lines(after);
        (begin, head.min(end).max(after.next()))
    }
}

/// Why there is no page.
enum Unread {
    Compacted(Compacted),
    /// It would be too large; the grid is finer now.
    Finer,
}

struct Entry {
    page: Arc<OnceCell<Arc<Page>>>,
    used: u64,
}

impl HistoryReader {
    pub(super) fn new(epoch: Epoch, replay: Replay, catalog: Catalog, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch,
                replay,
                catalog,
                metrics,
                runtime: Handle::current(),
                reader: AsyncMutex::new(LogPosition::after(Revision::ZERO)),
                pages: Mutex::default(),
                oldest: AtomicU64::new(0),
            }),
        }
    }

    /// Notes the oldest revision that a reader can stand at.
    pub(crate) fn set_oldest(&self, oldest: Revision) {
        self.shared.oldest.fetch_max(oldest.get(), Ordering::Relaxed);
    }
}

impl History for HistoryReader {
    fn cached(&self, kind: &KindId, after: Revision, head: Revision) -> Option<Arc<Page>> {
        let mut pages = self.shared.pages.lock();
        pages.now += 1;
        let now = pages.now;
        if head <= after {
            return None;
        }
        let (begin, _) = pages.lines(after);
        let mut reaching = pages.entries.range_mut((begin, after.next())..=(begin, head));
        let (entry, page) = reaching
            .find_map(|(_, entry)| Some((entry.page.get().filter(|page| page.knows(kind))?.clone(), entry)))
            .map(|(page, entry)| (entry, page))?;
        entry.used = now;
        Some(page)
    }

    fn fetch(&self, kind: &KindId, after: Revision, head: Revision, parts: Parts) -> Fetch {
        let (shared, kind) = (self.shared.clone(), kind.clone());
        // In a separate task, not the stream's: a stream whose connection blocks is not polled, and must not
        // hold up others that wait for the reader. The task ends with the stream.
        let runtime = shared.runtime.clone();
        let task = AbortOnDropHandle::new(runtime.spawn(async move {
            loop {
                let (key, page) = shared.entry(&kind, after, head);
                let page = page.get_or_try_init(|| shared.read(after, head, key)).await.cloned();
                shared.make_room();
                match page {
                    Ok(page) if page.knows(&kind) => {
                        page.make(&kind.name, parts);
                        return Ok(page);
                    }
                    // It was read before the kind was added. The next one knows the kind, unless the kind was
                    // removed meanwhile: then its streams are about to end.
                    Ok(_) if shared.catalog.kinds().has(&kind) => {}
                    Ok(_) => return std::future::pending().await,
                    Err(Unread::Compacted(compacted)) => return Err(compacted),
                    Err(Unread::Finer) => {}
                }
            }
        }));
        Box::pin(async move {
            match task.await {
                Ok(page) => page,
                // The hub is stopping, and its streams with it.
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn oldest(&self) -> Revision {
        Revision::new(self.shared.oldest.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// A page that is cached, being read or to be read. A page that does not know the kind is discarded.
    fn entry(&self, kind: &KindId, after: Revision, head: Revision) -> (Key, Arc<OnceCell<Arc<Page>>>) {
        let mut pages = self.pages.lock();
        let key = pages.key(after, head);
        pages.now += 1;
        let used = pages.now;
        let is_stale = |entry: &Entry| entry.page.get().is_some_and(|page| !page.knows(kind));
        if pages.entries.get(&key).is_some_and(is_stale) {
            pages.entries.remove(&key);
        }
        let entry = pages.entries.entry(key).or_insert_with(|| Entry { page: Arc::default(), used });
        entry.used = used;
        (key, entry.page.clone())
    }

    /// Evicts the pages that were used least recently.
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

    /// Reads a page, however long the database is unreachable: streams notice a pause.
    async fn read(&self, after: Revision, head: Revision, key: Key) -> Result<Arc<Page>, Unread> {
        let mut backoff = Backoff::default();
        let mut end = self.reader.lock().await;
        loop {
            if self.pages.lock().key(after, head) != key {
                // An earlier reader has found it.
                return Err(Unread::Finer);
            }
            match self.try_read(&mut end, key).await {
                Ok(Some(page)) => return Ok(Arc::new(page)),
                Ok(None) => {}
                Err(SealError::Compacted { oldest }) => {
                    self.oldest.fetch_max(oldest.get(), Ordering::Relaxed);
                    if oldest >= key.1 {
                        return Err(Unread::Compacted(Compacted { oldest }));
                    }
                    // The floor rose into the page while it was read: streams above it get what is left.
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "reading history");
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    /// `None`: it would be too large, and the grid is finer now.
    async fn try_read(&self, end: &mut LogPosition, (begin, upto): Key) -> Result<Option<Page>, SealError> {
        let oldest = Revision::new(self.oldest.load(Ordering::Relaxed));
        if oldest >= upto {
            return Err(SealError::Compacted { oldest });
        }
        // A page that contains the floor begins at the floor.
        let after = begin.max(oldest);
        let mut position = if end.revision == after { *end } else { LogPosition::after(after) };
        // One version of the list of kinds, for the whole page.
        let kinds = self.catalog.kinds();
        let mut batches = kinds.batches();
        let mut bytes = 0;
        while position.revision < upto {
            let rows = self.replay.page(&mut position, &self.epoch, upto, PageBound::HUB, None).await?;
            self.metrics.history_reads.inc();
            bytes += rows.iter().map(SealedRow::bytes).sum::<usize>();
            if bytes >= PageBound::HUB.bytes && position.revision < upto {
                self.refine((begin, upto), position.revision.get() - after.get());
                return Ok(None);
            }
            for row in &rows {
                batches.push(&row.change()?, LONG_AGO, &self.metrics);
            }
        }
        *end = position;
        Ok(Some(Page::new(&self.epoch, (after, upto), kinds, batches.into_map())))
    }

    /// Notes that a page here is full with this many events, which is fewer than planned.
    fn refine(&self, key: Key, events: u64) {
        let mut pages = self.pages.lock();
        pages.entries.remove(&key);
        let (cell, oldest) = (key.0.get() / PAGE, self.oldest.load(Ordering::Relaxed) / PAGE);
        pages.finer.insert(cell, events);
        pages.finer = pages.finer.split_off(&oldest);
    }
}
