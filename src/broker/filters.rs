//! Verdicts of filters, shared by the subscribers with the same filter: an event is judged once per distinct
//! filter, by the first subscriber that reaches it.

use crate::{
    log::Segment,
    model::{
        Revision,
        filter::{Filter, Malformed, RowEvent, Sight, Verdict},
    },
    telemetry::KindMetrics,
};
use dashmap::DashMap;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Distinct filters of a kind at a time; of those who see a part, with what they see.
const MAX_FILTERS: usize = 1000;
/// What is seen is the operator's to say, and there may be many who see different parts.
const MAX_SIGHTS: usize = 20_000;
/// Verdicts on events of the window, a byte each, that all filters of a kind keep together; each keeps an
/// equal share.
const KEPT: usize = 4 << 20;
/// The least number of verdicts on events of the window that each of them keeps.
const LEAST_KEPT: usize = 4096;
/// Pages of history whose verdicts a filter keeps.
const PAGES: usize = 16;

/// What a segment is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The window.
    Log,
    /// The page of history with everything after one revision and up to another.
    Page(Revision, Revision),
}

/// The verdicts on a segment's events that were asked for, by its first ordinal, which stays the same as it
/// grows.
#[derive(Default)]
struct Shelf {
    segments: BTreeMap<u64, Vec<Option<Verdict>>>,
    events: usize,
}

impl Shelf {
    fn of(&mut self, segment: &Segment, events: Range<usize>) -> &mut [Option<Verdict>] {
        let known = self.segments.entry(segment.first_ordinal).or_default();
        if let Some(more @ 1..) = segment.len().checked_sub(known.len()) {
            known.resize(segment.len(), None);
            self.events += more;
        }
        known.get_mut(events).unwrap_or_default()
    }

    /// Drops the oldest until there are at most this many.
    fn keep(&mut self, most: usize) {
        while self.events > most
            && let Some((_, oldest)) = self.segments.pop_first()
        {
            self.events -= oldest.len();
        }
    }
}

#[derive(Default)]
struct Shelves {
    log: Shelf,
    /// The most recently read is the last.
    pages: VecDeque<(Source, Shelf)>,
}

impl Shelves {
    fn of(&mut self, source: Source) -> &mut Shelf {
        if source == Source::Log {
            return &mut self.log;
        }
        let known = self.pages.iter().position(|(page, _)| *page == source);
        let page = known.and_then(|at| self.pages.remove(at)).unwrap_or_else(|| (source, Shelf::default()));
        if self.pages.len() == PAGES {
            self.pages.pop_front();
        }
        self.pages.push_back(page);
        let last = self.pages.len() - 1;
        &mut self.pages[last].1
    }
}

/// A filter, and its verdicts. It is dropped with its last subscriber.
pub(super) struct Column {
    filter: Option<Filter>,
    sight: Sight,
    /// Locked after a position, and with nothing locked after it.
    shelves: Mutex<Shelves>,
    metrics: KindMetrics,
    /// How many columns the kind has.
    siblings: Arc<AtomicUsize>,
}

impl Column {
    /// The verdicts on some events of a segment.
    pub(super) fn judge(
        &self,
        source: Source,
        segment: &Segment,
        events: Range<usize>,
    ) -> Result<Vec<Verdict>, Malformed> {
        let mut shelves = self.shelves.lock();
        let mut evaluated = 0;
        let judge = |(at, known): (usize, &mut Option<Verdict>)| match *known {
            Some(verdict) => Ok(verdict),
            None => {
                evaluated += 1;
                let change = segment.change(at);
                let event = RowEvent {
                    change: change.change,
                    resource_id: change.resource_id,
                    occurred_at: change.captured_micros(),
                    old: change.before,
                    new: change.after,
                };
                Ok(*known.insert(self.sight.judge(self.filter.as_ref(), event)?))
            }
        };
        let from = events.start;
        let verdicts = (from..).zip(shelves.of(source).of(segment, events)).map(judge).collect();
        shelves.log.keep((KEPT / self.siblings.load(Ordering::Relaxed).max(1)).max(LEAST_KEPT));
        drop(shelves);
        self.metrics.evaluated(evaluated);
        verdicts
    }
}

impl Drop for Column {
    fn drop(&mut self) {
        self.siblings.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The filters that the subscribers of a kind have. Asked once per subscription, and by many at once when
/// many clients reconnect.
pub(super) struct Filters {
    columns: DashMap<(Option<Filter>, Sight), Weak<Column>>,
    in_use: Arc<AtomicUsize>,
}

impl Default for Filters {
    fn default() -> Self {
        // One shard for each lane of a large machine is enough; an empty shard costs memory in every kind.
        Self { columns: DashMap::with_shard_amount(16), in_use: Arc::default() }
    }
}

impl Filters {
    /// The column of a filter and of what is seen; `None`: there are as many others as there may be.
    pub(super) fn column(
        &self,
        filter: Option<&Filter>,
        sight: &Sight,
        metrics: &KindMetrics,
    ) -> Option<Arc<Column>> {
        let key = (filter.cloned(), sight.clone());
        if let Some(column) = self.columns.get(&key).and_then(|column| column.upgrade()) {
            return Some(column);
        }
        let others = self.in_use.fetch_add(1, Ordering::Relaxed);
        // It was dropped, so it is no longer in use.
        let column = Arc::new(Column {
            filter: filter.cloned(),
            sight: sight.clone(),
            shelves: Mutex::default(),
            metrics: metrics.clone(),
            siblings: self.in_use.clone(),
        });
        if others >= if sight.is_whole() { MAX_FILTERS } else { MAX_SIGHTS } {
            return None;
        }
        self.columns.retain(|_, column| column.strong_count() > 0);
        let mut known = self.columns.entry(key).or_default();
        // Somebody may have come first.
        Some(known.upgrade().unwrap_or_else(|| {
            *known = Arc::downgrade(&column);
            column
        }))
    }
}
