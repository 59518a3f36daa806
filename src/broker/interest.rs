//! What a subscriber asks for.

use crate::model::{Selector, filter::Filter};

/// What a stream does that falls further behind than it may.
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

/// What a subscriber wants, and how far it may fall behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// Which events.
    pub selector: Selector,
    /// Which of those; `None`: all.
    pub filter: Option<Filter>,
    /// Whether the row before goes with them.
    pub include_previous: bool,
    /// How many events it may fall behind while its connection takes no bytes.
    pub buffer: u64,
    /// And what happens then.
    pub policy: Policy,
}
