//! A run of events as the database gave them: their texts in one piece of memory, and an index; with their
//! encodings for the wire.

use super::{
    offset,
    spelt::{Part, Parts, Shelf, Spelt},
};
use crate::{
    model::{Change, ChangeType, Epoch, KindName, Revision, SchemaChange, Writer},
    wire::{Context, Renderer, Rendition},
};
use bytes::Bytes;
use std::{fmt, ops::Range, sync::Arc};

/// Up to this size a segment grows by later appends, each of which copies what is there.
const GROWN_BYTES: usize = 16 * 1024;

/// What is known of an event without reading its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its revision.
    pub revision: Revision,
    /// When its seal was acknowledged, in microseconds on the appender's clock.
    pub sealed_at: u64,
    /// What happened.
    pub change: ChangeType,
    /// In microseconds since 1970.
    pub(super) captured_at: i64,
    pub(super) transaction_end: Revision,
    /// Which of the segment's writers made it.
    pub(super) writer: u32,
    /// Its texts: the id, the row after, the row before.
    pub(super) id_start: u32,
    pub(super) id_end: u32,
    pub(super) after_end: u32,
    pub(super) before_end: u32,
}

impl Entry {
    /// The time of an event without one.
    pub(super) const NOT_CAPTURED: i64 = i64::MIN;
    /// The end of an absent row.
    pub(super) const NO_ROW: u32 = u32::MAX;

    fn moved(self, texts: u32, writers: u32) -> Self {
        let moved = |end: u32| if end == Self::NO_ROW { end } else { end + texts };
        Self {
            writer: self.writer + writers,
            id_start: self.id_start + texts,
            id_end: self.id_end + texts,
            after_end: moved(self.after_end),
            before_end: moved(self.before_end),
            ..self
        }
    }
}

/// Who made events: where the texts begin, and where each present one ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrote {
    pub(super) start: u32,
    /// The ends of the actor, the origin and the trace, in this order.
    pub(super) ends: [Option<u32>; 3],
}

impl Wrote {
    pub(super) fn said<'a>(&self, texts: &'a str) -> Writer<'a> {
        let mut start = self.start;
        let [actor, origin, trace] = self.ends.map(|end| {
            let end = end?;
            texts.get(std::mem::replace(&mut start, end) as usize..end as usize)
        });
        Writer { actor, origin, trace }
    }
}

/// The texts of events.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) all: String,
    /// Bytes of events without their rows before, on the wire, about.
    pub(super) after: usize,
    /// Bytes of rows before.
    pub(super) before: usize,
}

impl Text {
    /// Where it ends.
    pub(super) fn push(&mut self, text: &str) -> u32 {
        self.all.push_str(text);
        offset(self.all.len())
    }
}

/// A run of events with contiguous ordinals; they never change once they are in the log. It holds no more
/// memory than the events and their encodings need: this is what bounds the window.
pub struct Segment {
    /// The ordinal of the first event.
    pub first_ordinal: u64,
    kind: KindName,
    epoch: Epoch,
    renderer: Arc<dyn Renderer>,
    entries: Box<[Entry]>,
    writers: Box<[Wrote]>,
    text: Text,
    spelt: Shelf,
    /// What its one event says, if that is of the table and of no row.
    schema_change: Option<SchemaChange>,
}

impl Segment {
    pub(super) fn new(
        (kind, epoch, renderer): (KindName, Epoch, Arc<dyn Renderer>),
        first_ordinal: u64,
        (entries, writers): (Vec<Entry>, Vec<Wrote>),
        text: Text,
    ) -> Self {
        let (entries, writers, spelt) = (entries.into(), writers.into(), Shelf::default());
        let mut made =
            Self { first_ordinal, kind, epoch, renderer, entries, writers, text, spelt, schema_change: None };
        let is_of_table = made.entries.first().is_some_and(|entry| entry.change == ChangeType::Schema);
        made.schema_change = is_of_table.then(|| SchemaChange::parse(made.change(0).after));
        made
    }

    /// What its one event says, if that is of the table and of no row.
    pub fn schema_change(&self) -> Option<&SchemaChange> {
        self.schema_change.as_ref()
    }

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

    /// The kind that its events are of.
    pub fn kind(&self) -> &KindName {
        &self.kind
    }

    /// What its events are spelt with.
    pub(crate) fn context(&self) -> Context<'_> {
        Context { renderer: &*self.renderer, epoch: self.epoch.as_str() }
    }

    /// The resource that an event is about.
    pub fn resource_id(&self, event: usize) -> &str {
        self.entries.get(event).map_or("", |entry| self.text(entry.id_start, entry.id_end))
    }

    /// An event, as the database gave it. It must exist.
    pub fn change(&self, event: usize) -> Change<'_> {
        let Some(entry) = self.entries.get(event) else { return self.nothing() };
        let after = (entry.after_end != Entry::NO_ROW).then(|| self.text(entry.id_end, entry.after_end));
        let start = if after.is_some() { entry.after_end } else { entry.id_end };
        let before = (entry.before_end != Entry::NO_ROW).then(|| self.text(start, entry.before_end));
        let wrote = self.writers.get(entry.writer as usize);
        let captured_at = (entry.captured_at != Entry::NOT_CAPTURED).then_some(entry.captured_at);
        Change {
            revision: entry.revision,
            kind: self.kind.as_str(),
            resource_id: self.text(entry.id_start, entry.id_end),
            change: entry.change,
            after,
            before,
            captured_at: captured_at.and_then(Change::moment),
            writer: wrote.map(|wrote| wrote.said(&self.text.all)).unwrap_or_default(),
            transaction_end: entry.transaction_end,
        }
    }

    /// A run of events as a rendition encodes them, shared and not copied; encoded now, if this is the first
    /// request.
    pub fn frames(&self, rendition: Rendition, events: Range<usize>) -> Bytes {
        let spelt = self.part(Part::Events(rendition));
        spelt.map(|spelt| spelt.shared(events)).unwrap_or_default()
    }

    /// An event as a rendition encodes it.
    pub fn spelt(&self, rendition: Rendition, event: usize) -> &[u8] {
        let spelt = self.part(Part::Events(rendition));
        spelt.map(|spelt| spelt.of_event(event)).unwrap_or_default()
    }

    /// What a rendition adds to an event to show the row before.
    pub fn previous(&self, rendition: Rendition, event: usize) -> &[u8] {
        let spelt = self.part(Part::Previous(rendition));
        spelt.map(|spelt| spelt.of_event(event)).unwrap_or_default()
    }

    /// Encodes these parts, unless they are there already.
    pub(crate) fn make(&self, parts: Parts) {
        for part in Part::all().filter(|&part| parts.contains(part)) {
            self.part(part);
        }
    }

    fn part(&self, part: Part) -> Option<&Spelt> {
        // Spelt, an event is about as long as what is known of it.
        let make = || Spelt::of(self.len(), self.text.all.len(), |event, out| self.spell(event, part, out));
        self.spelt.get(part, make)
    }

    fn spell(&self, event: usize, part: Part, out: &mut Vec<u8>) {
        let change = self.change(event);
        let written = match part {
            Part::Events(rendition) => rendition.spelling().event(&change, self.context(), out),
            Part::Previous(rendition) => rendition.spelling().previous(&change, self.context(), out),
        };
        if let Err(error) = written {
            let (kind, revision) = (change.kind, change.revision);
            tracing::error!(kind, %revision, %error, "a row does not fit its kind");
        }
    }

    /// The parts that are encoded.
    pub(super) fn made(&self) -> Parts {
        self.spelt.made()
    }

    /// Bytes in memory now, the encodings included.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.writers) + self.text.all.len() + self.spelt.bytes()
    }

    /// Whether the next segment may be merged into this one: the kind's renderer may have changed in between.
    pub(super) fn has_room_for(&self, other: &Self) -> bool {
        self.text.after + other.text.after <= GROWN_BYTES
            && self.text.before + other.text.before <= GROWN_BYTES
            && Arc::ptr_eq(&self.renderer, &other.renderer)
            && self.schema_change.is_none()
            && other.schema_change.is_none()
    }

    /// This segment and the next as one, with the encodings of both. Copying at most `GROWN_BYTES` once per
    /// append keeps small appends in one piece: without it each of them would be a separate data frame to
    /// every subscriber that lags a little.
    pub(super) fn grown_by(&self, next: &Self) -> Self {
        let (texts, writers) = (offset(self.text.all.len()), offset(self.writers.len()));
        let wrote = |wrote: &Wrote| Wrote {
            start: wrote.start + texts,
            ends: wrote.ends.map(|end| end.map(|end| end + texts)),
        };
        let entries = next.entries.iter().map(|entry| entry.moved(texts, writers));
        Self {
            first_ordinal: self.first_ordinal,
            kind: self.kind.clone(),
            epoch: self.epoch.clone(),
            renderer: self.renderer.clone(),
            entries: self.entries.iter().copied().chain(entries).collect(),
            writers: self.writers.iter().copied().chain(next.writers.iter().map(wrote)).collect(),
            text: Text {
                all: [&*self.text.all, &*next.text.all].concat(),
                after: self.text.after + next.text.after,
                before: self.text.before + next.text.before,
            },
            spelt: self.spelt.joined(&next.spelt),
            schema_change: None,
        }
    }

    fn text(&self, start: u32, end: u32) -> &str {
        self.text.all.get(start as usize..end as usize).unwrap_or_default()
    }

    fn nothing(&self) -> Change<'_> {
        Change {
            revision: Revision::ZERO,
            kind: self.kind.as_str(),
            resource_id: "",
            change: ChangeType::Snapshot,
            after: None,
            before: None,
            captured_at: None,
            writer: Writer::default(),
            transaction_end: Revision::ZERO,
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("kind", &self.kind)
            .field("first_ordinal", &self.first_ordinal)
            .field("events", &self.len())
            .finish_non_exhaustive()
    }
}
