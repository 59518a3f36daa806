//! What somebody may see of a kind: which rows, and which columns.

use super::{
    Bound, ChangeType, Filter, Malformed, RowEvent, Verdict,
    evaluate::Rows,
    row::{Members, escaped},
};
use std::sync::Arc;

/// What somebody may see of a kind. It is a required value wherever rows are shown: there is no way to leave
/// it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Everything.
    Whole,
    /// A part.
    Part(Arc<Part>),
}

/// A part of a kind.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Rows for which this is true, with these values of its claims; `None`: all.
    pub rule: Option<(Filter, Bound)>,
    /// Without these columns, sorted.
    pub hidden: Vec<String>,
}

impl Sight {
    /// Whether it is everything.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// Which rows; `None`: all.
    pub fn rule(&self) -> Option<(&Filter, &Bound)> {
        match self {
            Self::Whole => None,
            Self::Part(part) => part.rule.as_ref().map(|(rule, claims)| (rule, claims)),
        }
    }

    /// The columns that are not seen, sorted.
    pub fn hidden(&self) -> &[String] {
        match self {
            Self::Whole => &[],
            Self::Part(part) => &part.hidden,
        }
    }

    /// Whether a row is seen.
    pub fn shows(&self, row: &str) -> Result<bool, Malformed> {
        match self.rule() {
            None => Ok(true),
            // What cannot be read is not seen.
            Some((rule, claims)) => Ok(rule.evaluate3(&rule.view(row)?, claims)? == Some(true)),
        }
    }

    /// What becomes of an event for those who see this much and want what matches a filter. The rows before
    /// and after must each be seen and match; what follows from that is as if the others did not exist.
    pub fn judge(&self, filter: Option<&Filter>, event: RowEvent<'_>) -> Result<Verdict, Malformed> {
        let shows = |row: Option<&str>| match (self.rule(), row) {
            (None, _) => Ok(true),
            (Some(_), None) => Ok(false),
            (Some(_), Some(row)) => self.shows(row),
        };
        let rows = Rows { old: true, new: true }.of(event.change);
        let rows = Rows { old: rows.old && shows(event.old)?, new: rows.new && shows(event.new)? };
        let verdict = match filter {
            Some(filter) => filter.judge_seen(event, rows)?,
            None => rows.verdict(event.change).map_or(Verdict::Unwanted, |(verdict, ..)| verdict),
        };
        match (verdict, event.change, event.old.zip(event.new)) {
            // An update of what is not seen did not happen.
            (Verdict::Same, ChangeType::Updated, Some((old, new))) if self.is_same(old, new)? => {
                Ok(Verdict::Unwanted)
            }
            _ => Ok(verdict),
        }
    }

    /// Whether two rows differ in hidden columns alone.
    fn is_same(&self, old: &str, new: &str) -> Result<bool, Malformed> {
        let hidden: Vec<_> = self.hidden().iter().map(|column| escaped(column)).collect();
        if hidden.is_empty() {
            return Ok(false);
        }
        let (mut old, mut new) = (Members::of(old)?, Members::of(new)?);
        loop {
            match (seen(&mut old, &hidden)?, seen(&mut new, &hidden)?) {
                (None, None) => return Ok(true),
                (one, other) if one != other => return Ok(false),
                _ => {}
            }
        }
    }
}

/// The next member that is not hidden.
fn seen<'a>(members: &mut Members<'a>, hidden: &[Box<str>]) -> Result<Option<(&'a str, &'a str)>, Malformed> {
    while let Some((key, value)) = members.next_member()? {
        if hidden.iter().all(|name| **name != *key) {
            return Ok(Some((key, value)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::{ClaimValue, Field, Schema, Scope, ValueType};

    fn sight(hidden: &[&str]) -> (Arc<Schema>, Sight) {
        let field = |name| Field::new(name, ValueType::Text, "pg_catalog.text");
        let schema = Schema::new(vec![field("owner"), field("state"), field("notes")]);
        let rule = Filter::parse("owner = $sub", &schema, Scope::Policy).unwrap().unwrap();
        let claims = rule.bind(|_| Some(ClaimValue::Text("ann".into()))).unwrap();
        let hidden = hidden.iter().map(|name| (*name).to_owned()).collect();
        (schema, Sight::Part(Arc::new(Part { rule: Some((rule, claims)), hidden })))
    }

    fn row(owner: &str, state: &str, notes: &str) -> String {
        format!(r#"{{"owner":{owner},"state":"{state}","notes":"{notes}"}}"#)
    }

    fn event<'a>(change: ChangeType, old: Option<&'a str>, new: Option<&'a str>) -> RowEvent<'a> {
        RowEvent { change, resource_id: "1", occurred_at: None, old, new }
    }

    #[test]
    fn rows_that_are_not_seen_do_not_exist() {
        let (schema, sight) = sight(&[]);
        let (own, other, none) = (row(r#""ann""#, "a", ""), row(r#""bob""#, "a", ""), row("null", "a", ""));
        let closed = row(r#""ann""#, "closed", "");
        let open = Filter::parse("state != closed", &schema, Scope::Events).unwrap();
        use ChangeType::{Created, Deleted, Snapshot, Updated};
        use Verdict::{Enters, Leaves, Same, Unwanted};
        for (change, old, new, expected, open_ones) in [
            (Created, None, Some(&own), Same, Same),
            (Created, None, Some(&other), Unwanted, Unwanted),
            (Created, None, Some(&none), Unwanted, Unwanted),
            (Created, None, None, Unwanted, Unwanted),
            (Updated, Some(&own), Some(&own), Same, Same),
            (Updated, Some(&other), Some(&own), Enters, Enters),
            (Updated, Some(&own), Some(&other), Leaves, Leaves),
            (Updated, Some(&other), Some(&other), Unwanted, Unwanted),
            (Updated, Some(&other), Some(&closed), Enters, Unwanted),
            (Updated, Some(&own), Some(&closed), Same, Leaves),
            // It was not wanted before, so its leaving is none.
            (Updated, Some(&closed), Some(&other), Leaves, Unwanted),
            (Deleted, Some(&own), None, Same, Same),
            (Deleted, Some(&other), None, Unwanted, Unwanted),
            (Deleted, None, None, Unwanted, Unwanted),
            (Snapshot, None, Some(&own), Same, Same),
            (Snapshot, None, Some(&other), Unwanted, Unwanted),
        ] {
            let event = event(change, old.map(|row| &**row), new.map(|row| &**row));
            assert_eq!(sight.judge(None, event), Ok(expected), "{event:?}");
            assert_eq!(sight.judge(open.as_ref(), event), Ok(open_ones), "{event:?}");
            assert_eq!(Sight::Whole.judge(open.as_ref(), event), open.as_ref().unwrap().judge_rows(event));
        }
    }

    #[test]
    fn an_update_of_hidden_columns_alone_did_not_happen() {
        let (one, other) = (row(r#""ann""#, "a", "x"), row(r#""ann""#, "a", "y"));
        let changed = row(r#""ann""#, "b", "y");
        for (hidden, new, expected) in [
            (&["notes"][..], &other, Verdict::Unwanted),
            (&["notes"], &changed, Verdict::Same),
            (&[], &other, Verdict::Same),
            (&["state"], &other, Verdict::Same),
        ] {
            let event = event(ChangeType::Updated, Some(&one), Some(new));
            assert_eq!(sight(hidden).1.judge(None, event), Ok(expected), "{hidden:?}");
        }
    }
}
