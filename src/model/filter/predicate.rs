//! What a filter tests, with names and types resolved.

use super::ChangeType;

/// A checked expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// All of these.
    All(Vec<Predicate>),
    /// At least one of these.
    Any(Vec<Predicate>),
    /// Not this.
    Not(Box<Predicate>),
    /// A test of a value. It does not hold for a value that is unset.
    Test(Subject, Test),
}

/// Whose value is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The event's type, as the watch sees it.
    Type,
    /// The resource's id.
    ResourceId,
    /// When the change happened.
    OccurredAt,
    /// A field of the row, by its place in the schema.
    Field(usize),
}

/// A test of a value of the subject's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// It is set, and a text is not empty.
    Present,
    /// It is this type.
    Type(ChangeType),
    /// It looks like this.
    Matches(Pattern),
    /// It compares so with this text, byte by byte.
    Text(Comparison, String),
    /// It compares so with this time, in microseconds since 1970.
    Time(Comparison, i64),
}

/// What a text looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// It begins with this.
    Begins(String),
    /// It ends with this.
    Ends(String),
    /// It has this in it.
    Contains(String),
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Before.
    Less,
    /// Before or the same.
    AtMost,
    /// After.
    Greater,
    /// After or the same.
    AtLeast,
}

impl Predicate {
    /// Whether an event's own fields are tested: those that say something else of each event of a row. (The id of a resource does not.)
    pub(super) fn is_on_event(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::is_on_event),
            Self::Not(inner) => inner.is_on_event(),
            Self::Test(subject, _) => matches!(subject, Subject::Type | Subject::OccurredAt),
        }
    }
}

impl Comparison {
    pub(super) fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

impl Pattern {
    pub(super) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Begins(part) => text.starts_with(part),
            Self::Ends(part) => text.ends_with(part),
            Self::Contains(part) => text.contains(part),
        }
    }
}
