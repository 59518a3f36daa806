//! Events on their way into the log.

use super::{
    offset,
    segment::{Entry, Segment, Text, Wrote},
};
use crate::{
    model::{Change, ChangeType, Epoch, KindName, Writer},
    wire::Renderer,
};
use std::{fmt, sync::Arc};

/// The most bytes of rows after, and of rows before, in a segment, unless it is a single event. A subscriber
/// takes a segment at a time, so large ones save work; HTTP/2 cuts them into data frames.
const SEGMENT_BYTES: usize = 64 * 1024;
/// The bytes of an event on the wire besides its id and its row, about: small rows count, too.
const ENVELOPE_BYTES: usize = 32;

/// Events of one kind on their way into the log.
pub struct Batch {
    kind: KindName,
    epoch: Epoch,
    renderer: Arc<dyn Renderer>,
    closed: Vec<Open>,
    open: Open,
}

#[derive(Default)]
struct Open {
    entries: Vec<Entry>,
    writers: Vec<Wrote>,
    text: Text,
}

impl Batch {
    /// Without an event yet. Whoever wants to see the events has their rows written by this.
    pub fn new(kind: KindName, renderer: Arc<dyn Renderer>) -> Self {
        Self { kind, epoch: Epoch::new(""), renderer, closed: Vec::new(), open: Open::default() }
    }

    /// The same, of this history: who publishes it knows which.
    pub(crate) fn of(self, epoch: Epoch) -> Self {
        Self { epoch, ..self }
    }

    /// Adds an event, and when its seal was acknowledged, in microseconds on the appender's clock.
    pub fn push(&mut self, change: &Change<'_>, sealed_at: u64) {
        if change.change == ChangeType::Schema {
            // By itself: a stream may end there.
            self.closed.push(std::mem::take(&mut self.open));
            self.open.push(change, sealed_at);
            self.closed.push(std::mem::take(&mut self.open));
            return;
        }
        let (after, before) = (with_envelope(change), length(change.before));
        let Text { after: afters, before: befores, .. } = &self.open.text;
        if !self.open.entries.is_empty() && (afters + after).max(befores + before) > SEGMENT_BYTES {
            self.closed.push(std::mem::take(&mut self.open));
        }
        self.open.push(change, sealed_at);
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
        let Self { kind, epoch, renderer, closed, open } = self;
        let parts = closed.into_iter().chain([open]).filter(|part| !part.entries.is_empty());
        parts.map(move |part| {
            let first_ordinal = next_ordinal;
            next_ordinal += part.entries.len() as u64;
            let Open { entries, writers, mut text } = part;
            text.all.shrink_to_fit();
            Segment::new(
                (kind.clone(), epoch.clone(), renderer.clone()),
                first_ordinal,
                (entries, writers),
                text,
            )
        })
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("kind", &self.kind).field("events", &self.len()).finish_non_exhaustive()
    }
}

impl Open {
    fn push(&mut self, change: &Change<'_>, sealed_at: u64) {
        let Self { entries, writers, text } = self;
        // Consecutive events mostly have the same writer.
        if writers.last().is_none_or(|last| last.said(&text.all) != change.writer) {
            let Writer { actor, origin, trace } = change.writer;
            let start = offset(text.all.len());
            let ends = [actor, origin, trace].map(|said| said.map(|said| text.push(said)));
            writers.push(Wrote { start, ends });
        }
        let id_start = offset(text.all.len());
        let id_end = text.push(change.resource_id);
        let after_end = change.after.map(|row| text.push(row));
        let before_end = change.before.map(|row| text.push(row));
        text.after += with_envelope(change);
        text.before += length(change.before);
        entries.push(Entry {
            revision: change.revision,
            sealed_at,
            change: change.change,
            captured_at: change.captured_micros().unwrap_or(Entry::NOT_CAPTURED),
            transaction_end: change.transaction_end,
            writer: offset(writers.len()) - 1,
            id_start,
            id_end,
            after_end: after_end.unwrap_or(Entry::NO_ROW),
            before_end: before_end.unwrap_or(Entry::NO_ROW),
        });
    }
}

/// Bytes on the wire, about.
fn with_envelope(change: &Change<'_>) -> usize {
    ENVELOPE_BYTES + change.resource_id.len() + length(change.after)
}

fn length(row: Option<&str>) -> usize {
    row.map_or(0, str::len)
}
