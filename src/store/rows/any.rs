//! Rows of any table, whatever its columns and its key. Values are passed as JSON text, and Postgres casts
//! them: its message on a value that does not fit is what the caller gets.

use super::{
    super::{
        DatabaseError, Store,
        condition::{column, condition, policy, quoted},
        search::search,
        snapshot::FORMATS,
        values::{Value, typed},
    },
    keyset::{Sorting, digest, position, token},
};
use crate::{
    call::Call,
    error::Error,
    model::{
        KindName,
        filter::{Bound, Filter, Order, Schema, Search},
    },
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, fmt::Write, sync::Arc};
use tokio_postgres::Row as Answer;

/// Rows on one page, at most.
pub const LARGEST_PAGE: usize = 1000;

/// A table, as needed to read and write its rows.
#[derive(Debug, Clone)]
pub struct RowTable {
    /// The kind that it holds, for errors.
    pub kind: KindName,
    /// Schema and name, quoted where they need it.
    pub name: Arc<str>,
    /// The columns that may be seen, in the table's order; those of the key are among them.
    pub schema: Arc<Schema>,
    /// The key's columns, in its order, as places in the schema.
    pub key: Vec<usize>,
}

/// Which of a table's rows a caller may see: the rule, and the values of its claims. `None`: all.
pub type Visible<'a> = Option<(&'a Filter, &'a Bound)>;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// Its key, as `hub.key_expression` writes it.
    pub resource_id: String,
    /// A JSON object of the columns that were asked for, as Postgres writes it.
    pub json: String,
}

/// Which rows of a table a list has.
#[derive(Debug, Default)]
pub struct ListRows<'a> {
    /// Those that match; `None`: all.
    pub filter: Option<&'a Filter>,
    /// The same in the language of upstream's REST API.
    pub search: Option<&'a Search>,
    /// Those that the caller may see.
    pub visible: Visible<'a>,
    /// By these fields, then by the key.
    pub order_by: &'a [Order],
    /// These columns, as places in the schema; empty: all.
    pub columns: &'a [usize],
    /// Rows on a page, from 1 to [`LARGEST_PAGE`].
    pub size: usize,
    /// The token of the page before; empty: the first page.
    pub page_token: &'a str,
    /// What else a token is bound to, such as a principal and a policy.
    pub bound_to: &'a [u8],
    /// Whether all that match are counted.
    pub count: bool,
}

/// A page of a list.
#[derive(Debug)]
pub struct RowPage {
    /// In order.
    pub rows: Vec<TableRow>,
    /// For the next page; `None`: this was the last.
    pub next_page_token: Option<String>,
    /// How many rows match, if it was asked for.
    pub total: Option<i64>,
}

impl RowTable {
    /// An expression for the resource id.
    fn resource_id(&self) -> String {
        let columns: Vec<_> =
            self.key.iter().filter_map(|at| self.schema.fields.get(*at)).map(column).collect();
        match columns.as_slice() {
            [only] => format!("{only}::pg_catalog.text"),
            columns => {
                let part = |column: &String| {
                    format!(
                        "pg_catalog.replace(
                           pg_catalog.replace({column}::pg_catalog.text, '%', '%25'), '/', '%2F')"
                    )
                };
                columns.iter().map(part).collect::<Vec<_>>().join(" || '/' || ")
            }
        }
    }

    /// An expression for a row's JSON.
    fn json(&self, columns: &[usize]) -> String {
        let all = 0..self.schema.fields.len();
        let mut wanted: Vec<_> = match columns {
            [] => all.collect(),
            some => some.iter().chain(&self.key).copied().collect(),
        };
        wanted.sort_unstable();
        wanted.dedup();
        let named = wanted.into_iter().filter_map(|at| self.schema.fields.get(at)).map(column);
        let named = named.collect::<Vec<_>>().join(", ");
        format!("(SELECT pg_catalog.to_json(p.*)::pg_catalog.text FROM (SELECT {named}) p)")
    }

    /// Whether a row is the one of this id: by the key's values, so that its index serves, and by its text,
    /// for 1.0 and 1.00 are equal numbers and two resources. `None`: no row has such an id.
    fn is(&self, resource_id: &str, parameters: &mut Vec<Value>) -> Option<String> {
        let parts: Vec<Cow<'_, str>> = match self.key.len() {
            1 => vec![resource_id.into()],
            _ => resource_id.split('/').map(|part| unescaped(part).map(Cow::Owned)).collect::<Option<_>>()?,
        };
        if parts.len() != self.key.len() || resource_id.contains('\0') {
            return None;
        }
        let mut conditions = Vec::new();
        for (at, part) in self.key.iter().zip(parts) {
            let field = self.schema.fields.get(*at)?;
            parameters.push(Value::text(part));
            let (column, place) = (column(field), parameters.len());
            conditions.push(format!(
                "{column} = ${place}::{} AND {column}::pg_catalog.text COLLATE pg_catalog.\"C\" = ${place}",
                field.sql_type
            ));
        }
        Some(format!("({})", conditions.join(" AND ")))
    }

    /// The names of a JSON object's members, each of which must be a visible column, and unique.
    fn named(&self, what: &'static str, json: &str) -> Result<Vec<String>, Error> {
        let invalid = |rule: String| Error::invalid(what, rule);
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(json).map_err(|error| invalid(format!("must be a JSON object: {error}")))?;
        let known = |name: &String| self.schema.fields.iter().any(|field| field.column == *name);
        match members.keys().find(|name| !known(name)) {
            Some(name) => Err(invalid(format!("there is no column {name}"))),
            None => Ok(members.into_keys().map(|name| quoted(&name)).collect()),
        }
    }

    /// A FROM item with a JSON object's values, as the columns' types have them.
    fn record(&self, json: &str, parameters: &mut Vec<Value>) -> String {
        parameters.push(Value::text(json));
        format!(
            "pg_catalog.json_populate_record(NULL::{}, ${}::pg_catalog.json) r",
            self.name,
            parameters.len()
        )
    }
}

/// A part of a composite key's text; `None`: it is not written as one.
fn unescaped(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (c, rest) = match (piece.strip_prefix("25"), piece.strip_prefix("2F")) {
            (Some(rest), _) => ('%', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return None,
        };
        whole.push(c);
        whole += rest;
    }
    Some(whole)
}

impl Store {
    /// A row of a table; with these columns, or with all if there are none.
    pub async fn get_row(
        &self,
        call: &Call,
        table: &RowTable,
        resource_id: &str,
        columns: &[usize],
        visible: Visible<'_>,
    ) -> Result<TableRow, Error> {
        let mut parameters = Vec::new();
        let is = table.is(resource_id, &mut parameters).ok_or_else(|| missing(table, resource_id))?;
        let seen = seen(visible, &mut parameters);
        let sql = format!(
            "SELECT {}, {} FROM {} t WHERE {is}{seen}",
            table.resource_id(),
            table.json(columns),
            table.name
        );
        let rows = self.formatted("get row", call, table, (&sql, &parameters)).await;
        // An id that does not fit the key's type belongs to no row.
        let rows = rows.map_err(|error| match error {
            Error::Refused { .. } => missing(table, resource_id),
            error => error,
        })?;
        one(table, resource_id, &rows)
    }

    /// A new row, of a JSON object; columns that it does not name take their defaults. One that its maker
    /// would not see is not made.
    pub async fn insert_row(
        &self,
        call: &Call,
        table: &RowTable,
        row: &str,
        visible: Visible<'_>,
    ) -> Result<TableRow, Error> {
        let (names, mut parameters) = (table.named("row", row)?, Vec::new());
        let record = table.record(row, &mut parameters);
        let values = match names.is_empty() {
            true => "DEFAULT VALUES".to_owned(),
            false => {
                let values: Vec<_> = names.iter().map(|name| format!("r.{name}")).collect();
                format!("({}) SELECT {} FROM {record}", names.join(", "), values.join(", "))
            }
        };
        if names.is_empty() {
            parameters.clear();
        }
        let (id, json) = (table.resource_id(), table.json(&[]));
        let kept = kept(visible, &mut parameters);
        let sql = format!("INSERT INTO {} AS t {values} RETURNING {id}, {json}{kept}", table.name);
        let rows = self.formatted("insert row", call, table, (&sql, &parameters)).await?;
        // A trigger may silently leave a row out.
        rows.first().map_or(Err(Error::LeftOut), read)
    }

    /// The first column whose value in a JSON object its type does not take; `None`: all are taken.
    pub async fn misfit(&self, call: &Call, table: &RowTable, row: &str) -> Result<Option<String>, Error> {
        let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(row) else { return Ok(None) };
        for (name, value) in members {
            let alone = format!("{{{}:{}}}", serde_json::Value::from(name.clone()), value.get());
            let mut parameters = Vec::new();
            let sql = format!("SELECT FROM {}", table.record(&alone, &mut parameters));
            match self.formatted("misfit", call, table, (&sql, &parameters)).await {
                Ok(_) => {}
                Err(Error::Refused { .. }) => return Ok(Some(quoted(&name))),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Sets some columns of a row to the values of a JSON object. `expected` is a JSON object of the row, or
    /// of some columns, as the caller saw it; if the row differs by now, nothing is changed.
    pub async fn update_row(
        &self,
        call: &Call,
        table: &RowTable,
        (resource_id, row): (&str, &str),
        expected: Option<&str>,
        visible: Visible<'_>,
    ) -> Result<TableRow, Error> {
        let (names, mut parameters) = (table.named("row", row)?, Vec::new());
        if names.is_empty() {
            return Err(Error::invalid("row", "must name a column to change"));
        }
        let record = table.record(row, &mut parameters);
        let values: Vec<_> = names.iter().map(|name| format!("r.{name}")).collect();
        let is = table.is(resource_id, &mut parameters).ok_or_else(|| missing(table, resource_id))?;
        let unchanged = unchanged(table, expected, &mut parameters)?;
        let (seen, kept) = (seen(visible, &mut parameters), kept(visible, &mut parameters));
        let sql = format!(
            "UPDATE {} AS t SET ({}) = (SELECT {} FROM {record}) WHERE {is}{unchanged}{seen} RETURNING {},
             {}{kept}",
            table.name,
            names.join(", "),
            values.join(", "),
            table.resource_id(),
            table.json(&[])
        );
        let rows = match self.formatted("update row", call, table, (&sql, &parameters)).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.nobodys(&table.kind, resource_id, error).await),
        };
        match rows.first() {
            Some(row) => read(row),
            None => Err(self.not_written(call, table, resource_id, expected, visible).await),
        }
    }

    /// Deletes a row, unless it differs from `expected`; see [`Store::update_row`].
    pub async fn delete_row(
        &self,
        call: &Call,
        table: &RowTable,
        resource_id: &str,
        expected: Option<&str>,
        visible: Visible<'_>,
    ) -> Result<(), Error> {
        let mut parameters = Vec::new();
        let is = table.is(resource_id, &mut parameters).ok_or_else(|| missing(table, resource_id))?;
        let unchanged = unchanged(table, expected, &mut parameters)?;
        let seen = seen(visible, &mut parameters);
        let id = table.resource_id();
        let sql = format!("DELETE FROM {} AS t WHERE {is}{unchanged}{seen} RETURNING {id}", table.name);
        let rows = match self.formatted("delete row", call, table, (&sql, &parameters)).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.nobodys(&table.kind, resource_id, error).await),
        };
        match rows.is_empty() {
            false => Ok(()),
            true => Err(self.not_written(call, table, resource_id, expected, visible).await),
        }
    }

    /// Why a statement on one row did nothing.
    async fn not_written(
        &self,
        call: &Call,
        table: &RowTable,
        resource_id: &str,
        expected: Option<&str>,
        visible: Visible<'_>,
    ) -> Error {
        match self.get_row(call, table, resource_id, &[], visible).await {
            Ok(_) if expected.is_some() => Error::RowChanged,
            Ok(_) => Error::LeftOut,
            Err(error) => error,
        }
    }

    /// A page of a table's rows.
    pub async fn list_rows(
        &self,
        call: &Call,
        table: &RowTable,
        list: &ListRows<'_>,
    ) -> Result<RowPage, Error> {
        let size = list.size.clamp(1, LARGEST_PAGE);
        let sorting = Sorting::new(&table.schema.fields, list.order_by, &table.key);
        let mut parameters = Vec::new();
        let mut chosen = vec!["true".to_owned()];
        chosen.extend(list.filter.map(|filter| condition(filter, &mut parameters)));
        chosen.extend(list.search.map(|wanted| search(wanted, &table.schema, &mut parameters)));
        chosen.extend(list.visible.map(|(rule, claims)| policy(rule, claims, &mut parameters)));
        let chosen = chosen.join(" AND ");
        let total = match list.count {
            true => format!("(SELECT pg_catalog.count(*) FROM {} t WHERE {chosen})", table.name),
            false => "NULL::pg_catalog.int8".to_owned(),
        };
        let digest = self.digest(table, list);
        let after = match list.page_token {
            "" => String::new(),
            token => {
                let position = position(token, &digest, sorting.terms.len())?;
                format!(" AND {}", sorting.after(&position, &mut parameters))
            }
        };
        // One row more than the page holds shows whether there is another page. The count's row is there even
        // if no other is.
        let sql = format!(
            "SELECT c.total, l.* FROM (SELECT {total} AS total) c LEFT JOIN LATERAL (SELECT {}, {}, {}
             FROM {} t WHERE {chosen}{after} ORDER BY {} LIMIT {}) l ON true",
            table.resource_id() + " AS id",
            table.json(list.columns) + " AS json",
            sorting.position() + " AS position",
            table.name,
            sorting.order(),
            size + 1,
        );
        let mut answers = self.formatted("list rows", call, table, (&sql, &parameters)).await;
        if let Some(sayable) = self.sayable(&answers, &parameters).await? {
            answers = self.formatted("list rows", call, table, (&sql, &sayable)).await;
        }
        page(&answers?, size, |position| token(&digest, position))
    }

    fn digest(&self, table: &RowTable, list: &ListRows<'_>) -> [u8; 16] {
        let mut shape = String::new();
        // Writing to a String cannot fail.
        let _ = write!(shape, "{:?} {:?} {:?} {:?}", table.key, list.order_by, list.columns, list.search);
        let filter = list.filter.map(|filter| format!("{:?}", filter.predicate())).unwrap_or_default();
        digest([table.kind.as_str().as_bytes(), shape.as_bytes(), filter.as_bytes(), list.bound_to])
    }

    /// Runs a statement with the settings under which the capture writes rows, in a transaction attributed to
    /// the caller. Everything is sent in one packet.
    async fn formatted(
        &self,
        name: &'static str,
        call: &Call,
        table: &RowTable,
        (sql, parameters): (&str, &[Value]),
    ) -> Result<Vec<Answer>, Error> {
        let lease = self.lease().await?;
        let started = std::time::Instant::now();
        let rows = lease.query_formatted(call, &FORMATS, sql, &typed(parameters)).await;
        let rows = rows.map_err(|error| DatabaseError::from(error).of_a_row(&table.kind))?;
        tracing::debug!(statement = name, elapsed = ?started.elapsed(), rows = rows.len(), "statement");
        Ok(rows)
    }
}

fn missing(table: &RowTable, resource_id: &str) -> Error {
    Error::NotFound { kind: table.kind.clone(), id: resource_id.to_owned() }
}

fn seen(visible: Visible<'_>, parameters: &mut Vec<Value>) -> String {
    visible.map(|(rule, claims)| format!(" AND {}", policy(rule, claims, parameters))).unwrap_or_default()
}

/// Undoes what would leave a row that its writer does not see: a trigger may have had a part in it.
fn kept(visible: Visible<'_>, parameters: &mut Vec<Value>) -> String {
    let rule = visible.map(|(rule, claims)| policy(rule, claims, parameters));
    rule.map(|rule| format!(", CASE WHEN {rule} THEN 0 ELSE hub.refuse_unseen() END")).unwrap_or_default()
}

/// Whether a row is still as it was seen. Both sides are what the columns' types make of them, as texts.
fn unchanged(table: &RowTable, expected: Option<&str>, parameters: &mut Vec<Value>) -> Result<String, Error> {
    let Some(expected) = expected else { return Ok(String::new()) };
    let names = table.named("expected", expected)?;
    if names.is_empty() {
        return Ok(String::new());
    }
    let record = table.record(expected, parameters);
    let (mine, theirs): (Vec<_>, Vec<_>) =
        names.iter().map(|name| (format!("t.{name}"), format!("r.{name}"))).unzip();
    Ok(format!(
        " AND (SELECT pg_catalog.to_json(p.*)::pg_catalog.text FROM (SELECT {}) p)
           = (SELECT pg_catalog.to_json(p.*)::pg_catalog.text FROM (SELECT {} FROM {record}) p)",
        mine.join(", "),
        theirs.join(", ")
    ))
}

fn read(answer: &Answer) -> Result<TableRow, Error> {
    Ok(TableRow { resource_id: answer.try_get(0)?, json: answer.try_get(1)? })
}

fn one(table: &RowTable, resource_id: &str, rows: &[Answer]) -> Result<TableRow, Error> {
    rows.first().map_or_else(|| Err(missing(table, resource_id)), read)
}

fn page(
    answers: &[Answer],
    size: usize,
    token: impl Fn(&[Option<String>]) -> String,
) -> Result<RowPage, Error> {
    let total = answers.first().map(|answer| answer.try_get(0)).transpose()?.flatten();
    let mut rows = Vec::new();
    for answer in answers.iter().take(size) {
        // None: there was no row, only the count's.
        if let Some(resource_id) = answer.try_get::<_, Option<String>>(1)? {
            rows.push(TableRow { resource_id, json: answer.try_get(2)? });
        }
    }
    let next_page_token = match answers.get(size.saturating_sub(1)) {
        Some(last) if answers.len() > size => Some(token(&last.try_get::<_, Vec<Option<String>>>(3)?)),
        _ => None,
    };
    Ok(RowPage { rows, next_page_token, total })
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn parts_of_a_key_are_written_in_one_way() {
        assert_eq!(unescaped("a").as_deref(), Some("a"));
        assert_eq!(unescaped("%25%2F%252F").as_deref(), Some("%/%2F"));
        assert_eq!(unescaped("").as_deref(), Some(""));
        for wrong in ["%", "%2", "%2f", "a%41"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
