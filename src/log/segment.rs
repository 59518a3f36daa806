//! Events side by side: their frames in one piece of memory, and an index.

use crate::{
    model::{ChangeType, Revision},
    wire::frame,
};
use bytes::Bytes;
use std::ops::Range;

/// A segment is no larger than this, unless it is a single event. A subscriber takes a segment at a time, so a large one spares
/// everybody work; HTTP/2 cuts it into data frames.
const SEGMENT_BYTES: usize = 64 * 1024;
/// Up to here a segment grows by the appends that come after it: each of them copies what is there.
const GROWN_BYTES: usize = 16 * 1024;

/// What is known of an event without reading its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its revision.
    pub revision: Revision,
    /// When its seal was acknowledged, on the clock of whoever appends, in microseconds.
    pub sealed_at: u64,
    /// What happened.
    pub change: ChangeType,
    frame_end: u32,
    previous_end: u32,
    id_end: u32,
}

/// A run of events with contiguous ordinals; never changed once it is in the log. It holds no more memory than its events need, which is
/// what the window is bounded by.
#[derive(Debug)]
pub struct Segment {
    /// The ordinal of the first event.
    pub first_ordinal: u64,
    entries: Box<[Entry]>,
    /// The frames, ready for the wire.
    frames: Bytes,
    /// Per event, the bytes that add the row before to its message.
    previous: Box<[u8]>,
    /// The resource ids.
    ids: Box<str>,
}

/// Events on their way into the log.
#[derive(Debug, Default)]
pub struct Batch {
    closed: Vec<Open>,
    open: Open,
}

#[derive(Debug, Default)]
struct Open {
    entries: Vec<Entry>,
    frames: Vec<u8>,
    previous: Vec<u8>,
    ids: String,
}

impl Batch {
    /// Adds an event. `encode` appends its message to the first buffer, and to the second what must follow the message to show the
    /// row before as well.
    pub fn push(
        &mut self,
        (revision, change, resource_id): (Revision, ChangeType, &str),
        sealed_at: u64,
        encode: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    ) {
        let open = &mut self.open;
        let (frames, previous) = (open.frames.len(), open.previous.len());
        frame::write(&mut open.frames, |message| encode(message, &mut open.previous));
        if !open.entries.is_empty() && open.is_over_full() {
            let next = Open {
                frames: open.frames.split_off(frames),
                previous: open.previous.split_off(previous),
                ..Open::default()
            };
            self.closed.push(std::mem::replace(open, next));
        }
        open.ids.push_str(resource_id);
        open.entries.push(Entry {
            revision,
            sealed_at,
            change,
            frame_end: offset(open.frames.len()),
            previous_end: offset(open.previous.len()),
            id_end: offset(open.ids.len()),
        });
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.closed.iter().chain([&self.open]).map(|part| part.entries.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn into_segments(self, mut next_ordinal: u64) -> impl Iterator<Item = Segment> {
        self.closed.into_iter().chain([self.open]).filter(|part| !part.entries.is_empty()).map(move |part| {
            let first_ordinal = next_ordinal;
            next_ordinal += part.entries.len() as u64;
            let Open { entries, frames, previous, ids } = part;
            Segment {
                first_ordinal,
                entries: entries.into(),
                frames: frames.into_boxed_slice().into(),
                previous: previous.into(),
                ids: ids.into(),
            }
        })
    }
}

impl Open {
    fn is_over_full(&self) -> bool {
        self.frames.len() > SEGMENT_BYTES || self.previous.len() > SEGMENT_BYTES
    }
}

impl Segment {
    /// The index of its events.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of events.
    #[allow(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The ordinal after its last event.
    pub fn end_ordinal(&self) -> u64 {
        self.first_ordinal + self.entries.len() as u64
    }

    /// The revision of its last event.
    pub fn last_revision(&self) -> Revision {
        self.entries.last().map_or(Revision::ZERO, |entry| entry.revision)
    }

    /// The frames of a run of events, shared and not copied.
    pub fn frames(&self, events: Range<usize>) -> Bytes {
        self.frames.slice(self.frame_start(events.start)..self.frame_start(events.end))
    }

    /// An event's message, without its frame.
    pub fn message(&self, event: usize) -> &[u8] {
        let (start, end) = self.bounds(event, |entry| entry.frame_end);
        self.frames.get(start + frame::HEADER..end).unwrap_or_default()
    }

    /// The bytes that add the row before to an event's message.
    pub fn previous(&self, event: usize) -> &[u8] {
        let (start, end) = self.bounds(event, |entry| entry.previous_end);
        self.previous.get(start..end).unwrap_or_default()
    }

    /// The resource that an event is about.
    pub fn resource_id(&self, event: usize) -> &str {
        let (start, end) = self.bounds(event, |entry| entry.id_end);
        self.ids.get(start..end).unwrap_or_default()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.len() + self.previous.len() + self.ids.len() + self.entries.len() * size_of::<Entry>()
    }

    pub(super) fn has_room_for(&self, other: &Self) -> bool {
        self.frames.len() + other.frames.len() <= GROWN_BYTES
            && self.previous.len() + other.previous.len() <= GROWN_BYTES
    }

    /// This segment and the next as one. Copying at most `GROWN_BYTES` once per append keeps small appends in one piece: without
    /// it each of them would be a data frame of its own to every subscriber that lags a little.
    pub(super) fn grown_by(&self, next: &Self) -> Self {
        let shift = |entry: &Entry| Entry {
            frame_end: entry.frame_end + offset(self.frames.len()),
            previous_end: entry.previous_end + offset(self.previous.len()),
            id_end: entry.id_end + offset(self.ids.len()),
            ..*entry
        };
        Self {
            first_ordinal: self.first_ordinal,
            entries: self.entries.iter().copied().chain(next.entries.iter().map(shift)).collect(),
            frames: [&self.frames[..], &next.frames[..]].concat().into(),
            previous: [&self.previous[..], &next.previous[..]].concat().into(),
            ids: [&*self.ids, &*next.ids].concat().into(),
        }
    }

    fn frame_start(&self, event: usize) -> usize {
        self.bounds(event, |entry| entry.frame_end).0
    }

    fn bounds(&self, event: usize, end: impl Fn(&Entry) -> u32) -> (usize, usize) {
        let at = |event: usize| self.entries.get(event).map(|entry| end(entry) as usize);
        let start = event.checked_sub(1).and_then(at).unwrap_or(0);
        (start, at(event).unwrap_or(start))
    }
}

/// Offsets fit 32 bits: a segment has at most 64 KiB or one event, and an event cannot exceed Postgres' 1 GB for a row.
fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
