//! What the broker asks of the retained history: pages of sealed events that have left the window.

use super::filters::Source;
use crate::{
    catalog::Kinds,
    log::{Batch, Parts, Segment},
    model::{KindId, KindName, Revision},
};
use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

/// Events of all kinds in a range of revisions.
#[derive(Debug)]
pub struct Page {
    /// Every event after this,
    after: Revision,
    /// and up to here, is in it.
    upto: Revision,
    /// Of these kinds: the list as it was when the page was read.
    kinds: Kinds,
    segments: HashMap<KindName, Vec<Segment>>,
}

impl Page {
    /// From all the events of these kinds after one revision and up to another.
    pub fn new((after, upto): (Revision, Revision), kinds: Kinds, batches: HashMap<KindName, Batch>) -> Self {
        Self {
            after,
            upto,
            kinds,
            segments: batches
                .into_iter()
                .map(|(kind, batch)| (kind, batch.into_segments(0).collect()))
                .collect(),
        }
    }

    /// Whether the events of a kind are in it: those of one that came into the catalog later are not.
    pub fn knows(&self, kind: &KindId) -> bool {
        self.kinds.has(kind)
    }

    /// Makes this of the events of a kind, where it costs no stream its turn.
    pub fn make(&self, kind: &KindName, parts: Parts) {
        self.segments.get(kind).into_iter().flatten().for_each(|segment| segment.make(parts));
    }

    /// Bytes in memory, now.
    pub fn bytes(&self) -> usize {
        self.segments.values().flatten().map(Segment::bytes).sum()
    }

    /// What its segments are part of.
    pub(super) fn source(&self) -> Source {
        Source::Page(self.after, self.upto)
    }

    /// The first event of a kind after a revision.
    pub(super) fn look(&self, kind: &KindName, revision: Revision) -> Glimpse<'_> {
        if revision < self.after {
            return Glimpse::Compacted(Compacted { oldest: self.after });
        }
        let segments = self.segments.get(kind).map(Vec::as_slice).unwrap_or_default();
        match segments.get(segments.partition_point(|segment| segment.last_revision() <= revision)) {
            Some(segment) => {
                Glimpse::Event(segment, segment.entries().partition_point(|entry| entry.revision <= revision))
            }
            None => Glimpse::NothingUpTo(self.upto),
        }
    }
}

/// What a page has for a reader.
pub(super) enum Glimpse<'a> {
    /// An event: its segment and its index there.
    Event(&'a Segment, usize),
    /// Nothing of this kind.
    NothingUpTo(Revision),
    /// It begins after where the reader stands.
    Compacted(Compacted),
}

/// Why the history cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest revision that a reader can stand at.
    pub oldest: Revision,
}

/// A page on its way.
pub type Fetch = Pin<Box<dyn Future<Output = Result<Arc<Page>, Compacted>> + Send>>;

/// The retained history. Pages are shared: a thousand readers of the same past cost the database one.
pub trait History: Send + Sync {
    /// The page with the event after a revision, if one that knows the kind is at hand; of events up to `head` at most.
    fn cached(&self, kind: &KindId, after: Revision, head: Revision) -> Option<Arc<Page>>;

    /// Reads that page, of events up to `head` at most, and makes these parts of the kind's events. Waits as long as the database is out of
    /// sight; for ever, if the kind is not watched any more.
    fn fetch(&self, kind: &KindId, after: Revision, head: Revision, parts: Parts) -> Fetch;

    /// The oldest revision that a reader can stand at.
    fn oldest(&self) -> Revision;
}
