//! The encodings of a segment's events: made once, for the first stream that asks, and shared.

use super::offset;
use crate::wire::Rendition;
use bytes::Bytes;
use std::{ops::Range, sync::OnceLock};

/// A part of the encoding of a segment, made in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Events, as every stream without special wishes sees them.
    Events(Rendition),
    /// What shows the rows before, too.
    Previous(Rendition),
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 2 * Rendition::ALL.len();

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Rendition::ALL.into_iter().flat_map(|rendition| [Self::Events(rendition), Self::Previous(rendition)])
    }

    /// Their numbers, from 0.
    pub fn index(self) -> usize {
        match self {
            Self::Events(rendition) => 2 * rendition.index(),
            Self::Previous(rendition) => 2 * rendition.index() + 1,
        }
    }
}

/// Some of the parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts(u64);

impl Parts {
    /// Whether this one is among them.
    pub fn contains(self, part: Part) -> bool {
        self.0 & (1 << part.index()) != 0
    }

    /// The parts of either.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        Self(parts.into_iter().fold(0, |set, part| set | 1 << part.index()))
    }
}

/// One part, of the events of a segment.
#[derive(Debug)]
pub(super) struct Spelt {
    bytes: Bytes,
    ends: Box<[u32]>,
}

impl Spelt {
    /// Of this many events in order, each of which `spell` appends; `room`: about how many bytes they take.
    pub(super) fn of(events: usize, room: usize, spell: impl Fn(usize, &mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(room);
        let ends = (0..events).map(|event| {
            spell(event, &mut bytes);
            offset(bytes.len())
        });
        let ends = ends.collect();
        // It may be kept for a long time: no more memory than it needs.
        Self { bytes: bytes.into_boxed_slice().into(), ends }
    }

    fn joined(&self, next: &Self) -> Self {
        let shift = offset(self.bytes.len());
        Self {
            bytes: [&self.bytes[..], &next.bytes[..]].concat().into(),
            ends: self.ends.iter().copied().chain(next.ends.iter().map(|end| end + shift)).collect(),
        }
    }

    fn bounds(&self, events: Range<usize>) -> Range<usize> {
        let before = |event: usize| {
            event.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |&end| end as usize)
        };
        before(events.start)..before(events.end)
    }

    /// The encoding of some events, shared and not copied.
    pub(super) fn shared(&self, events: Range<usize>) -> Bytes {
        self.bytes.slice(self.bounds(events))
    }

    /// The encoding of one event.
    pub(super) fn of_event(&self, event: usize) -> &[u8] {
        self.bytes.get(self.bounds(event..event + 1)).unwrap_or_default()
    }
}

/// The parts of a segment, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Shelf([OnceLock<Spelt>; Part::COUNT]);

impl Shelf {
    /// A part, which is made at the first request.
    pub(super) fn get(&self, part: Part, make: impl FnOnce() -> Spelt) -> Option<&Spelt> {
        self.0.get(part.index()).map(|slot| slot.get_or_init(make))
    }

    /// What is there.
    pub(super) fn made(&self) -> Parts {
        let is_made = |part: &Part| self.0.get(part.index()).is_some_and(|slot| slot.get().is_some());
        Part::all().filter(is_made).collect()
    }

    /// The parts of two merged segments: those that both have.
    pub(super) fn joined(&self, next: &Self) -> Self {
        let join = |(one, two): (&OnceLock<Spelt>, &OnceLock<Spelt>)| match (one.get(), two.get()) {
            (Some(one), Some(two)) => one.joined(two).into(),
            _ => OnceLock::new(),
        };
        let mut joined = Self::default();
        for (slot, made) in joined.0.iter_mut().zip(self.0.iter().zip(&next.0).map(join)) {
            *slot = made;
        }
        joined
    }

    pub(super) fn bytes(&self) -> usize {
        let made = self.0.iter().filter_map(OnceLock::get);
        made.map(|spelt| spelt.bytes.len() + size_of_val(&*spelt.ends)).sum()
    }
}
