//! What the broker needs of the retained history: pages of sealed events that have left the window.

use super::filters::Source;
use crate::{
    catalog::Kinds,
    log::{Batch, Parts, Segment},
    model::{Epoch, KindId, KindName, Revision},
};
use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

/// Events of all kinds in a range of revisions.
#[derive(Debug)]
pub struct Page {
    /// It holds every event after this revision.
    after: Revision,
    /// It holds every event up to this revision.
    upto: Revision,
    /// Of these kinds: the list at the time the page was read.
    kinds: Kinds,
    segments: HashMap<KindName, Vec<Segment>>,
}

impl Page {
    /// From all the events of these kinds after one revision of an epoch and up to another.
    pub fn new(
        epoch: &Epoch,
        (after, upto): (Revision, Revision),
        kinds: Kinds,
        batches: HashMap<KindName, Batch>,
    ) -> Self {
        Self {
            after,
            upto,
            kinds,
            segments: batches
                .into_iter()
                .map(|(kind, batch)| (kind, batch.of(epoch.clone()).into_segments(0).collect()))
                .collect(),
        }
    }

    /// Whether the events of a kind are in it: a kind that was added to the catalog later is not.
    pub fn knows(&self, kind: &KindId) -> bool {
        self.kinds.has(kind)
    }

    /// Encodes this part of a kind's events, away from the streams.
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
    /// It begins after the reader's position.
    Compacted(Compacted),
}

/// Why reading of the history cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest revision that a reader can stand at.
    pub oldest: Revision,
}

/// A page that is being read.
pub type Fetch = Pin<Box<dyn Future<Output = Result<Arc<Page>, Compacted>> + Send>>;

/// The retained history. Pages are shared: a thousand readers of the same past cost the database one.
pub trait History: Send + Sync {
    /// The page with the event after a revision, if one that knows the kind is cached; of events up to `head`
    /// at most.
    fn cached(&self, kind: &KindId, after: Revision, head: Revision) -> Option<Arc<Page>>;

    /// Reads that page, of events up to `head` at most, and encodes these parts of the kind's events. Waits
    /// as long as the database is unreachable; for ever, if the kind is no longer watched.
    fn fetch(&self, kind: &KindId, after: Revision, head: Revision, parts: Parts) -> Fetch;

    /// The oldest revision that a reader can stand at.
    fn oldest(&self) -> Revision;
}
