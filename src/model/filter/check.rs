//! Expressions to predicates: names are looked up, and each value must fit its field.

use super::{
    ChangeType, Fault, Schema, Scope, ValueType,
    lexer::{Comparator, Literal},
    parser::{Expression, Restriction},
    predicate::{Comparison, Pattern, Predicate, Subject, Test},
    schema::{OCCURRED_AT, RESOURCE_ID, TYPE},
};

/// The years that a protobuf timestamp has.
const YEARS: std::ops::RangeInclusive<i16> = 1..=9999;

const TYPES: [(&str, ChangeType); 4] = [
    ("CREATED", ChangeType::Created),
    ("UPDATED", ChangeType::Updated),
    ("DELETED", ChangeType::Deleted),
    ("SNAPSHOT", ChangeType::Snapshot),
];

pub(super) fn check(expression: &Expression, schema: &Schema, scope: Scope) -> Result<Predicate, Fault> {
    let all = |parts: &[Expression]| {
        parts.iter().map(|part| check(part, schema, scope)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match expression {
        Expression::All(parts) => Predicate::All(all(parts)?),
        Expression::Any(parts) => Predicate::Any(all(parts)?),
        Expression::Not(inner) => Predicate::Not(Box::new(check(inner, schema, scope)?)),
        Expression::Restriction(restriction) => {
            let subject = subject(restriction, schema, scope)?;
            let test = test(restriction, subject, schema)?;
            let predicate = Predicate::Test(subject, test);
            match restriction.comparator {
                Comparator::NotEqual => Predicate::Not(Box::new(predicate)),
                _ => predicate,
            }
        }
    })
}

fn subject(restriction: &Restriction, schema: &Schema, scope: Scope) -> Result<Subject, Fault> {
    let name = restriction.field.as_str();
    if let Some(field) = schema.field(name) {
        return Ok(Subject::Field(field));
    }
    let of_event = match name {
        TYPE => Subject::Type,
        RESOURCE_ID => Subject::ResourceId,
        OCCURRED_AT => Subject::OccurredAt,
        _ => return Err(unknown(restriction.field_at, name, schema, scope)),
    };
    match scope {
        Scope::Events => Ok(of_event),
        Scope::Rows => {
            Err(Fault::at(restriction.field_at, format!("{name} is a field of events, and a list has none")))
        }
    }
}

/// There is no such field.
pub(super) fn unknown(at: usize, name: &str, schema: &Schema, scope: Scope) -> Fault {
    Fault::at(at, format!("there is no field {name}; there are {}", schema.names(scope)))
}

fn test(restriction: &Restriction, subject: Subject, schema: &Schema) -> Result<Test, Fault> {
    if restriction.comparator == Comparator::Has && is_star(&restriction.literal) {
        return Ok(Test::Present);
    }
    let value = match subject {
        Subject::Type => return type_test(restriction),
        Subject::ResourceId => ValueType::Text,
        Subject::OccurredAt => ValueType::Time,
        Subject::Field(field) => schema.fields.get(field).map_or(ValueType::Text, |field| field.value),
    };
    match value {
        ValueType::Text => text_test(restriction),
        ValueType::Time => time_test(restriction),
    }
}

fn is_star(literal: &Literal) -> bool {
    literal.text == "*" && literal.stars == [0]
}

/// What a field has, it is: rows have no collections.
fn comparison(comparator: Comparator) -> Comparison {
    match comparator {
        Comparator::Equal | Comparator::NotEqual | Comparator::Has => Comparison::Equal,
        Comparator::Less => Comparison::Less,
        Comparator::AtMost => Comparison::AtMost,
        Comparator::Greater => Comparison::Greater,
        Comparator::AtLeast => Comparison::AtLeast,
    }
}

fn type_test(restriction: &Restriction) -> Result<Test, Fault> {
    if comparison(restriction.comparator) != Comparison::Equal {
        let (at, sign) = (restriction.comparator_at, restriction.comparator.as_str());
        return Err(Fault::at(at, format!("a type is not compared by {sign}, but by = and !=")));
    }
    let name = restriction.literal.text.as_str();
    let short = name.strip_prefix("EVENT_TYPE_").unwrap_or(name);
    match TYPES.iter().find(|(known, _)| *known == short) {
        Some((_, change)) => Ok(Test::Type(*change)),
        None => Err(Fault::at(
            restriction.literal_at,
            format!("{name:?} is no type; there are CREATED, UPDATED, DELETED, SNAPSHOT"),
        )),
    }
}

fn text_test(restriction: &Restriction) -> Result<Test, Fault> {
    let Restriction { comparator, literal, literal_at, .. } = restriction;
    match comparison(*comparator) {
        comparison if literal.stars.is_empty() => Ok(Test::Text(comparison, literal.text.clone())),
        Comparison::Equal => pattern(literal).map(Test::Matches).ok_or_else(|| {
            Fault::at(
                *literal_at,
                r#"a wildcard stands at the beginning or the end; as a character it is written "\*""#,
            )
        }),
        _ => Err(Fault::at(
            *literal_at,
            r#"wildcards go with = and != only; as a character the star is written "\*""#,
        )),
    }
}

/// What wildcards at the beginning, the end or both make of a text; `None`: there is one within it.
fn pattern(literal: &Literal) -> Option<Pattern> {
    let text = literal.text.as_str();
    let last = text.len().checked_sub(1)?;
    let (begins, ends) = (literal.stars.contains(&0), literal.stars.contains(&last));
    if literal.stars.iter().any(|&at| at != 0 && at != last) {
        return None;
    }
    Some(match (begins, ends) {
        (true, true) => Pattern::Contains(text.get(1..last).unwrap_or_default().to_owned()),
        (true, false) => Pattern::Ends(text.get(1..)?.to_owned()),
        (false, _) => Pattern::Begins(text.get(..last)?.to_owned()),
    })
}

fn time_test(restriction: &Restriction) -> Result<Test, Fault> {
    let comparison = comparison(restriction.comparator);
    let (at, text) = (restriction.literal_at, restriction.literal.text.as_str());
    let time = text.parse::<jiff::Timestamp>().map_err(|_| {
        Fault::at(at, format!("{text:?} is no time as RFC 3339 writes it, such as 2026-11-20T08:00:00Z"))
    })?;
    if !YEARS.contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()) {
        return Err(Fault::at(at, "a time is of the years 1 to 9999"));
    }
    if time.subsec_nanosecond() % 1000 != 0 {
        return Err(Fault::at(at, "a time has no more than microseconds"));
    }
    Ok(Test::Time(comparison, time.as_microsecond()))
}
