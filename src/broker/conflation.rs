//! What a slow stream with policy LATEST will get: the newest event of each resource, with the number of
//! events that it stands for.

use super::chunk::Chunk;
use crate::{model::Revision, wire::Rendition};
use std::collections::{BTreeMap, HashMap};

/// At this many bytes it is sent: no stream holds more.
const PORTION: usize = 256 * 1024;
/// The bytes that a resource takes besides its frame and its id, about.
const OVERHEAD: usize = 128;

/// The newest event of each resource, of those passed since a revision.
pub(super) struct Conflation {
    /// Everything up to here was delivered; what was passed since then is held only here.
    pub(super) since: Revision,
    newest: HashMap<Box<str>, Revision>,
    events: BTreeMap<Revision, Newest>,
    bytes: usize,
    /// When the oldest event that was passed was sealed.
    sealed_at: Option<u64>,
}

struct Newest {
    frame: Vec<u8>,
    stands_for: u64,
}

impl Conflation {
    pub(super) fn new(since: Revision) -> Self {
        Self { since, newest: HashMap::new(), events: BTreeMap::new(), bytes: 0, sealed_at: None }
    }

    /// Replaces the earlier event of a resource.
    pub(super) fn absorb(&mut self, resource_id: &str, revision: Revision, sealed_at: u64, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.sealed_at.get_or_insert(sealed_at);
        let mut stands_for = 1;
        match self.newest.get_mut(resource_id) {
            Some(newest) => {
                if let Some(older) = self.events.remove(newest) {
                    self.bytes -= older.frame.len();
                    stands_for += older.stands_for;
                }
                *newest = revision;
            }
            None => {
                self.bytes += resource_id.len() + OVERHEAD;
                self.newest.insert(resource_id.into(), revision);
            }
        }
        self.events.insert(revision, Newest { frame, stands_for });
    }

    /// Whether it holds as much as a stream may.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= PORTION
    }

    /// The frames, in the order of their revisions; `None`: there is nothing.
    pub(super) fn into_chunk(self, rendition: Rendition) -> Option<Chunk> {
        let (mut frames, mut passed) = (Vec::with_capacity(self.bytes), 0);
        for Newest { frame, stands_for } in self.events.values() {
            passed += stands_for;
            match stands_for {
                1 => frames.extend_from_slice(frame),
                _ => rendition.spelling().conflated(frame, *stands_for, &mut frames),
            }
        }
        let events = self.events.len() as u64;
        Some(Chunk { frames: frames.into(), events, conflated: passed - events, sealed_at: self.sealed_at? })
    }
}
