//! One sealed change of one row.

use super::Revision;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChangeType {
    /// It was created.
    Created = 1,
    /// It changed and kept its key.
    Updated = 2,
    /// It was deleted.
    Deleted = 3,
    /// Nothing: it existed when a watch began.
    Snapshot = 4,
    /// It is no row: its table was altered. What is told of that is a [`SchemaChange`](super::SchemaChange),
    /// in the place of the row after.
    Schema = 6,
}

impl ChangeType {
    /// A change that is captured, from its number in `hub.change` and in the protos, which agree.
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Created),
            2 => Some(Self::Updated),
            3 => Some(Self::Deleted),
            6 => Some(Self::Schema),
            _ => None,
        }
    }
}

/// A sealed change as the database holds it. The rows are JSON objects of the table's columns, as they were
/// at this change.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// Its place in the log.
    pub revision: Revision,
    /// The watched kind, by name.
    pub kind: &'a str,
    /// The row's key, as text.
    pub resource_id: &'a str,
    /// What happened.
    pub change: ChangeType,
    /// The row after; absent on a delete.
    pub after: Option<&'a str>,
    /// The row before; absent on a create.
    pub before: Option<&'a str>,
    /// When it was captured, within its transaction; absent on a snapshot.
    pub captured_at: Option<SystemTime>,
    /// The last revision of its transaction; ZERO on a snapshot.
    pub transaction_end: Revision,
    /// Who made it.
    pub writer: Writer<'a>,
}

impl Change<'_> {
    /// When it was captured, in microseconds since 1970, as Postgres counts them.
    pub fn captured_micros(&self) -> Option<i64> {
        let micros = |since: Duration| i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        self.captured_at.map(|at| match at.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        })
    }

    /// The moment this many microseconds after 1970 began, or before it.
    pub fn moment(micros: i64) -> Option<SystemTime> {
        let span = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) }
    }
}

/// Who made a change, as it was captured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writer<'a> {
    /// What the writer said, else the database's user.
    pub actor: Option<&'a str>,
    /// From where, if the writer said.
    pub origin: Option<&'a str>,
    /// In which trace, if the writer said.
    pub trace: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_what_it_was() {
        for micros in [0, 1, -1, 1_795_153_541_574_626, -62_135_596_800_000_000] {
            let change = Change {
                revision: Revision::ZERO,
                kind: "",
                resource_id: "",
                change: ChangeType::Created,
                after: None,
                before: None,
                captured_at: Change::moment(micros),
                writer: Writer::default(),
                transaction_end: Revision::ZERO,
            };
            assert_eq!(change.captured_micros(), Some(micros));
        }
    }
}
