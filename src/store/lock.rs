//! The advisory locks by which hubs and writers notice each other.

use std::fmt;

/// A lock of the hub. It is written into a statement as its two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HubLock {
    /// Held by the hub that numbers what was committed.
    Seal = 1,
    /// Held by a hub that polls: writers need not ring.
    Busy = 2,
    /// Shared by the hubs that listen: somebody hears a writer's bell.
    Present = 3,
    /// Held while the schema of the hub is changed.
    Migration = 4,
    /// Held while the log is trimmed, which touches it without capturing anything.
    Compaction = 5,
}

impl HubLock {
    /// The first key of each; see `hub.lock_class`.
    pub(super) const CLASS: i32 = 1_953_654_136;
}

impl fmt::Display for HubLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", Self::CLASS, *self as i32)
    }
}
