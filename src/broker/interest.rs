//! What a subscriber asks for.

use super::projection::Composer;
use crate::{
    log::{Part, Parts},
    model::{
        Selector,
        filter::{Filter, Sight, ValueType},
    },
    wire::Rendition,
};
use std::sync::Arc;

/// What happens to a stream that falls further behind than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It loses events and is told how many.
    Drop,
    /// It reads what it missed from the retained history.
    CatchUp,
    /// It ends.
    Disconnect,
    /// It gets only the newest event of each resource.
    Latest,
}

/// What a subscriber makes of changes of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaInterest {
    /// Whether it is told of them. One that is not ends where rows change without events of their own.
    pub events: bool,
    /// The columns that it names, without which it ends; and for one that its filter tests, what that takes
    /// it for.
    pub needs: Vec<(String, Option<ValueType>)>,
}

impl SchemaInterest {
    /// It is told of nothing, and names no column.
    pub const NONE: Self = Self { events: false, needs: Vec::new() };
}

/// What a subscriber wants, and how far it may fall behind.
#[derive(Debug, Clone)]
pub struct Interest {
    /// Which events.
    pub selector: Selector,
    /// Which of those; `None`: all.
    pub filter: Option<Filter>,
    /// What of them its owner may see.
    pub sight: Sight,
    /// How they are spelt.
    pub rendition: Rendition,
    /// What composes their rows; `None`: rows are sent unchanged.
    pub composer: Option<Arc<Composer>>,
    /// Whether the row before goes with them.
    pub include_previous: bool,
    /// What it makes of changes of the table.
    pub schema: SchemaInterest,
    /// How many events it may fall behind while its connection takes no bytes.
    pub buffer: u64,
    /// What happens when it falls further behind.
    pub policy: Policy,
}

impl Interest {
    /// The parts of events that this subscriber shares with others.
    pub(super) fn parts(&self) -> Parts {
        // Who sees a part is written to apart.
        if self.composer.is_some() || !self.sight.is_whole() {
            return Parts::default();
        }
        // Where an update leaves a filter the row before is shown.
        let previous = self.include_previous || self.filter.is_some();
        let events = Part::Events(self.rendition);
        [events].into_iter().chain(previous.then_some(Part::Previous(self.rendition))).collect()
    }
}
