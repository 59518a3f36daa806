//! What is known of an attached table.

use super::{KindName, Revision, TableName, filter::ValueType};
use serde::Deserialize;

/// An attached table, as its description in the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedTable {
    /// The hub's own number for it, which survives renames.
    pub id: u32,
    /// Its kind in `hub.change`.
    pub kind: KindName,
    /// What it is called now.
    pub name: TableName,
    /// Counts the changes of this description.
    pub schema_version: u64,
    /// Its history begins here.
    pub attached_revision: Revision,
    /// Its columns, in the table's order, those that nobody may see included.
    pub columns: Vec<TableColumn>,
    /// The names of the key's columns, in the order of the key.
    pub key: Vec<String>,
    /// From COMMENT ON TABLE.
    pub comment: Option<String>,
}

/// A column, as `hub.attached_columns` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Postgres shows it to people: `character varying(20)`.
    pub type_name: String,
    /// Its type as SQL writes it, with its schema.
    pub sql_type: String,
    /// The base type, as `pg_catalog` names it: `varchar`; empty if filters do not know it.
    pub base_type: String,
    /// The hub's own number for it.
    pub number: u32,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether the table computes it.
    pub generated: bool,
    /// The labels of an enum, in its order.
    pub enum_labels: Vec<String>,
    /// Whether it is int8 or numeric, or an array of them.
    pub is_long_number: bool,
    /// Whether values of its type have an order.
    pub sortable: bool,
    /// Whether it may be seen.
    pub visible: bool,
    /// From COMMENT ON COLUMN.
    pub comment: Option<String>,
}

impl TableColumn {
    /// What filters take it for.
    pub fn value(&self) -> ValueType {
        match self.enum_labels.is_empty() {
            true => ValueType::of(&self.base_type),
            false => ValueType::Enum(self.enum_labels.clone()),
        }
    }

    /// Whether a filter that takes it for this still fits. More labels of an enum do no harm.
    pub fn is_value(&self, taken_for: &ValueType) -> bool {
        match (self.value(), taken_for) {
            (ValueType::Enum(now), ValueType::Enum(then)) => then.iter().all(|label| now.contains(label)),
            (now, then) => now == *then,
        }
    }
}

impl AttachedTable {
    /// The columns that may be seen, in the table's order.
    pub fn visible(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| column.visible)
    }
}
