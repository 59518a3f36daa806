//! Filters and orders as SQL. Names come from the kind's own schema, values travel as parameters.
//!
//! What a filter says of a row must be what it says of the row's message. So texts compare by bytes, whatever the database's collation;
//! a test of a value that is unset does not hold, and its negation does; and a time that no message can say is unset.

use crate::model::filter::{
    Comparison, Field, Filter, Order, Pattern, Predicate, Schema, Subject, Test, ValueType,
};
use std::time::{Duration, SystemTime};
use tokio_postgres::types::{ToSql, Type};

/// The times that a message can say: those of RFC 3339, up to where a time zone cannot push them out of their year.
const TIMES: &str = "'0001-01-01 00:00:00+00' AND '9999-12-30 22:00:00.999999+00'";

/// A parameter and its type.
pub(super) type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

/// Writes an expression that is true for the rows that match, and false or NULL for the others.
pub(super) fn condition(filter: &Filter, parameters: &mut Vec<Parameter>) -> String {
    write(filter.predicate(), filter.schema(), parameters)
}

/// Writes what follows ORDER BY; ends with the key, so that the order is a total one.
pub(super) fn order(schema: &Schema, orders: &[Order], key: &str) -> String {
    let direction = |order: &Order| if order.descending { " DESC" } else { "" };
    let named = orders.iter().filter_map(|order| Some((schema.fields.get(order.field)?, direction(order))));
    let mut terms: Vec<_> = named
        .map(|(field, direction)| match field.value {
            ValueType::Text => format!("coalesce({}, '') COLLATE \"C\"{direction}", field.column),
            ValueType::Time => format!("{}{direction}", field.column),
        })
        .collect();
    terms.push(key.to_owned());
    terms.join(", ")
}

fn write(predicate: &Predicate, schema: &Schema, parameters: &mut Vec<Parameter>) -> String {
    let mut joined = |parts: &[Predicate], with| {
        let parts: Vec<_> = parts.iter().map(|part| write(part, schema, parameters)).collect();
        format!("({})", parts.join(with))
    };
    match predicate {
        Predicate::All(parts) => joined(parts, " AND "),
        Predicate::Any(parts) => joined(parts, " OR "),
        // NULL counts as false, so its negation is true.
        Predicate::Not(inner) => format!("({} IS NOT TRUE)", write(inner, schema, parameters)),
        Predicate::Test(Subject::Field(field), test) => match schema.fields.get(*field) {
            Some(Field { column, value: ValueType::Time, .. }) if *test == Test::Present => {
                format!("({column} BETWEEN {TIMES})")
            }
            Some(field) => write_test(field.column, test, parameters),
            None => "false".to_owned(),
        },
        // A filter of rows has no such test.
        Predicate::Test(Subject::Type | Subject::ResourceId | Subject::OccurredAt, _) => "false".to_owned(),
    }
}

fn write_test(column: &str, test: &Test, parameters: &mut Vec<Parameter>) -> String {
    let mut place = |parameter: Parameter| {
        parameters.push(parameter);
        format!("${}", parameters.len())
    };
    match test {
        Test::Present => format!("({column} COLLATE \"C\" <> '')"),
        Test::Type(_) => "false".to_owned(),
        // The first may use an index; the second is exact under every collation.
        Test::Text(Comparison::Equal, with) if !with.is_empty() => {
            let with = place(text(with.clone()));
            format!("({column} = {with} AND {column} COLLATE \"C\" = {with})")
        }
        Test::Text(comparison, with) => {
            format!(
                "(coalesce({column}, '') COLLATE \"C\" {} {})",
                sign(*comparison),
                place(text(with.clone()))
            )
        }
        Test::Matches(pattern) => {
            format!("(coalesce({column}, '') COLLATE \"C\" LIKE {})", place(text(like(pattern))))
        }
        Test::Time(comparison, with) => format!(
            "({column} {} {} AND {column} BETWEEN {TIMES})",
            sign(*comparison),
            place((Box::new(time(*with)), Type::TIMESTAMPTZ))
        ),
    }
}

fn text(value: String) -> Parameter {
    (Box::new(value), Type::TEXT)
}

fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    // A filter's times are of the years 1 to 9999, which every clock has.
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::Less => "<",
        Comparison::AtMost => "<=",
        Comparison::Greater => ">",
        Comparison::AtLeast => ">=",
    }
}

fn like(pattern: &Pattern) -> String {
    let escaped = |part: &str| part.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    match pattern {
        Pattern::Begins(part) => format!("{}%", escaped(part)),
        Pattern::Ends(part) => format!("%{}", escaped(part)),
        Pattern::Contains(part) => format!("%{}%", escaped(part)),
    }
}
