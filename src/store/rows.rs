//! Statements on a watched table, for any kind. Rows are passed as JSON objects of their columns: what the
//! capture records, and so what every kind can read.

mod any;
mod keyset;

pub use any::{LARGEST_PAGE, ListRows, RowPage, RowTable, TableRow, Visible};

use super::{
    Store,
    condition::{condition, order, policy},
    search::search,
    values::{Value, typed},
};
use crate::{
    call::Call,
    error::Error,
    model::{
        Table,
        filter::{Bound, Filter, Order, Schema, Search},
    },
};
use tokio_postgres::types::ToSql;

/// The rows of a list, and their order.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The fields that filter and order speak of.
    pub schema: &'a Schema,
    /// Those that match; `None`: all.
    pub filter: Option<&'a Filter>,
    /// The same in the language of upstream's REST API.
    pub search: Option<&'a Search>,
    /// Those that the caller may see: the rule, and its claims; `None`: all.
    pub visible: Option<(&'a Filter, &'a Bound)>,
    /// By these fields, then by the key.
    pub order_by: &'a [Order],
}

impl Choice<'_> {
    /// Whether it selects every row, in the order of the key.
    fn is_all(&self) -> bool {
        self.filter.is_none() && self.search.is_none() && self.visible.is_none() && self.order_by.is_empty()
    }
}

/// A page of rows.
#[derive(Debug)]
pub struct Page {
    /// JSON objects.
    pub rows: Vec<String>,
    /// Rows that were chosen, on all pages.
    pub total: i64,
}

/// Columns to write, with their values.
pub type Columns<'a> = [(&'a str, &'a str)];

impl Store {
    /// The row with this key.
    pub async fn get(&self, table: &Table, id: &str) -> Result<String, Error> {
        let Table { name, key, .. } = table;
        let sql = format!("SELECT pg_catalog.to_json(t.*)::text FROM {name} t WHERE {key} = $1");
        match self.run("get", &sql, &[&id]).await {
            Ok(rows) => found(table, id, &rows),
            Err(error) => Err(self.nobodys(&table.kind, id, error).await),
        }
    }

    /// A new row, for a call; columns that are not given take their defaults.
    pub async fn insert(&self, call: &Call, table: &Table, columns: &Columns<'_>) -> Result<String, Error> {
        let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let places = (1..=columns.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "INSERT INTO {} AS t ({names}) VALUES ({places}) RETURNING pg_catalog.to_json(t.*)::text",
            table.name
        );
        let values: Vec<_> = columns.iter().map(|(_, value)| value as &(dyn ToSql + Sync)).collect();
        self.write_row(call, (table, ""), "insert", &sql, &values).await
    }

    /// Changes a row, for a call.
    pub async fn update(
        &self,
        call: &Call,
        table: &Table,
        id: &str,
        columns: &Columns<'_>,
    ) -> Result<String, Error> {
        let Table { name, key, .. } = table;
        let assignments = columns
            .iter()
            .enumerate()
            .map(|(n, (column, _))| format!("{column} = ${}", n + 2))
            .collect::<Vec<_>>()
            .join(", ");
        let sql = format!(
            "UPDATE {name} t SET {assignments} WHERE {key} = $1 RETURNING pg_catalog.to_json(t.*)::text"
        );
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&id];
        values.extend(columns.iter().map(|(_, value)| value as &(dyn ToSql + Sync)));
        self.write_row(call, (table, id), "update", &sql, &values).await
    }

    /// Deletes a row, for a call.
    pub async fn delete(&self, call: &Call, table: &Table, id: &str) -> Result<(), Error> {
        let Table { name, key, .. } = table;
        let sql = format!("DELETE FROM {name} t WHERE {key} = $1 RETURNING {key}::text");
        self.write_row(call, (table, id), "delete", &sql, &[&id]).await.map(drop)
    }

    /// Runs a statement that writes the row with this key, and returns what it says of that row.
    async fn write_row(
        &self,
        call: &Call,
        (table, id): (&Table, &str),
        statement: &'static str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<String, Error> {
        match self.write(call, &table.kind, statement, sql, values).await {
            Ok(rows) => found(table, id, &rows),
            Err(error) => Err(self.nobodys(&table.kind, id, error).await),
        }
    }

    /// A page of the rows that are chosen, and their number, at one moment.
    pub async fn page(
        &self,
        table: &Table,
        choice: &Choice<'_>,
        offset: i64,
        limit: i64,
    ) -> Result<Page, Error> {
        let Table { name, key, .. } = table;
        let mut values = vec![Value::Number(limit), Value::Number(offset)];
        let filter = choice.filter.map(|filter| condition(filter, &mut values));
        let wanted = choice.search.map(|wanted| search(wanted, choice.schema, &mut values));
        let visible = choice.visible.map(|(rule, claims)| policy(rule, claims, &mut values));
        let conditions: Vec<_> = filter.into_iter().chain(wanted).chain(visible).collect();
        let chosen = match conditions.is_empty() {
            true => format!("{name} t"),
            false => format!("{name} t WHERE {}", conditions.join(" AND ")),
        };
        let order = order(choice.schema, choice.order_by, key);
        let sql = format!(
            "SELECT (SELECT count(*) FROM {chosen}),
             (SELECT coalesce(array_agg(pg_catalog.to_json(t.*)::text ORDER BY {order}), '{{}}')
             FROM (SELECT t.* FROM {chosen} ORDER BY {order} LIMIT $1 OFFSET $2) t)"
        );
        let rows = if choice.is_all() {
            self.run("page", &sql, &[&limit, &offset]).await?
        } else {
            let mut rows = self.run_once("page", &sql, &typed(&values)).await;
            if let Some(sayable) = self.sayable(&rows, &values).await? {
                rows = self.run_once("page", &sql, &typed(&sayable)).await;
            }
            rows?
        };
        let row = rows.first().ok_or_else(|| Error::Internal(anyhow::anyhow!("a page without a row")))?;
        Ok(Page { rows: row.try_get(1)?, total: row.try_get(0)? })
    }
}

fn found(table: &Table, id: &str, rows: &[tokio_postgres::Row]) -> Result<String, Error> {
    let row = rows.first().ok_or_else(|| Error::NotFound { kind: table.kind.clone(), id: id.to_owned() })?;
    Ok(row.try_get(0)?)
}
