//! A subscriber's cursor, and what becomes of the events it passes. No clock, no I/O: time comes as an argument.

use super::subscription::Interest;
use crate::{
    log::{Log, Segment, frame},
    model::Revision,
};
use bytes::Bytes;

/// `dropped_before` has this field number in every kind's watch event.
const DROPPED_BEFORE: u8 = 6;

/// Where a subscriber stands. Every event before `ordinal` was delivered, dropped, or not wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) ordinal: u64,
    /// The revision of the last event passed, or where the stream started.
    pub(super) revision: Revision,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    /// The part of `dropped` that the next event is to tell.
    untold: u64,
    /// When the connection last asked for bytes.
    pub(super) polled_at: u64,
}

/// Frames for the wire.
pub(super) struct Chunk {
    pub(super) frames: Bytes,
    pub(super) events: u64,
    /// When the oldest of them was sealed.
    pub(super) sealed_at: u64,
}

impl Position {
    pub(super) fn new(ordinal: u64, revision: Revision, now: u64) -> Self {
        Self { ordinal, revision, delivered: 0, dropped: 0, untold: 0, polled_at: now }
    }

    /// Passes the rest of a segment, from the event at `index`, at which this position stands. Nothing wanted there: nothing is returned.
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
                let told = (self.untold > 0)
                    .then(|| frame::varint_field(DROPPED_BEFORE, std::mem::take(&mut self.untold)));
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

    /// Gives up events so as to stand half a buffer before the head, and not before `floor`. Returns how many were wanted: exactly
    /// those, for every event passed is still in the log.
    pub(super) fn fall_behind(&mut self, log: &Log, floor: u64, interest: &Interest) -> u64 {
        // At least one event stays ahead, so that something follows that tells.
        let target = log.next().saturating_sub((interest.buffer / 2).max(1)).max(floor);
        if target <= self.ordinal {
            return 0;
        }
        let missed = log.count(self.ordinal..target, &interest.selector);
        if let crate::log::Place::In(segment, index) = log.locate(target - 1)
            && let Some(entry) = segment.entries().get(index)
        {
            self.revision = entry.revision;
        }
        self.ordinal = target;
        self.dropped += missed;
        self.untold += missed;
        missed
    }

    fn pass(&mut self, segment: &Segment, end: usize, delivered: u64) {
        self.ordinal = segment.first_ordinal + end as u64;
        self.delivered += delivered;
        if let Some(entry) = end.checked_sub(1).and_then(|last| segment.entries().get(last)) {
            self.revision = entry.revision;
        }
    }
}
