//! A sealed change with everything known of it, as an owned value: for readers who keep it longer than a
//! page.

use super::{ChangeType, Epoch, Revision};
use std::time::SystemTime;

/// A change, and who made it. The rows are JSON objects of the table's columns, as they were at this change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributedChange {
    /// The history that the revision belongs to.
    pub epoch: Epoch,
    /// Its place in the log; of a row that was listed ([`ChangeType::Snapshot`]): the revision at which the
    /// table was read.
    pub revision: Revision,
    /// The watched kind, by name.
    pub kind: String,
    /// The row's key, as text.
    pub resource_id: String,
    /// What happened.
    pub change: ChangeType,
    /// The row after; absent on a delete.
    pub after: Option<String>,
    /// The row before; absent on a create.
    pub before: Option<String>,
    /// When it was captured, within its transaction; absent on a listed row.
    pub captured_at: Option<SystemTime>,
    /// Who made it: what the writer put in `hub.actor`, else the database user; absent on a listed row.
    pub actor: Option<String>,
    /// What the writer put in `hub.origin`.
    pub origin: Option<String>,
    /// What the writer put in `hub.trace`.
    pub trace: Option<String>,
}

impl AttributedChange {
    /// What its order is kept by.
    pub fn resource(&self) -> (&str, &str) {
        (&self.kind, &self.resource_id)
    }
}

/// A place in the log that a reader cannot read on from: what lies between may never be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// The last revision that was read.
    pub after: Revision,
    /// Where reading can go on.
    pub resume: Revision,
    /// The history that `resume` belongs to.
    pub epoch: Epoch,
}

/// Why there is a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// The reader never ran: it has not seen anything before the oldest retained change.
    New,
    /// The history after the position is no longer retained.
    Compacted,
    /// Another epoch began: what had no revision by then may never get one.
    Epoch,
    /// Rows of the table became others without a change of their own.
    State,
}
