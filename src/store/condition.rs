//! Filters and orders as SQL. Names come from the schema, quoted; values travel as parameters. The table is
//! called `t`, and the statement runs with the settings of [`super::snapshot::FORMATS`].
//!
//! A filter must give the same result for a row as for the row's JSON (`model/filter/value.rs`). So texts
//! compare by bytes, whatever the database's collation; a test of an unset value does not hold, and its
//! negation does; and in a column of a message, a time that no message can represent is unset.

use super::values::Value;
use crate::model::filter::{
    Bound, Comparison, Field, Filter, Operand, Order, Pattern, Predicate, Schema, Subject, Test, Unset,
    ValueType,
};

/// The times that a message can represent: those of a protobuf timestamp.
const TIMES: &str = "'0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'";
/// Surrogate pairs in JSON, each one character, and the remaining escapes that no text can hold: a NUL, and
/// half a pair. The backslash is doubled for the regular expression, and again for the string.
const PAIR: &str = r"E'\\\\ud[89ab]..\\\\ud[c-f]..'";
const BEYOND_TEXT: &str = r"E'\\\\u(0000|d[89a-f])'";
/// Numbers within JSON that are compared; `model/filter/value.rs` has the same bounds.
const JSON_NUMBER: &str = "^[^eE]*([eE][-+]?[0-9]{1,3})?$";

/// Writes an expression that is true for the rows that match, and false or NULL for the others.
pub(super) fn condition(filter: &Filter, parameters: &mut Vec<Value>) -> String {
    Writer { schema: filter.schema(), claims: None, parameters }.write(filter.predicate())
}

/// Writes an expression that is true for the rows that a policy shows, and false or NULL for the others: an
/// unset value is unknown.
pub(super) fn policy(filter: &Filter, claims: &Bound, parameters: &mut Vec<Value>) -> String {
    Writer { schema: filter.schema(), claims: Some(claims), parameters }.write(filter.predicate())
}

/// What an order sorts a field by.
pub(super) fn sort_key(field: &Field) -> String {
    let column = column(field);
    match (&field.value, field.unset) {
        (ValueType::Text, Unset::AsInMessages) => {
            format!("coalesce({column}, '') COLLATE pg_catalog.\"C\"")
        }
        (ValueType::Text | ValueType::Padded, _) => {
            format!("{column}::pg_catalog.text COLLATE pg_catalog.\"C\"")
        }
        _ => column,
    }
}

/// Writes what follows ORDER BY; ends with the key, so that the order is a total one.
pub(super) fn order(schema: &Schema, orders: &[Order], key: &str) -> String {
    let direction = |order: &Order| if order.descending { " DESC" } else { "" };
    let named = orders.iter().filter_map(|order| Some((schema.fields.get(order.field)?, direction(order))));
    let mut terms: Vec<_> = named.map(|(field, direction)| sort_key(field) + direction).collect();
    terms.push(key.to_owned());
    terms.join(", ")
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column of the table.
pub(super) fn column(field: &Field) -> String {
    format!("t.{}", quoted(&field.column))
}

struct Writer<'a> {
    schema: &'a Schema,
    /// The claims of a policy; `None`: it is a filter.
    claims: Option<&'a Bound>,
    parameters: &'a mut Vec<Value>,
}

impl Writer<'_> {
    fn write(&mut self, predicate: &Predicate) -> String {
        match predicate {
            Predicate::All(parts) => self.joined(parts, " AND "),
            Predicate::Any(parts) => self.joined(parts, " OR "),
            Predicate::Not(inner) if self.claims.is_some() => format!("(NOT {})", self.write(inner)),
            // NULL counts as false, so its negation is true.
            Predicate::Not(inner) => format!("({} IS NOT TRUE)", self.write(inner)),
            Predicate::Test(subject, test) => {
                match (subject, subject.field().and_then(|at| self.schema.fields.get(at))) {
                    (Subject::Path(_, path), Some(field)) => self.within_json(field, path, test),
                    (_, Some(field)) => self.test(field, test),
                    // A filter of rows has no such test.
                    (_, None) => "false".to_owned(),
                }
            }
        }
    }

    fn joined(&mut self, parts: &[Predicate], with: &str) -> String {
        let parts: Vec<_> = parts.iter().map(|part| self.write(part)).collect();
        format!("({})", parts.join(with))
    }

    fn place(&mut self, parameter: Value) -> String {
        self.parameters.push(parameter);
        format!("${}", self.parameters.len())
    }

    /// A value, cast to a type by the database.
    fn value(&mut self, operand: &Operand, sql_type: &str) -> String {
        format!("{}::pg_catalog.{sql_type}", self.place(Value::text(operand.sql())))
    }

    fn values(&mut self, operands: &[Operand], sql_type: &str) -> String {
        let place = self.place(Value::texts(operands.iter().map(Operand::sql)));
        format!("ANY ({place}::pg_catalog.{sql_type}[])")
    }

    fn test(&mut self, field: &Field, test: &Test) -> String {
        let column = column(field);
        if *test == Test::Present {
            return match (field.unset, &field.value) {
                (Unset::AsInMessages, ValueType::Text) => format!(
                    "({column} IS NOT NULL AND {column}::pg_catalog.text COLLATE pg_catalog.\"C\" <> '')"
                ),
                (Unset::AsInMessages, ValueType::Time) => {
                    format!("coalesce({column} BETWEEN {TIMES}, false)")
                }
                _ => present(&column),
            };
        }
        match &field.value {
            ValueType::Text | ValueType::Padded | ValueType::Enum(_) | ValueType::Other => {
                self.text(field, &column, test)
            }
            ValueType::Time if field.unset == Unset::AsInMessages => {
                let compared = self.compared(&column, test, "timestamptz");
                if self.claims.is_some() {
                    return format!("CASE WHEN {column} BETWEEN {TIMES} THEN {compared} END");
                }
                format!("({compared} AND {column} BETWEEN {TIMES})")
            }
            ValueType::Bool => self.compared(&column, test, "bool"),
            ValueType::Integer => self.compared(&column, test, "int8"),
            ValueType::Numeric => self.compared(&column, test, "numeric"),
            ValueType::Single => self.compared(&column, test, "float4"),
            ValueType::Double => self.compared(&column, test, "float8"),
            ValueType::Uuid => self.compared(&column, test, "uuid"),
            ValueType::Date => self.compared(&column, test, "date"),
            ValueType::Timestamp => self.compared(&column, test, "timestamp"),
            ValueType::Time => self.compared(&column, test, "timestamptz"),
            // Its tests are those of its empty path.
            ValueType::Json | ValueType::Jsonb => "false".to_owned(),
        }
    }

    /// A test of a value of an ordered type.
    fn compared(&mut self, column: &str, test: &Test, sql_type: &str) -> String {
        match test {
            Test::Compare(comparison, operand) => {
                format!("({column} {} {})", sign(*comparison), self.value(operand, sql_type))
            }
            Test::In(operands) => format!("({column} = {})", self.values(operands, sql_type)),
            Test::Claim(comparison, slot) => match self.claim(*slot).first() {
                Some(operand) => {
                    format!("({column} {} {})", sign(*comparison), self.value(&operand.clone(), sql_type))
                }
                None => "NULL::pg_catalog.bool".to_owned(),
            },
            Test::InClaim(slot) => {
                let operands = self.claim(*slot).to_vec();
                format!("({column} = {})", self.values(&operands, sql_type))
            }
            // The check lets no such test be made.
            Test::Present | Test::Type(_) | Test::Matches(_) => "false".to_owned(),
        }
    }

    fn claim(&self, slot: usize) -> &[Operand] {
        self.claims.map(|claims| claims.values(slot)).unwrap_or_default()
    }

    /// A test of a text, byte by byte.
    fn text(&mut self, field: &Field, column: &str, test: &Test) -> String {
        let nullable = field.unset == Unset::Null || self.claims.is_some();
        let bytes = match field.value {
            ValueType::Other => in_json(column),
            _ if nullable => format!("{column}::pg_catalog.text COLLATE pg_catalog.\"C\""),
            _ => format!("coalesce({column}, '') COLLATE pg_catalog.\"C\""),
        };
        // This is exact under every collation.
        let exact = match test {
            Test::Matches(pattern) => {
                return format!("({bytes} LIKE {})", self.place(Value::text(like(pattern))));
            }
            test => self.compared(&bytes, test, "text"),
        };
        // And this may use an index.
        let indexed = match (&field.value, test) {
            (ValueType::Text, Test::Compare(Comparison::Equal, Operand::Text(with))) => {
                (nullable || !with.is_empty()).then_some(test)
            }
            (ValueType::Text, Test::Claim(Comparison::Equal, _) | Test::InClaim(_)) => Some(test),
            (ValueType::Text, Test::In(operands)) => {
                (nullable || !operands.contains(&Operand::Text(String::new()))).then_some(test)
            }
            _ => None,
        };
        match indexed {
            Some(test) => format!("({} AND {exact})", self.compared(column, test, "text")),
            None => exact,
        }
    }

    /// A test of the value at a path of a document.
    fn within_json(&mut self, field: &Field, path: &[String], test: &Test) -> String {
        let place = self.place(Value::texts(path.iter().cloned()));
        let column = column(field);
        let prefix = if field.value == ValueType::Json { "json" } else { "jsonb" };
        let (found, said) = (format!("({column} #> {place})"), format!("({column} #>> {place})"));
        let of_type = |of: &str| format!("pg_catalog.{prefix}_typeof({found}) = '{of}'");
        let test = match test {
            Test::Present => {
                format!("coalesce(pg_catalog.{prefix}_typeof({found}) <> 'null', false)")
            }
            Test::Matches(pattern) => {
                let like = self.place(Value::text(like(pattern)));
                format!("CASE WHEN {} THEN {said} LIKE {like} END", of_type("string"))
            }
            Test::Compare(comparison, operand) => self.json_value(&of_type, &said, (*comparison, operand)),
            Test::In(operands) => {
                let tests: Vec<_> = operands
                    .iter()
                    .map(|operand| self.json_value(&of_type, &said, (Comparison::Equal, operand)))
                    .collect();
                format!("({})", tests.join(" OR "))
            }
            // The check lets no such test be made.
            Test::Type(_) | Test::Claim(..) | Test::InClaim(_) => "false".to_owned(),
        };
        match field.value {
            // Because jsonb has none of these.
            ValueType::Json => {
                format!("CASE WHEN {} THEN {} ELSE {test} END", beyond_text(&column), self.unset(&test))
            }
            _ => test,
        }
    }

    /// The result of a test of an unset document.
    fn unset(&self, test: &str) -> &'static str {
        if test.starts_with("coalesce(") { "false" } else { "NULL::pg_catalog.bool" }
    }

    fn json_value(
        &mut self,
        of_type: &impl Fn(&str) -> String,
        said: &str,
        (comparison, operand): (Comparison, &Operand),
    ) -> String {
        let sign = sign(comparison);
        match operand {
            Operand::Bool(_) => {
                let value = self.value(operand, "bool");
                format!("CASE WHEN {} THEN {said}::pg_catalog.bool {sign} {value} END", of_type("boolean"))
            }
            Operand::Decimal(_) => {
                let value = self.value(operand, "numeric");
                format!(
                    "CASE WHEN {} AND pg_catalog.length({said}) <= 15000 AND {said} ~ '{JSON_NUMBER}'
                     THEN {said}::pg_catalog.numeric {sign} {value} END",
                    of_type("number")
                )
            }
            _ => {
                let value = self.value(operand, "text");
                format!(
                    "CASE WHEN {} THEN {said} COLLATE pg_catalog.\"C\" {sign} {value} END",
                    of_type("string")
                )
            }
        }
    }
}

fn present(column: &str) -> String {
    // A composite is NOT NULL only if all of its fields are.
    format!("({column} IS DISTINCT FROM NULL)")
}

/// The text of a value as JSON writes it.
fn in_json(column: &str) -> String {
    let json = format!("pg_catalog.to_json({column})");
    format!(
        "(CASE WHEN {} THEN NULL ELSE {json} OPERATOR(pg_catalog.#>>) '{{}}' END) COLLATE pg_catalog.\"C\"",
        beyond_text(&json)
    )
}

fn beyond_text(json: &str) -> String {
    format!("pg_catalog.regexp_replace({json}::pg_catalog.text, {PAIR}, ' ', 'gi') ~* {BEYOND_TEXT}")
}

/// An operator.
pub(super) fn sign(comparison: Comparison) -> &'static str {
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
