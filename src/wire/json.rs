//! The envelope of a watch event as members of a JSON object: what every kind's watch event says, whatever
//! its rows are. All names of its members stand here and nowhere else.
//!
//! A 64-bit number is written as a string, as ProtoJSON has it. An event ends with its last member, so an
//! addition is inserted there.

use super::{Context, Unreadable};
use crate::model::{Change, ChangeType, Revision, SchemaChange};
use std::{io::Write, time::SystemTime};

/// What a change is called; the names are those of events of an SSE stream, too.
pub(super) fn name(change: ChangeType) -> &'static str {
    match change {
        ChangeType::Created => "created",
        ChangeType::Updated => "updated",
        ChangeType::Deleted => "deleted",
        ChangeType::Snapshot => "snapshot",
        ChangeType::Schema => "schema",
    }
}

/// What a bookmark is called.
pub(super) const BOOKMARK: &str = "bookmark";

/// Appends the members of an event, without braces. It does so in any case: a row that does not fit its kind
/// is left out, and is the error.
pub(super) fn members(
    change: &Change<'_>,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    position(change, out);
    if change.change == ChangeType::Schema {
        about(change, context, out);
        let begins_anew = SchemaChange::parse(change.after).begins_anew();
        put(out, format_args!(",\"state_changed\":{begins_anew}"));
        return Ok(());
    }
    let written = row(",\"row\":", change.after, context, out);
    about(change, context, out);
    written
}

/// The same without the row.
pub(super) fn members_without_row(change: &Change<'_>, context: Context<'_>, out: &mut Vec<u8>) {
    position(change, out);
    about(change, context, out);
}

/// Appends what shows the row before, too, to be inserted where the members end. One that does not fit its
/// kind is left out, and is the error.
pub(super) fn previous(
    change: &Change<'_>,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    row(",\"previous\":", change.before, context, out)
}

/// Appends the member that says where a bookmark stands.
pub(super) fn revision(revision: Revision, out: &mut Vec<u8>) {
    put(out, format_args!("\"revision\":\"{revision}\""));
}

/// Appends that this many events were dropped before; of none, nothing is said.
pub(super) fn dropped_before(events: u64, out: &mut Vec<u8>) {
    if events > 0 {
        put(out, format_args!(",\"dropped_before\":\"{events}\""));
    }
}

/// Appends that an event stands for this many.
pub(super) fn conflated(events: u64, out: &mut Vec<u8>) {
    put(out, format_args!(",\"conflated\":\"{events}\""));
}

/// Appends a formatted text.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// Where an event stands, and what it is about. A row of the state stands nowhere.
fn position(change: &Change<'_>, out: &mut Vec<u8>) {
    if change.revision > Revision::ZERO {
        revision(change.revision, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"resource_id\":");
    text(change.resource_id, out);
}

/// What an event says beside its position and its rows.
fn about(change: &Change<'_>, Context { renderer, .. }: Context<'_>, out: &mut Vec<u8>) {
    if let Some(at) = change.captured_at.and_then(time) {
        put(out, format_args!(",\"occurred_at\":\"{at}\""));
    }
    let Some(version) = renderer.schema_version() else { return };
    put(out, format_args!(",\"schema_version\":\"{version}\""));
    if change.transaction_end > Revision::ZERO {
        put(out, format_args!(",\"transaction_end\":\"{}\"", change.transaction_end));
    }
    let writer = change.writer;
    for (name, said) in [("actor", writer.actor), ("origin", writer.origin), ("trace", writer.trace)] {
        if let Some(said) = said.filter(|said| !said.is_empty()) {
            put(out, format_args!(",\"{name}\":"));
            text(said, out);
        }
    }
}

fn row(
    member: &str,
    row: Option<&str>,
    Context { renderer, .. }: Context<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    let Some(row) = row else { return Ok(()) };
    let start = out.len();
    out.extend_from_slice(member.as_bytes());
    let written = renderer.json(row, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// As RFC 3339 writes it; `None`: a year that it cannot write.
fn time(at: SystemTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::try_from(at).ok()
}

/// A JSON string.
fn text(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}
