//! What a topic knows of each subscriber.

use super::{position::Position, view::View};
use crate::{call::Call, model::Revision};
use parking_lot::Mutex;
use std::sync::OnceLock;

/// A subscriber, as its topic's registry has it.
pub(super) struct Subscriber {
    pub(super) id: u64,
    pub(super) view: View,
    pub(super) position: Mutex<Position>,
    /// When it began, and after which revision.
    pub(super) since: u64,
    pub(super) after: Revision,
    /// The call that it belongs to, for introspection.
    pub(super) call: OnceLock<Call>,
}

impl Subscriber {
    pub(super) fn new(id: u64, view: View, position: Position, since: u64) -> Self {
        let after = position.revision;
        Self { id, view, position: Mutex::new(position), since, after, call: OnceLock::new() }
    }
}
