//! Searches as SQL: names come from the schema, quoted; values travel as parameters. The table is called `t`.

use super::{
    condition::{quoted, sign},
    values::Value,
};
use crate::model::filter::{Comparison, Field, Operand, Schema, Search, ValueType};

/// Writes an expression that is true for the rows that match, and false or NULL for the others.
pub(super) fn search(search: &Search, schema: &Schema, parameters: &mut Vec<Value>) -> String {
    let mut joined = |parts: &[Search], with: &str| {
        let parts: Vec<_> = parts.iter().map(|part| self::search(part, schema, parameters)).collect();
        format!("({})", parts.join(with))
    };
    match search {
        Search::All(parts) => joined(parts, " AND "),
        Search::Any(parts) => joined(parts, " OR "),
        Search::Not(inner) => format!("(NOT {})", self::search(inner, schema, parameters)),
        Search::Compare(field, ..)
        | Search::In(field, _)
        | Search::Like { field, .. }
        | Search::IsNull(field) => match schema.fields.get(*field) {
            Some(field) => test(search, field, parameters),
            None => "false".to_owned(),
        },
    }
}

fn test(search: &Search, field: &Field, parameters: &mut Vec<Value>) -> String {
    let column = format!("t.{}", quoted(&field.column));
    let text = format!("{column}::pg_catalog.text COLLATE pg_catalog.\"C\"");
    let mut place = |parameter: Value| {
        parameters.push(parameter);
        format!("${}", parameters.len())
    };
    match search {
        Search::IsNull(_) => format!("({column} IS NOT DISTINCT FROM NULL)"),
        Search::Like { pattern, any_case, .. } => {
            let place = place(Value::text(pattern));
            // The database decides what upper and lower case are.
            match any_case {
                true => format!("({column}::pg_catalog.text COLLATE pg_catalog.\"default\" ILIKE {place})"),
                false => format!("({text} LIKE {place})"),
            }
        }
        Search::Compare(_, comparison, operand) => {
            let (cast, place) = (cast(&field.value), place(Value::text(operand.sql())));
            let sign = sign(*comparison);
            match cast {
                // The first may use an index; the second is exact under every collation.
                "text" if *comparison == Comparison::Equal && field.value == ValueType::Text => {
                    format!("({column} = {place} AND {text} = {place})")
                }
                "text" => format!("({text} {sign} {place})"),
                cast => format!("({column} {sign} {place}::pg_catalog.{cast})"),
            }
        }
        Search::In(_, operands) => {
            let (cast, place) = (cast(&field.value), place(Value::texts(operands.iter().map(Operand::sql))));
            match cast {
                "text" if field.value == ValueType::Text => {
                    format!("({column} = ANY ({place}) AND {text} = ANY ({place}))")
                }
                "text" => format!("({text} = ANY ({place}))"),
                cast => format!("({column} = ANY ({place}::pg_catalog.{cast}[]))"),
            }
        }
        Search::All(_) | Search::Any(_) | Search::Not(_) => "false".to_owned(),
    }
}

fn cast(value: &ValueType) -> &'static str {
    match value {
        ValueType::Bool => "bool",
        ValueType::Integer => "int8",
        ValueType::Numeric => "numeric",
        ValueType::Single => "float4",
        ValueType::Double => "float8",
        ValueType::Uuid => "uuid",
        ValueType::Date => "date",
        ValueType::Timestamp => "timestamp",
        ValueType::Time => "timestamptz",
        ValueType::Text
        | ValueType::Padded
        | ValueType::Enum(_)
        | ValueType::Json
        | ValueType::Jsonb
        | ValueType::Other => "text",
    }
}
