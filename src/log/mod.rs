//! The in-memory log of one kind: a bounded window onto the sealed log. It holds events as the database gave
//! them, and their encodings for the wire: each made once, when it is first needed, and handed out as slices.
//!
//! Events are counted by a dense *ordinal* per kind, from 0 at the start of the hub: revisions count all
//! kinds and have gaps here, ordinals have none, so a lag is a subtraction. No async, no clock, no knowledge
//! of who reads.

mod batch;
mod segment;
mod spelt;

pub use batch::Batch;
pub use segment::{Entry, Segment};
pub use spelt::{Part, Parts};

use crate::model::Revision;
use parking_lot::RwLock;
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// One kind's events, newest last.
pub struct Log {
    window: RwLock<Window>,
    /// `Window::next`, readable without the lock: readers at the head look only here.
    next: AtomicU64,
}

struct Window {
    /// Contiguous ordinals, the last one still growing.
    segments: VecDeque<Kept>,
    /// The ordinal of the event to come.
    next: u64,
    /// Everything of this kind up to here is or was in the window.
    head: Revision,
    /// Everything of this kind after this is still in the window.
    floor: Revision,
    bytes: usize,
    /// The segments in the window that tell of the table.
    of_table: VecDeque<Arc<Segment>>,
    /// What has left the window last, and is kept until its loss is counted.
    passed: VecDeque<Kept>,
    passed_bytes: usize,
}

/// A segment, and its bytes at the last count.
struct Kept {
    segment: Arc<Segment>,
    bytes: usize,
}

impl Kept {
    fn new(segment: Segment) -> Self {
        Self { bytes: segment.bytes(), segment: Arc::new(segment) }
    }
}

/// Where an ordinal is found.
pub enum Place {
    /// It is the next event.
    Head,
    /// At this index of this segment.
    In(Arc<Segment>, usize),
    /// It is no longer kept.
    Trimmed,
}

/// A revision outside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Events after it have left the window; the oldest position to start after is `floor`.
    TooOld {
        /// The oldest revision that can be read from.
        floor: Revision,
    },
    /// It is ahead of what this log has seen.
    Ahead {
        /// The newest revision.
        head: Revision,
    },
}

/// What the window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Number of events.
    pub events: u64,
    /// Their bytes in memory, the index and the encodings included.
    pub bytes: usize,
}

impl Log {
    /// An empty log at `head`.
    pub fn new(head: Revision) -> Self {
        let window = Window {
            segments: VecDeque::new(),
            next: 0,
            head,
            floor: head,
            bytes: 0,
            of_table: VecDeque::new(),
            passed: VecDeque::new(),
            passed_bytes: 0,
        };
        Self { window: RwLock::new(window), next: AtomicU64::new(0) }
    }

    /// Appends events, of which the first is newer than any before, and notes that nothing of this kind up to
    /// `head` is missing. There is only one appender. What waiting streams need is encoded here, before any
    /// of them sees the events, so that none waits for another to do it: `parts`, and whatever was encoded of
    /// the segment that the events may be merged into.
    pub fn append(&self, batch: Batch, head: Revision, parts: Parts) {
        let window = self.window.read();
        let (next, tail) = (window.next, window.segments.back().map(|tail| tail.segment.clone()));
        drop(window);
        let segments: Vec<_> = batch.into_segments(next).collect();
        segments.iter().for_each(|segment| segment.make(parts));
        if let (Some(tail), Some(first)) = (tail, segments.first())
            && tail.has_room_for(first)
        {
            first.make(tail.made());
        }
        let mut window = self.window.write();
        segments.into_iter().for_each(|segment| window.push(segment));
        window.head = window.head.max(head);
        self.next.store(window.next, Ordering::Release);
    }

    /// Notes that nothing of this kind up to `head` is missing.
    pub fn advance(&self, head: Revision) {
        let mut window = self.window.write();
        window.head = window.head.max(head);
    }

    /// The newest revision up to which nothing of this kind is missing.
    pub fn head(&self) -> Revision {
        self.window.read().head
    }

    /// The ordinal of the event to come.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Everything after this revision is in the window.
    pub fn floor(&self) -> Revision {
        self.window.read().floor
    }

    /// The head, and the ordinal that follows it, at one moment.
    pub fn end(&self) -> (Revision, u64) {
        let window = self.window.read();
        (window.head, window.next)
    }

    /// Finds an ordinal, in the window or in what is kept from before.
    pub fn locate(&self, ordinal: u64) -> Place {
        self.window.read().locate(ordinal)
    }

    /// The segments within these ordinals that tell of the table, and of no row.
    pub fn of_table(&self, ordinals: &Range<u64>) -> Vec<Arc<Segment>> {
        let window = self.window.read();
        window.of_table.iter().filter(|told| ordinals.contains(&told.first_ordinal)).cloned().collect()
    }

    /// The ordinal of the first event after `revision`.
    pub fn first_after(&self, revision: Revision) -> Result<u64, Outside> {
        let window = self.window.read();
        if revision < window.floor {
            return Err(Outside::TooOld { floor: window.floor });
        }
        if revision > window.head {
            return Err(Outside::Ahead { head: window.head });
        }
        let at = window.segments.partition_point(|kept| kept.segment.last_revision() <= revision);
        Ok(window.segments.get(at).map_or(window.next, |Kept { segment, .. }| {
            segment.first_ordinal
                + segment.entries().partition_point(|entry| entry.revision <= revision) as u64
        }))
    }

    /// If the window is over `limit` bytes: the first ordinal to keep. A sixteenth is freed at a time, so
    /// that the subscribers concerned are looked for only once in many appends. At least the newest segment
    /// stays.
    pub fn excess(&self, limit: usize) -> Option<u64> {
        let window = self.window.read();
        if window.bytes <= limit {
            return None;
        }
        let mut left = window.bytes;
        let last = window.segments.len().checked_sub(1)?;
        let keep = window.segments.iter().take(last).position(|kept| {
            let enough = left <= limit - limit / 16;
            left -= kept.bytes;
            enough
        });
        window.segments.get(keep.unwrap_or(last)).map(|kept| kept.segment.first_ordinal)
    }

    /// Takes everything before an ordinal that begins a segment out of the window, and lets go of it as far
    /// as it is before the other: the first that somebody has yet to count. Returns the bytes that are kept
    /// beside the window.
    pub fn trim(&self, first_kept: u64, first_needed: u64) -> usize {
        let mut freed = Vec::new();
        let mut window = self.window.write();
        while window.segments.len() > 1
            && let Some(kept) = window.segments.pop_front_if(|kept| kept.segment.end_ordinal() <= first_kept)
        {
            window.bytes -= kept.bytes;
            window.floor = kept.segment.last_revision();
            window.of_table.pop_front_if(|told| told.first_ordinal == kept.segment.first_ordinal);
            window.passed_bytes += kept.bytes;
            window.passed.push_back(kept);
        }
        while let Some(kept) = window.passed.pop_front_if(|kept| kept.segment.end_ordinal() <= first_needed) {
            window.passed_bytes -= kept.bytes;
            freed.push(kept);
        }
        let kept = window.passed_bytes;
        drop(window); // before the memory is given back
        kept
    }

    /// Counts the window's bytes again, so that encodings made after the append count, too. To be called now
    /// and then.
    pub fn recount(&self) {
        let mut window = self.window.write();
        let mut bytes = 0;
        for kept in &mut window.segments {
            kept.bytes = kept.segment.bytes();
            bytes += kept.bytes;
        }
        window.bytes = bytes;
    }

    /// What the window holds now.
    pub fn size(&self) -> Size {
        let window = self.window.read();
        let events = window.segments.front().map_or(0, |first| window.next - first.segment.first_ordinal);
        Size { events, bytes: window.bytes }
    }
}

impl Window {
    fn push(&mut self, segment: Segment) {
        self.next = segment.end_ordinal();
        let segment = match self.segments.pop_back_if(|tail| tail.segment.has_room_for(&segment)) {
            Some(tail) => {
                self.bytes -= tail.bytes;
                tail.segment.grown_by(&segment)
            }
            None => segment,
        };
        let kept = Kept::new(segment);
        self.bytes += kept.bytes;
        if kept.segment.schema_change().is_some() {
            self.of_table.push_back(kept.segment.clone());
        }
        self.segments.push_back(kept);
    }

    fn locate(&self, ordinal: u64) -> Place {
        if ordinal >= self.next {
            return Place::Head;
        }
        let is_in_window = self.segments.front().is_some_and(|first| first.segment.first_ordinal <= ordinal);
        let segments = if is_in_window { &self.segments } else { &self.passed };
        let after = segments.partition_point(|kept| kept.segment.first_ordinal <= ordinal);
        match after.checked_sub(1).and_then(|at| segments.get(at)) {
            Some(Kept { segment, .. }) => {
                Place::In(segment.clone(), (ordinal - segment.first_ordinal) as usize)
            }
            None => Place::Trimmed,
        }
    }
}

/// Offsets fit 32 bits: a segment has at most 64 KiB of rows after and of rows before or one event, and an
/// event cannot exceed Postgres' 1 GB for a row.
fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
