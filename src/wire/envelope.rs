//! The envelope of a watch event as a protobuf message: the fields that every kind's watch event has,
//! whatever its rows are. All of its field numbers are here and nowhere else.
//!
//! Protobuf merges what is concatenated, and the last of a scalar counts: an addition is appended to the
//! message.

use super::{Renderer, Unreadable};
use crate::model::{Change, ChangeType, Revision, SchemaChange, Writer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `EventType type`.
const TYPE: u8 = 1;
/// The row.
pub const ROW: u8 = 2;
/// `string resource_id`.
const RESOURCE_ID: u8 = 3;
/// `uint64 revision`.
pub const REVISION: u8 = 4;
/// `google.protobuf.Timestamp occurred_at`.
pub const OCCURRED_AT: u8 = 5;
/// `uint64 dropped_before`.
const DROPPED_BEFORE: u8 = 6;
/// The row before.
pub const PREVIOUS: u8 = 7;
/// `uint64 conflated`.
const CONFLATED: u8 = 8;
/// `uint64 schema_version`, and what follows: only of kinds whose rows are described at run time.
const SCHEMA_VERSION: u8 = 9;
/// `uint64 transaction_end`.
const TRANSACTION_END: u8 = 10;
/// `string actor`.
const ACTOR: u8 = 11;
/// `string origin`.
const ORIGIN: u8 = 12;
/// `string trace`.
const TRACE: u8 = 13;
/// `Table schema`, of an event that tells of the table.
const SCHEMA: u8 = 14;
/// `bool state_changed`.
const STATE_CHANGED: u8 = 15;

/// `EVENT_TYPE_BOOKMARK`; the types of changes have the numbers of [`ChangeType`].
const BOOKMARK: u64 = 5;

/// Appends the watch event of a change, in any case: a row that does not fit its kind is left out, and is the
/// error.
pub fn event(change: &Change<'_>, renderer: &dyn Renderer, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    number(TYPE, change.change as u64, out);
    if change.change == ChangeType::Schema {
        about(change, renderer, out);
        let told = SchemaChange::parse(change.after);
        if let Some(table) = &told.table {
            message(SCHEMA, out, |out| super::schema::table(table, &told.renamed, out));
            // What its rows are written under from here on.
            number(SCHEMA_VERSION, table.schema_version, out);
        }
        number(STATE_CHANGED, told.begins_anew().into(), out);
        return Ok(());
    }
    let written = row(ROW, change.after, renderer, out);
    about(change, renderer, out);
    written
}

/// Appends the watch event of a change, as another type and without its row.
pub fn without_row(change: &Change<'_>, renderer: &dyn Renderer, seen_as: ChangeType, out: &mut Vec<u8>) {
    number(TYPE, seen_as as u64, out);
    about(change, renderer, out);
}

/// Appends what must follow an event to show the row before too. A row that does not fit its kind is left
/// out, and is the error.
pub fn previous(change: &Change<'_>, renderer: &dyn Renderer, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    row(PREVIOUS, change.before, renderer, out)
}

/// The fields of an event besides its type and its rows.
fn about(change: &Change<'_>, renderer: &dyn Renderer, out: &mut Vec<u8>) {
    bytes(RESOURCE_ID, change.resource_id.as_bytes(), out);
    number(REVISION, change.revision.get(), out);
    if let Some(at) = change.captured_at {
        message(OCCURRED_AT, out, |out| timestamp(at, out));
    }
    if let Some(version) = renderer.schema_version() {
        number(SCHEMA_VERSION, version, out);
        number(TRANSACTION_END, change.transaction_end.get(), out);
        let Writer { actor, origin, trace } = change.writer;
        for (field, said) in [(ACTOR, actor), (ORIGIN, origin), (TRACE, trace)] {
            bytes(field, said.unwrap_or_default().as_bytes(), out);
        }
    }
}

/// Changes the type of an event.
pub fn typed(change: ChangeType) -> Vec<u8> {
    field(TYPE, change as u64)
}

/// Says that this many events were dropped before an event; nothing if none were.
pub fn dropped_before(events: u64) -> Vec<u8> {
    field(DROPPED_BEFORE, events)
}

/// Says that an event stands for this many.
pub fn conflated(events: u64) -> Vec<u8> {
    field(CONFLATED, events)
}

/// The message of a bookmark.
pub fn bookmark(revision: Revision) -> Vec<u8> {
    let mut out = field(TYPE, BOOKMARK);
    number(REVISION, revision.get(), &mut out);
    out
}

fn field(field: u8, value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(11);
    number(field, value, &mut out);
    out
}

/// A number, which is not written if it is 0: that is what its absence means.
pub(super) fn number(field: u8, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(field << 3);
        varint(value, out);
    }
}

/// A string; an empty one is not written.
pub(crate) fn bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn row(field: u8, row: Option<&str>, renderer: &dyn Renderer, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let Some(row) = row else { return Ok(()) };
    let start = out.len();
    let written = message(field, out, |out| renderer.message(row, out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// A message, which `write` appends; even an empty one is written.
pub(super) fn message<R>(field: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    out.push(field << 3 | 2);
    let start = out.len();
    let result = write(out);
    // Its length precedes it, with as many bytes as it needs.
    let end = out.len();
    varint((end - start) as u64, out);
    let length = out.len() - end;
    if let Some(message) = out.get_mut(start..) {
        message.rotate_right(length);
    }
    result
}

/// A `google.protobuf.Timestamp`.
fn timestamp(at: SystemTime, out: &mut Vec<u8>) {
    let split = |since: Duration| (since.as_secs().cast_signed(), since.subsec_nanos());
    let (seconds, nanos) = match at.duration_since(UNIX_EPOCH) {
        Ok(since) => split(since),
        // Nanoseconds count upwards before 1970, too.
        Err(before) => match split(before.duration()) {
            (seconds, 0) => (-seconds, 0),
            (seconds, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
        },
    };
    number(1, seconds.cast_unsigned(), out);
    number(2, nanos.into(), out);
}

fn varint(value: u64, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Writer;
    use crate::proto::rh_trex::v1 as pb;
    use prost::Message;

    /// Rows that are the species of a dinosaur.
    struct Species;

    impl Renderer for Species {
        fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
            let species: String = serde_json::from_str(row)?;
            pb::Dinosaur { species, ..Default::default() }.encode(out).unwrap();
            Ok(())
        }
    }

    fn dinosaur(species: &str) -> Option<pb::Dinosaur> {
        Some(pb::Dinosaur { species: species.into(), ..Default::default() })
    }

    fn decoded(parts: &[&[u8]]) -> pb::DinosaurWatchEvent {
        pb::DinosaurWatchEvent::decode(&*parts.concat()).unwrap()
    }

    #[test]
    fn an_event_is_what_prost_makes_of_it() {
        for (length, at) in [
            (0, UNIX_EPOCH),
            (100, UNIX_EPOCH + Duration::new(1_795_153_541, 574_626_000)),
            (300, UNIX_EPOCH - Duration::from_millis(1_300)),
            (70_000, UNIX_EPOCH - Duration::from_secs(7)),
        ] {
            let (species, id) = ("x".repeat(length), "é".repeat(length / 3));
            let row = format!("{species:?}");
            let change = Change {
                revision: Revision::new(length as u64 * 1000),
                kind: "Dinosaur",
                resource_id: &id,
                change: ChangeType::Updated,
                after: Some(&row),
                before: Some("\"b\""),
                captured_at: Some(at),
                transaction_end: Revision::ZERO,
                writer: Writer::default(),
            };
            let (mut event, mut previous) = (Vec::new(), Vec::new());
            super::event(&change, &Species, &mut event).unwrap();
            super::previous(&change, &Species, &mut previous).unwrap();
            let expected = pb::DinosaurWatchEvent {
                r#type: 2,
                dinosaur: dinosaur(&species),
                resource_id: id.clone(),
                revision: change.revision.get(),
                occurred_at: Some(at.into()),
                ..Default::default()
            };
            assert_eq!(event, expected.encode_to_vec());
            let with_previous = pb::DinosaurWatchEvent { previous: dinosaur("b"), ..expected };
            assert_eq!(decoded(&[&event, &previous]), with_previous);
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_left_out_and_the_event_stays() {
        let change = Change {
            revision: Revision::new(9),
            kind: "Dinosaur",
            resource_id: "a",
            change: ChangeType::Updated,
            after: Some("{"),
            before: Some("\"b\""),
            captured_at: None,
            transaction_end: Revision::ZERO,
            writer: Writer::default(),
        };
        let mut event = Vec::new();
        assert!(super::event(&change, &Species, &mut event).is_err());
        let expected =
            pb::DinosaurWatchEvent { r#type: 2, resource_id: "a".into(), revision: 9, ..Default::default() };
        assert_eq!(decoded(&[&event]), expected);
    }

    #[test]
    fn additions_say_what_the_published_fields_mean() {
        let added = decoded(&[&typed(ChangeType::Deleted), &dropped_before(300), &conflated(7)]);
        assert_eq!((added.r#type, added.dropped_before, added.conflated), (3, 300, 7));
        let bookmark = decoded(&[&bookmark(Revision::new(5)), &dropped_before(1)]);
        assert_eq!((bookmark.r#type, bookmark.revision, bookmark.dropped_before), (5, 5, 1));
        assert_eq!(bookmark.r#type(), pb::EventType::Bookmark);
    }
}
