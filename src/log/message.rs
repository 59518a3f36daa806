//! Looks into an encoded watch event without decoding it: what filters ask, and what is left of an event for those whom its row has left.
//!
//! The wire format is that of <https://protobuf.dev/programming-guides/encoding/>; the last of a field's occurrences counts.

use super::Segment;
use crate::model::{
    ChangeType, Revision,
    filter::{Event, Field, Filter, Malformed, RowEvent, Schema, Value, ValueType, Verdict, Which},
};
use crate::wire::envelope;

/// A field of a message.
struct Part<'a> {
    number: u32,
    payload: Payload<'a>,
    /// The whole field, its number included.
    bytes: &'a [u8],
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message, in the order in which they stand.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn next(&mut self) -> Result<Option<Part<'a>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let whole = self.0;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.skip(4)?,
            _ => return Err(Malformed),
        };
        let bytes = whole.get(..whole.len() - self.0.len()).ok_or(Malformed)?;
        Ok(Some(Part { number, payload, bytes }))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return Err(Malformed) };
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<Payload<'a>, Malformed> {
        self.take(length).map(|_| Payload::Fixed)
    }
}

/// The payload of a field; `None`: the message has no such field.
fn find(message: &[u8], number: u32) -> Result<Option<Payload<'_>>, Malformed> {
    let (mut parts, mut found) = (Parts(message), None);
    while let Some(part) = parts.next()? {
        if part.number == number {
            found = Some(part.payload);
        }
    }
    Ok(found)
}

/// A field that is a message or a string.
fn find_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    match find(message, number)? {
        None => Ok(None),
        Some(Payload::Bytes(bytes)) => Ok(Some(bytes)),
        Some(_) => Err(Malformed),
    }
}

/// A number; absent: 0.
fn find_number(message: &[u8], number: u32) -> Result<i64, Malformed> {
    match find(message, number)? {
        None => Ok(0),
        // Two's complement, as protobuf writes int32 and int64.
        Some(Payload::Varint(value)) => Ok(value.cast_signed()),
        Some(_) => Err(Malformed),
    }
}

/// The revision of a watch event.
pub(crate) fn find_revision(message: &[u8]) -> Result<Revision, Malformed> {
    Ok(Revision::new(find_number(message, envelope::REVISION.into())?.cast_unsigned()))
}

/// A `google.protobuf.Timestamp`, in microseconds since 1970.
fn time(timestamp: &[u8]) -> Result<i64, Malformed> {
    let (seconds, nanos) = (find_number(timestamp, 1)?, find_number(timestamp, 2)?);
    seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1000)).ok_or(Malformed)
}

/// A message with another text in some of its string fields: `write` appends it, and says whether it did; otherwise the field stays.
pub(crate) fn write_with(
    out: &mut Vec<u8>,
    message: &[u8],
    mut write: impl FnMut(u32, &str, &mut Vec<u8>) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    let mut parts = Parts(message);
    while let Some(part) = parts.next()? {
        let begin = out.len();
        let written = match part.payload {
            Payload::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => write(part.number, text, out)?,
                Err(_) => false,
            },
            Payload::Varint(_) | Payload::Fixed => false,
        };
        if !written {
            out.truncate(begin);
            out.extend_from_slice(part.bytes);
        }
    }
    Ok(())
}

/// A message without one of its fields.
pub(crate) fn write_without(out: &mut Vec<u8>, message: &[u8], number: u32) -> Result<(), Malformed> {
    let mut parts = Parts(message);
    while let Some(part) = parts.next()? {
        if part.number != number {
            out.extend_from_slice(part.bytes);
        }
    }
    Ok(())
}

/// An encoded watch event.
#[derive(Clone, Copy)]
pub(crate) struct EncodedEvent<'a> {
    change: ChangeType,
    resource_id: &'a str,
    message: &'a [u8],
    schema: &'a Schema,
    old: Option<&'a [u8]>,
    new: Option<&'a [u8]>,
}

impl<'a> EncodedEvent<'a> {
    /// From its message, and what follows the message to show the row before.
    pub(crate) fn new(
        (change, resource_id): (ChangeType, &'a str),
        message: &'a [u8],
        previous: &'a [u8],
        schema: &'a Schema,
    ) -> Result<Self, Malformed> {
        let (old, new) = (find_bytes(previous, schema.previous)?, find_bytes(message, schema.row)?);
        Ok(Self { change, resource_id, message, schema, old, new })
    }

    /// An event of a segment.
    pub(crate) fn of(segment: &'a Segment, event: usize, schema: &'a Schema) -> Result<Self, Malformed> {
        let change = segment.entries().get(event).ok_or(Malformed)?.change;
        Self::new(
            (change, segment.resource_id(event)),
            segment.message(event),
            segment.previous(event),
            schema,
        )
    }
}

impl EncodedEvent<'_> {
    /// What a filter says of it.
    pub(crate) fn judged_by(&self, filter: &Filter) -> Result<Verdict, Malformed> {
        if !self.schema.is_json() {
            return filter.judge(self);
        }
        filter.judge_rows(RowEvent {
            change: self.change,
            resource_id: self.resource_id,
            occurred_at: self.occurred_at()?,
            old: self.old.map(std::str::from_utf8).transpose().map_err(|_| Malformed)?,
            new: self.new.map(std::str::from_utf8).transpose().map_err(|_| Malformed)?,
        })
    }
}

impl Event for EncodedEvent<'_> {
    fn change(&self) -> ChangeType {
        self.change
    }

    fn resource_id(&self) -> &str {
        self.resource_id
    }

    fn occurred_at(&self) -> Result<Option<i64>, Malformed> {
        find_bytes(self.message, self.schema.occurred_at)?.map(time).transpose()
    }

    fn value(&self, row: Which, field: usize) -> Result<Option<Value<'_>>, Malformed> {
        let row = match row {
            Which::Old => self.old,
            Which::New => self.new,
        };
        match (row, self.schema.fields.get(field)) {
            (Some(row), Some(field)) => value(row, field),
            _ => Ok(None),
        }
    }
}

fn value<'a>(row: &'a [u8], field: &Field) -> Result<Option<Value<'a>>, Malformed> {
    let Some((last, messages)) = field.path.split_last() else { return Ok(None) };
    let mut message = row;
    for &number in messages {
        match find_bytes(message, number)? {
            Some(inner) => message = inner,
            None => return Ok(None),
        }
    }
    let bytes = find_bytes(message, *last)?;
    Ok(match &field.value {
        ValueType::Text => {
            Some(Value::Text(std::str::from_utf8(bytes.unwrap_or_default()).map_err(|_| Malformed)?))
        }
        ValueType::Time => bytes.map(time).transpose()?.map(Value::Time),
        // Messages have no other fields.
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_malformed() {
        // A length beyond the end, a varint without an end, a group.
        for bytes in [&[0x12, 5, 1][..], &[0x08, 0x80], &[0x08; 1], &[0x0b], &[0xff; 12]] {
            assert!(find(bytes, 1).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_field_is_left_out_and_the_others_stay() {
        let message = [0x08, 2, 0x12, 3, b'a', b'b', b'c', 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x2d, 1, 2, 3, 4];
        let mut out = Vec::new();
        write_without(&mut out, &message, 2).unwrap();
        assert_eq!(out, [&message[..2], &message[7..]].concat());
    }

    #[test]
    fn the_last_of_a_field_counts() {
        assert_eq!(find_number(&[0x08, 1, 0x08, 0x96, 0x01], 1), Ok(150));
        assert_eq!(
            find_number(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 1),
            Ok(-1)
        );
    }
}
