//! Evaluates a filter for an event: whether its watch sees it, and as what.

use super::{
    Bound, ChangeType, Filter, Operand, Predicate, Subject, Test, Value,
    row::{RowView, Wanted, at_path, is_beyond_text},
    schema::{Schema, ValueType},
    value::Tested,
};
use std::cell::OnceCell;

/// An event's bytes do not parse as its message. The hub wrote them itself, so this is a fault of the hub.
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

/// What filters need to know of an event.
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

/// An event whose rows are JSON, as Postgres writes them.
#[derive(Debug, Clone, Copy)]
pub struct RowEvent<'a> {
    /// What happened to the row.
    pub change: ChangeType,
    /// The row's key.
    pub resource_id: &'a str,
    /// When it happened, in microseconds since 1970; `None` for a row of an initial state.
    pub occurred_at: Option<i64>,
    /// The row before the change.
    pub old: Option<&'a str>,
    /// The row after it.
    pub new: Option<&'a str>,
}

/// The same, with its rows scanned when they are first asked for.
struct Scanned<'a> {
    event: RowEvent<'a>,
    wanted: &'a Wanted,
    old: OnceCell<Option<RowView<'a>>>,
    new: OnceCell<Option<RowView<'a>>>,
}

impl Event for Scanned<'_> {
    fn change(&self) -> ChangeType {
        self.event.change
    }

    fn resource_id(&self) -> &str {
        self.event.resource_id
    }

    fn occurred_at(&self) -> Result<Option<i64>, Malformed> {
        Ok(self.event.occurred_at)
    }

    fn value(&self, row: Which, field: usize) -> Result<Option<Value<'_>>, Malformed> {
        let (cell, json) = match row {
            Which::Old => (&self.old, self.event.old),
            Which::New => (&self.new, self.event.new),
        };
        let view = match cell.get() {
            Some(view) => view,
            None => {
                let view = json.map(|json| RowView::new(json, self.wanted)).transpose()?;
                cell.get_or_init(|| view)
            }
        };
        Ok(view.as_ref().and_then(|view| view.get(field)).map(Value::Json))
    }
}

/// A row alone.
struct Alone<'v, 'a>(&'v RowView<'a>);

impl Event for Alone<'_, '_> {
    fn change(&self) -> ChangeType {
        ChangeType::Snapshot
    }

    fn resource_id(&self) -> &str {
        ""
    }

    fn occurred_at(&self) -> Result<Option<i64>, Malformed> {
        Ok(None)
    }

    fn value(&self, _: Which, field: usize) -> Result<Option<Value<'_>>, Malformed> {
        Ok(self.0.get(field).map(Value::Json))
    }
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
    /// An update made the row stop matching: DELETED to them.
    Leaves,
}

/// Which rows of an event count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) old: bool,
    pub(super) new: bool,
}

impl Rows {
    /// Without those that a change does not have.
    pub(super) fn of(self, change: ChangeType) -> Self {
        let has_old = matches!(change, ChangeType::Updated | ChangeType::Deleted);
        Self { old: self.old && has_old, new: self.new && change != ChangeType::Deleted }
    }

    /// What becomes of a change with these rows, as what it is seen, and which row tells of it; `None`:
    /// nothing.
    pub(super) fn verdict(self, change: ChangeType) -> Option<(Verdict, ChangeType, Which)> {
        Some(match (change, self.old, self.new) {
            (_, false, false) => return None,
            (ChangeType::Updated, false, true) => (Verdict::Enters, ChangeType::Created, Which::New),
            (ChangeType::Updated, true, false) => (Verdict::Leaves, ChangeType::Deleted, Which::Old),
            (ChangeType::Deleted, ..) => (Verdict::Same, change, Which::Old),
            _ => (Verdict::Same, change, Which::New),
        })
    }
}

/// The event's own fields, where they are decided.
struct Facts {
    seen_as: ChangeType,
    occurred_at: Option<i64>,
}

impl Filter {
    /// Judges an event, in two steps. The row before and the row after are tested, with the event's own
    /// fields left open: a row matches if the filter could hold for some event of it. That decides what the
    /// event is seen as. Then the whole filter is tested on the event as it would be seen.
    pub fn judge(&self, event: &impl Event) -> Result<Verdict, Malformed> {
        self.judge_part(event, Rows { old: true, new: true })
    }

    /// The same where some of the rows do not exist for whoever watches.
    fn judge_part(&self, event: &impl Event, seen: Rows) -> Result<Verdict, Malformed> {
        let matches = |row| Ok(self.holds(event, row, None)? != Some(false));
        let seen = seen.of(event.change());
        let rows = Rows { old: seen.old && matches(Which::Old)?, new: seen.new && matches(Which::New)? };
        let Some((verdict, seen_as, row)) = rows.verdict(event.change()) else {
            return Ok(Verdict::Unwanted);
        };
        if !self.0.on_event {
            return Ok(verdict);
        }
        let facts = Facts { seen_as, occurred_at: event.occurred_at()? };
        let wanted = self.holds(event, row, Some(&facts))? == Some(true);
        Ok(if wanted { verdict } else { Verdict::Unwanted })
    }

    /// Judges an event whose rows are JSON.
    pub fn judge_rows(&self, event: RowEvent<'_>) -> Result<Verdict, Malformed> {
        self.judge_seen(event, Rows { old: true, new: true })
    }

    /// The same where some of the rows do not exist for whoever watches.
    pub(super) fn judge_seen(&self, event: RowEvent<'_>, seen: Rows) -> Result<Verdict, Malformed> {
        let scanned = Scanned { event, wanted: &self.0.wanted, old: OnceCell::new(), new: OnceCell::new() };
        self.judge_part(&scanned, seen)
    }

    /// Scans a row for the columns that this filter tests.
    pub fn view<'a>(&'a self, json: &'a str) -> Result<RowView<'a>, Malformed> {
        RowView::new(json, &self.0.wanted)
    }

    /// Evaluates a policy for a row, in three-valued logic: a comparison with an unset value is unknown, and
    /// so is its negation. Only `Some(true)` shows a row.
    pub fn evaluate3(&self, row: &RowView<'_>, claims: &Bound) -> Result<Option<bool>, Malformed> {
        let ground = Ground { schema: self.schema(), facts: None, strict: true, claims: &claims.0 };
        self.predicate().holds(&Alone(row), Which::New, ground)
    }

    fn holds(
        &self,
        event: &impl Event,
        row: Which,
        facts: Option<&Facts>,
    ) -> Result<Option<bool>, Malformed> {
        let ground = Ground { schema: self.schema(), facts, strict: false, claims: &[] };
        self.predicate().holds(event, row, ground)
    }
}

/// What the tests are evaluated on.
#[derive(Clone, Copy)]
struct Ground<'a> {
    schema: &'a Schema,
    /// `None`: the event's own fields are left open.
    facts: Option<&'a Facts>,
    /// Whether a test of an unset value is unknown, and not merely false.
    strict: bool,
    claims: &'a [Vec<Operand>],
}

impl Predicate {
    /// `None`: it depends on what is left open, or unknown.
    fn holds(&self, event: &impl Event, row: Which, ground: Ground<'_>) -> Result<Option<bool>, Malformed> {
        match self {
            Self::All(parts) => decide(parts, false, |part| part.holds(event, row, ground)),
            Self::Any(parts) => decide(parts, true, |part| part.holds(event, row, ground)),
            Self::Not(inner) => Ok(inner.holds(event, row, ground)?.map(|holds| !holds)),
            Self::Test(subject, test) => {
                let value = match (subject, ground.facts) {
                    (Subject::Field(field), _) => event.value(row, *field)?,
                    (Subject::Path(field, path), _) => match event.value(row, *field)? {
                        Some(Value::Json(json)) => within(json, *field, path, ground.schema)?,
                        _ => None,
                    },
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
                let Some(value) = value else {
                    return Ok((*test == Test::Present || !ground.strict).then_some(false));
                };
                let field = subject.field().and_then(|field| ground.schema.fields.get(field));
                let holds = Tested { field, value, strict: ground.strict }.holds(test, ground.claims);
                Ok(if ground.strict { holds } else { Some(holds == Some(true)) })
            }
        }
    }
}

/// The value at a path of a document; `None`: there is none, or the document has texts that Postgres cannot
/// represent.
fn within<'a>(
    json: &'a str,
    field: usize,
    path: &[String],
    schema: &Schema,
) -> Result<Option<Value<'a>>, Malformed> {
    let as_written = schema.fields.get(field).is_some_and(|field| field.value == ValueType::Json);
    if as_written && is_beyond_text(json) {
        return Ok(None);
    }
    Ok(at_path(json, path)?.map(Value::Json))
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
