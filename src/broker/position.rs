//! A subscriber's cursor, and what becomes of the events it passes. No clock, no I/O: time comes as an argument.
//!
//! ```text
//!             falls behind, CATCH_UP
//!   ┌──────┐ ───────────────────────► ┌─────────┐
//!   │ Live │                          │ History │ ◄── starts before the window
//!   └──────┘ ◄─────────────────────── └─────────┘
//!     │  ▲     the window reaches it
//!     │  └── falls behind, DROP: half a buffer before the head
//!     └───── falls behind, DISCONNECT: Lost
//! ```

use super::interest::{Interest, Policy};
use crate::{
    log::{self, Log, Segment, frame},
    model::Revision,
};
use bytes::Bytes;

/// `dropped_before` has this field number in every kind's watch event.
const DROPPED_BEFORE: u8 = 6;

/// Where the next event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From the window: every event before this ordinal was passed.
    Live { ordinal: u64 },
    /// From the retained history, after [`Position::revision`].
    History,
    /// From nowhere: the stream was too slow, and its client wants to know that rather than anything else.
    Lost,
}

/// Where a subscriber stands. Every event up to `revision` was delivered, dropped, or not wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) place: Place,
    pub(super) revision: Revision,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    /// The part of `dropped` that the next event is to tell.
    untold: u64,
    /// When the connection last asked for bytes.
    pub(super) polled_at: u64,
    /// What it has been waiting for since then, if it is the hub that lets it wait.
    pub(super) wait: Wait,
}

/// Why a stream is sent no events although its connection may take bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is not.
    No,
    /// Its initial state comes first.
    ForState,
    /// A page of history is on its way.
    ForPage,
}

/// Frames for the wire.
pub(super) struct Chunk {
    pub(super) frames: Bytes,
    pub(super) events: u64,
    /// When the oldest of them was sealed.
    pub(super) sealed_at: u64,
}

/// What falling behind did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fall {
    /// So many wanted events are lost.
    Dropped(u64),
    /// The stream goes on from the history.
    ToHistory,
    /// The stream ends.
    Lost,
}

impl Position {
    pub(super) fn new(place: Place, revision: Revision, now: u64) -> Self {
        Self { place, revision, delivered: 0, dropped: 0, untold: 0, polled_at: now, wait: Wait::No }
    }

    /// Passes the rest of a segment, from the event at `index`, before which this position stands. Nothing wanted there: nothing is
    /// returned.
    pub(super) fn take(&mut self, segment: &Segment, index: usize, interest: &Interest) -> Option<Chunk> {
        if self.untold == 0 && interest.is_plain() {
            let chunk = Chunk {
                frames: segment.frames(index..segment.len()),
                events: (segment.len() - index) as u64,
                sealed_at: segment.entries().get(index)?.sealed_at,
            };
            self.pass(segment, segment.len(), chunk.events);
            return Some(chunk);
        }
        self.compose(segment, index, interest)
    }

    /// As `take`, for a stream whose bytes are not the log's: some events left out, or additions to them. A plain stream that has a
    /// drop to tell gets one event so, and slices of the log from then on.
    fn compose(&mut self, segment: &Segment, index: usize, interest: &Interest) -> Option<Chunk> {
        let mut frames = Vec::new();
        let mut events = 0;
        let mut sealed_at = None;
        let mut at = index;
        while at < segment.len() && !(interest.is_plain() && events > 0) {
            if segment.matches(at, &interest.selector) {
                let framed = segment.frames(at..at + 1);
                let told = self.tell();
                let previous = if interest.include_previous { segment.previous(at) } else { &[] };
                match told {
                    None if previous.is_empty() => frames.extend_from_slice(&framed),
                    told => {
                        frame::write_extended(&mut frames, &framed, &[&told.unwrap_or_default(), previous])
                    }
                }
                events += 1;
                sealed_at = sealed_at.or_else(|| Some(segment.entries().get(at)?.sealed_at));
            }
            at += 1;
        }
        self.pass(segment, at, events);
        Some(Chunk { frames: frames.into(), events, sealed_at: sealed_at? })
    }

    /// The field that tells what was dropped since it was last told.
    pub(super) fn tell(&mut self) -> Option<Vec<u8>> {
        (self.untold > 0).then(|| frame::varint_field(DROPPED_BEFORE, std::mem::take(&mut self.untold)))
    }

    /// How many events the head is ahead; a stream that reads history is not counted.
    pub(super) fn lag(&self, next: u64) -> Option<u64> {
        match self.place {
            Place::Live { ordinal } => Some(next.saturating_sub(ordinal)),
            Place::History | Place::Lost => None,
        }
    }

    /// Does as the policy says to a live stream that is further behind than it may be, or that stands before `floor`, which the window
    /// is about to leave. What is dropped is counted to the event, for everything passed is still in the log.
    pub(super) fn fall_behind(&mut self, log: &Log, floor: u64, interest: &Interest) -> Fall {
        let Place::Live { ordinal } = self.place else { return Fall::Dropped(0) };
        match interest.policy {
            Policy::CatchUp => {
                // Nothing of this kind lies between here and the next event: the history need not reach further back.
                if let log::Place::In(segment, index) = log.locate(ordinal)
                    && let Some(entry) = segment.entries().get(index)
                {
                    self.revision = self.revision.max(entry.revision.previous());
                }
                self.place = Place::History;
                return Fall::ToHistory;
            }
            Policy::Disconnect => {
                self.place = Place::Lost;
                return Fall::Lost;
            }
            Policy::Drop => {}
        }
        // At least one event stays ahead, so that something follows that tells.
        let target = log.next().saturating_sub((interest.buffer / 2).max(1)).max(floor).max(ordinal);
        let missed = log.count(ordinal..target, &interest.selector);
        if let Some(log::Place::In(segment, index)) = target.checked_sub(1).map(|last| log.locate(last))
            && let Some(entry) = segment.entries().get(index)
        {
            self.revision = self.revision.max(entry.revision);
        }
        self.place = Place::Live { ordinal: target };
        self.dropped += missed;
        self.untold += missed;
        Fall::Dropped(missed)
    }

    fn pass(&mut self, segment: &Segment, end: usize, delivered: u64) {
        if let Place::Live { ordinal } = &mut self.place {
            *ordinal = segment.first_ordinal + end as u64;
        }
        self.delivered += delivered;
        if let Some(entry) = end.checked_sub(1).and_then(|last| segment.entries().get(last)) {
            self.revision = entry.revision;
        }
    }
}
