//! What a filter tests, with names and types resolved.

use super::{ChangeType, decimal::Decimal, time};
use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The event's type, as the watch sees it.
    Type,
    /// The resource's id.
    ResourceId,
    /// When the change happened.
    OccurredAt,
    /// A field of the row, by its place in the schema.
    Field(usize),
    /// The value at this path within a JSON field; the empty path is the document itself.
    Path(usize, Vec<String>),
}

impl Subject {
    /// The field of the row, if it is one.
    pub fn field(&self) -> Option<usize> {
        match self {
            Self::Field(field) | Self::Path(field, _) => Some(*field),
            Self::Type | Self::ResourceId | Self::OccurredAt => None,
        }
    }
}

/// A test of a value of the subject's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// It is set.
    Present,
    /// It is this type.
    Type(ChangeType),
    /// It looks like this.
    Matches(Pattern),
    /// It compares in this way with this value.
    Compare(Comparison, Operand),
    /// It is one of these; they are sorted, and of one type except for JSON.
    In(Vec<Operand>),
    /// It compares in this way with the claim in this slot.
    Claim(Comparison, usize),
    /// It is one of those that the claim in this slot lists.
    InClaim(usize),
}

/// A literal of a filter, of the field's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operand {
    /// Compared byte by byte.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
    /// Of 64 bits.
    Integer(i64),
    /// A number as it was written, of any size.
    Decimal(String),
    /// A floating-point number.
    Float(Float),
    /// Compared by value.
    Uuid(u128),
    /// Days since 1970.
    Date(i128),
    /// Microseconds since 1970, of a time without a zone.
    Local(i128),
    /// Microseconds since 1970.
    Time(i128),
}

/// A floating-point number, in the order of Postgres: NaN is the same as NaN and above all others, and the
/// zeros are the same.
#[derive(Debug, Clone, Copy)]
pub struct Float(pub f64);

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0, other.0);
        a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bits =
            if self.0 == 0.0 || self.0.is_nan() { u64::from(self.0.is_nan()) } else { self.0.to_bits() };
        bits.hash(state);
    }
}

impl Operand {
    /// As Postgres reads it, whatever its settings are.
    pub fn sql(&self) -> String {
        match self {
            Self::Text(text) | Self::Decimal(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(Float(value)) if value.is_infinite() => {
                if *value > 0.0 {
                    "Infinity".to_owned()
                } else {
                    "-Infinity".to_owned()
                }
            }
            Self::Float(Float(value)) => format!("{value:e}"),
            Self::Uuid(value) => uuid::Uuid::from_u128(*value).to_string(),
            Self::Date(days) => time::write(*days, time::Form::Date),
            Self::Local(micros) => time::write(*micros, time::Form::Local),
            Self::Time(micros) => time::write(*micros, time::Form::Zoned),
        }
    }

    /// How a value compares with this one; `None`: they are of two types.
    pub(super) fn compare(&self, value: &Scalar<'_>) -> Option<Ordering> {
        Some(match (value, self) {
            (Scalar::Text(value), Self::Text(with)) => (**value).cmp(with.as_str()),
            (Scalar::Bool(value), Self::Bool(with)) => value.cmp(with),
            (Scalar::Integer(value), Self::Integer(with)) => value.cmp(with),
            (Scalar::Decimal(value), Self::Decimal(with)) => value.compare(&Decimal::parse(with)?),
            (Scalar::Float(value), Self::Float(with)) => value.cmp(with),
            (Scalar::Uuid(value), Self::Uuid(with)) => value.cmp(with),
            (Scalar::Time(value), Self::Date(with) | Self::Local(with) | Self::Time(with)) => value.cmp(with),
            _ => return None,
        })
    }
}

/// A value of a row.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bool(bool),
    Integer(i64),
    Decimal(Decimal<'a>),
    Float(Float),
    Uuid(u128),
    /// Days or microseconds since 1970.
    Time(i128),
}

/// What a text looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// It begins with this.
    Begins(String),
    /// It ends with this.
    Ends(String),
    /// It contains this.
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
    /// Whether an event's own fields are tested: those that differ between the events of a row. (The
    /// resource's id does not.)
    pub(super) fn is_on_event(&self) -> bool {
        let mut found = false;
        self.visit(&mut |subject, _| found |= matches!(subject, Subject::Type | Subject::OccurredAt));
        found
    }

    /// Shows each of its tests.
    pub(super) fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Subject, &'a Test)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.visit(see)),
            Self::Not(inner) => inner.visit(see),
            Self::Test(subject, test) => see(subject, test),
        }
    }
}

impl Comparison {
    pub(super) fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
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
