//! Kinds made from the descriptions of attached tables.

use super::Kind;
use crate::{
    model::{
        AttachedTable, Table, TableColumn,
        filter::{Field, Schema, ValueType},
    },
    store::RowTable,
    wire::rows::{JsonRows, Projection},
};
use std::sync::Arc;

/// What an attached table's kind was made from.
#[derive(Debug)]
pub struct Attached {
    /// Its description.
    pub table: AttachedTable,
    /// The table as its readers and writers need it.
    pub rows: RowTable,
}

impl Attached {
    /// The projection for a request of these columns, or of all if there are none, perhaps with long numbers
    /// as strings. The key is always among them.
    pub fn projection(&self, columns: &[String], quote_numbers: bool) -> Projection {
        let wanted = columns.iter().chain(&self.table.key).map(String::as_str);
        let long = self.table.visible().filter(|column| quote_numbers && column.is_long_number);
        Projection::new((!columns.is_empty()).then_some(wanted), long.map(|column| &*column.name))
    }
}

impl Kind {
    /// Made of a description.
    pub fn attached(table: AttachedTable) -> Self {
        let name = table.name.to_string();
        let kind = table.kind.shown_as(&name);
        let schema = Schema::new(table.visible().map(field).collect());
        let place = |name: &String| schema.fields.iter().position(|field| field.column == *name);
        let key = table.key.iter().filter_map(place).collect();
        let is_whole = table.columns.iter().all(|column| column.visible);
        let shown = (!is_whole).then(|| table.visible().map(|column| &*column.name));
        Self {
            table: Table { kind: kind.clone(), name: name.as_str().into(), key: table.key.join(", ").into() },
            renderer: Arc::new(JsonRows::new(table.schema_version, shown)),
            scope: None,
            since: table.attached_revision,
            attached: Some(Arc::new(Attached {
                rows: RowTable { kind, name: name.into(), schema: schema.clone(), key },
                table,
            })),
            schema,
        }
    }
}

fn field(column: &TableColumn) -> Field {
    let value = column.value();
    let is_other = value == ValueType::Other;
    let field = Field::new(&column.name, value, &column.sql_type);
    // For types that filters do not know, the database says whether they have an order.
    if is_other { field.sortable(column.sortable) } else { field }
}
