//! Literals to values of a field's type.

use super::{
    Fault, Operand, Unset, ValueType,
    decimal::Decimal,
    lexer::Literal,
    parser::Said,
    predicate::Float,
    time::{self, Form, Wrong},
    value::MESSAGE_TIMES,
};

/// Digits that a `numeric` of Postgres may have before and after its point.
const WHOLE: i64 = 131_071;
const SCALE: i64 = 16_383;

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) value: &'a ValueType,
    pub(super) unset: Unset,
}

/// The name of a claim, if a literal is one.
pub(super) fn is_claim(literal: &Literal) -> Option<&str> {
    literal.text.strip_prefix('$').filter(|name| !literal.quoted && !name.is_empty())
}

pub(super) fn operand(said: &Said, expected: Expected<'_>) -> Result<Operand, Fault> {
    let Said { at, literal } = said;
    typed(literal, expected).map_err(|problem| Fault::at(*at, problem))
}

pub(super) fn typed(literal: &Literal, expected: Expected<'_>) -> Result<Operand, String> {
    let text = literal.text.as_str();
    match expected.value {
        ValueType::Bool => match text {
            "true" => Ok(Operand::Bool(true)),
            "false" => Ok(Operand::Bool(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        ValueType::Integer => {
            text.parse().map(Operand::Integer).map_err(|_| format!("{text:?} is no whole number of 64 bits"))
        }
        ValueType::Numeric => decimal(text),
        ValueType::Single => {
            let parsed = text.parse::<f32>().map(f64::from);
            parsed.ok().filter(|value| fits(*value, text)).map(|value| Operand::Float(Float(value)))
        }
        .ok_or_else(|| format!("{text:?} is no floating-point number of 32 bits")),
        ValueType::Double => text
            .parse()
            .ok()
            .filter(|value| fits(*value, text))
            .map(|value| Operand::Float(Float(value)))
            .ok_or_else(|| format!("{text:?} is no floating-point number of 64 bits")),
        ValueType::Text | ValueType::Other => Ok(Operand::Text(text.to_owned())),
        ValueType::Padded => Ok(Operand::Text(text.trim_end_matches(' ').to_owned())),
        ValueType::Uuid => uuid::Uuid::try_parse(text)
            .map(|uuid| Operand::Uuid(uuid.as_u128()))
            .map_err(|_| format!("{text:?} is no uuid")),
        ValueType::Enum(labels) if labels.iter().any(|label| label == text) => {
            Ok(Operand::Text(text.to_owned()))
        }
        ValueType::Enum(labels) => Err(format!("{text:?} is no label; there are {}", labels.join(", "))),
        ValueType::Date => moment(text, Form::Date, expected).map(Operand::Date),
        ValueType::Timestamp => moment(text, Form::Local, expected).map(Operand::Local),
        ValueType::Time => moment(text, Form::Zoned, expected).map(Operand::Time),
        // The form of a bare word says what it is in JSON.
        ValueType::Json | ValueType::Jsonb => Ok(match text {
            _ if literal.quoted => Operand::Text(text.to_owned()),
            "true" => Operand::Bool(true),
            "false" => Operand::Bool(false),
            _ if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                decimal(text).unwrap_or_else(|_| Operand::Text(text.to_owned()))
            }
            _ => Operand::Text(text.to_owned()),
        }),
    }
}

/// A number that is infinite or 0 after parsing was too large or too small.
fn fits(value: f64, text: &str) -> bool {
    let has_digits = |digits: std::ops::RangeInclusive<char>| {
        text.split(['e', 'E']).next().is_some_and(|text| text.contains(|c| digits.contains(&c)))
    };
    !(value.is_infinite() && has_digits('0'..='9') || value == 0.0 && has_digits('1'..='9'))
}

fn decimal(text: &str) -> Result<Operand, String> {
    let number = Decimal::parse(text).ok_or_else(|| format!("{text:?} is no number"))?;
    if number.magnitude().is_some_and(|power| power >= WHOLE) || number.scale() > SCALE {
        return Err(format!("{text:?} has more digits than a number may have"));
    }
    Ok(Operand::Decimal(text.to_owned()))
}

fn moment(text: &str, form: Form, expected: Expected<'_>) -> Result<i128, String> {
    let of_message = expected.unset == Unset::AsInMessages;
    let parsed = match text {
        "infinity" | "-infinity" if of_message => Err(Wrong::Form),
        _ => time::parse(text, form),
    };
    let time = parsed.map_err(|wrong| match (wrong, form) {
        (Wrong::TooFine, _) => "a time has no more than microseconds".to_owned(),
        (Wrong::Form, Form::Date) => format!("{text:?} is no date, such as 2026-11-20"),
        (Wrong::Form, Form::Local) => {
            format!("{text:?} is no time without a zone, such as 2026-11-20T08:00:00")
        }
        (Wrong::Form, Form::Zoned) => {
            format!("{text:?} is no time as RFC 3339 writes it, such as 2026-11-20T08:00:00Z")
        }
    })?;
    let infinite = matches!(time, time::INFINITY | time::MINUS_INFINITY);
    if of_message && !MESSAGE_TIMES.contains(&time) {
        return Err("a time is of the years 1 to 9999".to_owned());
    }
    if !infinite && !form.range().contains(&time) {
        return Err("a time is of the years 4713 BC to 294276, a date of years up to 5874897".to_owned());
    }
    Ok(time)
}
