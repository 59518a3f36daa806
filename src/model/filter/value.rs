//! Values of rows, read according to their columns' types, and tests of them.

use super::{
    Field, Operand, Test, Unset, Value, ValueType,
    decimal::Decimal,
    predicate::{Float, Scalar},
    row::{is_beyond_text, unescaped},
    time::{self, Form},
};
use std::{borrow::Cow, cmp::Ordering};

/// Numbers within JSON are compared up to this many characters, as SQL does.
const JSON_NUMBER: usize = 15_000;

/// The microseconds since 1970 that a protobuf timestamp can represent: the years 1 to 9999.
pub(super) const MESSAGE_TIMES: std::ops::RangeInclusive<i128> =
    -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A `timestamptz` as Postgres writes it in JSON, in microseconds since 1970; `None`: no protobuf timestamp
/// can represent it.
pub fn message_time(text: &str) -> Option<i64> {
    let time = time::parse(text, Form::Zoned).ok().filter(|time| MESSAGE_TIMES.contains(time))?;
    i64::try_from(time).ok()
}

/// What is tested: a value, and its field.
#[derive(Clone, Copy)]
pub(super) struct Tested<'a> {
    /// `None`: a value of the event itself.
    pub(super) field: Option<&'a Field>,
    pub(super) value: Value<'a>,
    /// Whether the empty text of a message's field is NULL, as policies have it.
    pub(super) strict: bool,
}

impl<'a> Tested<'a> {
    /// Whether a test holds; `None`: the value is unset, or of another type.
    pub(super) fn holds(self, test: &Test, claims: &[Vec<Operand>]) -> Option<bool> {
        if *test == Test::Present {
            return Some(self.is_present());
        }
        let value = self.scalar()?;
        let claim = |slot: &usize| claims.get(*slot);
        match test {
            Test::Matches(pattern) => match &value {
                Scalar::Text(text) => Some(pattern.holds(text)),
                _ => None,
            },
            Test::Compare(comparison, with) => Some(comparison.accepts(with.compare(&value)?)),
            Test::In(list) => is_in(list, &value),
            Test::Claim(comparison, slot) => Some(comparison.accepts(claim(slot)?.first()?.compare(&value)?)),
            Test::InClaim(slot) => is_in(claim(slot)?, &value),
            // The check rules out such a test.
            Test::Present | Test::Type(_) => None,
        }
    }

    fn of_message(&self) -> bool {
        self.field.is_some_and(|field| field.unset == Unset::AsInMessages)
    }

    fn is_present(&self) -> bool {
        match self.value {
            Value::Text(text) => !text.is_empty(),
            Value::Time(_) => true,
            Value::Json("null") => false,
            Value::Json(_) if self.of_message() => match self.scalar() {
                Some(Scalar::Text(text)) => !text.is_empty(),
                other => other.is_some(),
            },
            Value::Json(_) => true,
        }
    }

    fn scalar(&self) -> Option<Scalar<'a>> {
        let json = match self.value {
            Value::Text(text) => return Some(Scalar::Text(Cow::Borrowed(text))),
            Value::Time(micros) => return Some(Scalar::Time(micros.into())),
            Value::Json(json) => json,
        };
        let field = self.field?;
        if json == "null" {
            let is_empty = self.of_message() && !self.strict && field.value == ValueType::Text;
            return is_empty.then_some(Scalar::Text(Cow::Borrowed("")));
        }
        match &field.value {
            ValueType::Bool => Some(Scalar::Bool(json == "true")),
            ValueType::Integer => json.parse().ok().map(Scalar::Integer),
            ValueType::Numeric => Decimal::parse(inner(json)).map(Scalar::Decimal),
            ValueType::Single => {
                inner(json).parse::<f32>().ok().map(|value| Scalar::Float(Float(value.into())))
            }
            ValueType::Double => inner(json).parse().ok().map(|value| Scalar::Float(Float(value))),
            ValueType::Text | ValueType::Enum(_) => Some(Scalar::Text(unescaped(inner(json)))),
            ValueType::Padded => Some(Scalar::Text(match unescaped(inner(json)) {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim_end_matches(' ')),
                Cow::Owned(text) => Cow::Owned(text.trim_end_matches(' ').to_owned()),
            })),
            ValueType::Uuid => {
                uuid::Uuid::try_parse(inner(json)).ok().map(|uuid| Scalar::Uuid(uuid.as_u128()))
            }
            ValueType::Date => time::parse(inner(json), Form::Date).ok().map(Scalar::Time),
            ValueType::Timestamp => time::parse(inner(json), Form::Local).ok().map(Scalar::Time),
            ValueType::Time => {
                let time = time::parse(inner(json), Form::Zoned).ok()?;
                (!self.of_message() || MESSAGE_TIMES.contains(&time)).then_some(Scalar::Time(time))
            }
            ValueType::Json | ValueType::Jsonb => within_json(json),
            ValueType::Other if is_beyond_text(json) => None,
            ValueType::Other if json.starts_with('"') => Some(Scalar::Text(unescaped(inner(json)))),
            ValueType::Other => Some(Scalar::Text(Cow::Borrowed(json))),
        }
    }
}

fn is_in(list: &[Operand], value: &Scalar<'_>) -> Option<bool> {
    // These sort as their values do, and the list for a column has one type.
    let sorts_by_value = |operand: &Operand| {
        matches!(operand, Operand::Text(_) | Operand::Integer(_) | Operand::Uuid(_))
            && operand.compare(value).is_some()
    };
    if let (Some(first), Some(last)) = (list.first(), list.last())
        && sorts_by_value(first)
        && sorts_by_value(last)
    {
        let side = |operand: &Operand| operand.compare(value).map_or(Ordering::Less, Ordering::reverse);
        return Some(list.binary_search_by(side).is_ok());
    }
    // As a chain of ORs: what does not compare is unknown, unless another is the same.
    let mut is_unknown = list.is_empty();
    for operand in list {
        match operand.compare(value) {
            Some(Ordering::Equal) => return Some(true),
            Some(_) => {}
            None => is_unknown = true,
        }
    }
    (!is_unknown).then_some(false)
}

/// What is between a JSON string's quotes, or a scalar without them as it stands.
fn inner(json: &str) -> &str {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json)
}

/// A scalar within JSON, of whatever type it is; objects, arrays and null are none.
fn within_json(json: &str) -> Option<Scalar<'_>> {
    match json.as_bytes().first()? {
        b'"' => Some(Scalar::Text(unescaped(inner(json)))),
        b't' | b'f' => Some(Scalar::Bool(json == "true")),
        b'-' | b'0'..=b'9' if json.len() <= JSON_NUMBER => {
            let exponent = json.split(['e', 'E']).nth(1).unwrap_or_default();
            let digits = exponent.trim_start_matches(['+', '-']).len();
            (digits <= 3).then(|| Decimal::parse(json).map(Scalar::Decimal)).flatten()
        }
        _ => None,
    }
}
