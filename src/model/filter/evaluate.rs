//! What a filter says of an event: whether its watch sees it, and as what.

use super::{ChangeType, Filter, Predicate, Subject, Test, Value};

/// An event's bytes are not those of its message. The hub wrote them itself, so this is a fault of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of an event are not those of its message")]
pub struct Malformed;

/// One of the two rows of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The row before the change.
    Old,
    /// The row after it.
    New,
}

/// An event, as far as filters look at it.
pub trait Event {
    /// What happened to the row.
    fn change(&self) -> ChangeType;

    /// The row's key.
    fn resource_id(&self) -> &str;

    /// When it happened, in microseconds since 1970.
    fn occurred_at(&self) -> Result<Option<i64>, Malformed>;

    /// The value of the schema's field with this index; `None`: it is unset, or the row cannot be read.
    fn value(&self, row: Which, field: usize) -> Result<Option<Value<'_>>, Malformed>;
}

/// What becomes of an event for the watches with a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They do not see it.
    Unwanted,
    /// They see it as it is.
    Same,
    /// An update made the row match: CREATED to them.
    Enters,
    /// An update made the row match no more: DELETED to them.
    Leaves,
}

/// The event's own fields, where they are decided.
struct Facts {
    seen_as: ChangeType,
    occurred_at: Option<i64>,
}

impl Filter {
    /// Judges an event, in two steps. The row before and the row after are tested, with the event's own fields left open: a row matches
    /// if the filter could hold for some event of it. That decides what the event is seen as. Then the whole filter is tested on the
    /// event as it would be seen.
    pub fn judge(&self, event: &impl Event) -> Result<Verdict, Malformed> {
        let change = event.change();
        let matches = |row| Ok(self.holds(event, row, None)? != Some(false));
        let old = matches!(change, ChangeType::Updated | ChangeType::Deleted) && matches(Which::Old)?;
        let new = change != ChangeType::Deleted && matches(Which::New)?;
        let (verdict, seen_as, row) = match (change, old, new) {
            (_, false, false) => return Ok(Verdict::Unwanted),
            (ChangeType::Updated, false, true) => (Verdict::Enters, ChangeType::Created, Which::New),
            (ChangeType::Updated, true, false) => (Verdict::Leaves, ChangeType::Deleted, Which::Old),
            (ChangeType::Deleted, ..) => (Verdict::Same, change, Which::Old),
            _ => (Verdict::Same, change, Which::New),
        };
        if !self.0.on_event {
            return Ok(verdict);
        }
        let facts = Facts { seen_as, occurred_at: event.occurred_at()? };
        let wanted = self.holds(event, row, Some(&facts))? == Some(true);
        Ok(if wanted { verdict } else { Verdict::Unwanted })
    }

    fn holds(
        &self,
        event: &impl Event,
        row: Which,
        facts: Option<&Facts>,
    ) -> Result<Option<bool>, Malformed> {
        self.predicate().holds(event, row, facts)
    }
}

impl Predicate {
    /// `None`: it depends on what is left open.
    fn holds(
        &self,
        event: &impl Event,
        row: Which,
        facts: Option<&Facts>,
    ) -> Result<Option<bool>, Malformed> {
        match self {
            Self::All(parts) => decide(parts, false, |part| part.holds(event, row, facts)),
            Self::Any(parts) => decide(parts, true, |part| part.holds(event, row, facts)),
            Self::Not(inner) => Ok(inner.holds(event, row, facts)?.map(|holds| !holds)),
            Self::Test(subject, test) => {
                let value = match (subject, facts) {
                    (Subject::Field(field), _) => event.value(row, *field)?,
                    (Subject::ResourceId, _) => Some(Value::Text(event.resource_id())),
                    (Subject::Type, Some(facts)) => {
                        return Ok(Some(match test {
                            Test::Type(change) => facts.seen_as == *change,
                            _ => *test == Test::Present,
                        }));
                    }
                    (Subject::OccurredAt, Some(facts)) => facts.occurred_at.map(Value::Time),
                    (Subject::Type | Subject::OccurredAt, None) => return Ok(None),
                };
                Ok(Some(value.is_some_and(|value| test.holds(value))))
            }
        }
    }
}

/// The first part that decides; else what is left open; else the opposite.
fn decide(
    parts: &[Predicate],
    deciding: bool,
    holds: impl Fn(&Predicate) -> Result<Option<bool>, Malformed>,
) -> Result<Option<bool>, Malformed> {
    let mut open = false;
    for part in parts {
        match holds(part)? {
            Some(holds) if holds == deciding => return Ok(Some(deciding)),
            Some(_) => {}
            None => open = true,
        }
    }
    Ok((!open).then_some(!deciding))
}

impl Test {
    fn holds(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Present, Value::Text(text)) => !text.is_empty(),
            (Self::Present, Value::Time(_)) => true,
            (Self::Matches(pattern), Value::Text(text)) => pattern.holds(text),
            (Self::Text(comparison, with), Value::Text(text)) => comparison.holds(text, with.as_str()),
            (Self::Time(comparison, with), Value::Time(time)) => comparison.holds(&time, with),
            // The check lets no such test be made.
            (Self::Type(_) | Self::Matches(_) | Self::Text(..) | Self::Time(..), _) => false,
        }
    }
}
