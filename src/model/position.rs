//! Where a reader stands in the history of a database.

use std::fmt;

/// A position in the sealed log: the number of events, of all kinds, up to and including this one.
/// 0 stands before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// From the number on the wire.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number on the wire.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision of the event after this one; there is none after the last number.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one; before the first there is none.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// As Postgres' `bigint`; what does not fit is beyond any head.
    pub fn to_sql(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// From Postgres' `bigint`; revisions there are never negative.
    pub fn from_sql(number: i64) -> Self {
        Self(u64::try_from(number).unwrap_or(0))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one history: revisions of different epochs have nothing to do with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(std::sync::Arc<str>);

impl Epoch {
    /// From its name in the database or on the wire.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After the head at subscribing.
    Now,
    /// After this revision.
    After(Revision),
    /// After this revision, once the initial state at it has been delivered, however long that takes.
    AfterStateAt(Revision),
}
