//! What the log says of a table that was altered: `hub.mend` writes it.

use super::{AttachedTable, KindName, Revision, TableColumn, TableName};
use serde::Deserialize;
use std::collections::HashMap;

/// How a table is altered, at a place in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaChange {
    /// Why rows may be others than their events say; `None`: they are not.
    pub state_changed: Option<String>,
    /// Whether rows are called by other ids.
    pub key_changed: bool,
    /// The table from here on; `None`: it is of a compiled kind, or gone.
    pub table: Option<AttachedTable>,
    /// What columns were called before that have another name now, by that.
    pub renamed: HashMap<String, String>,
    /// Names that stood for columns which do not have them any more.
    pub gone: Vec<String>,
    /// Columns that have another type.
    pub retyped: Vec<String>,
}

#[derive(Deserialize)]
struct Written {
    state_changed: Option<String>,
    key_changed: bool,
    table: Option<Description>,
}

#[derive(Deserialize)]
struct Description {
    id: u32,
    kind: String,
    schema: String,
    name: String,
    schema_version: u64,
    attached_revision: i64,
    columns: Vec<TableColumn>,
    key: Vec<String>,
    comment: Option<String>,
    renamed: HashMap<String, String>,
    gone: Vec<String>,
    retyped: Vec<String>,
}

impl SchemaChange {
    /// As it was written. What was blanked since, or cannot be read, may have been anything.
    pub fn parse(text: Option<&str>) -> Self {
        let Some(Written { state_changed, key_changed, table }) =
            text.and_then(|text| serde_json::from_str(text).ok())
        else {
            return Self { state_changed: Some("the table was altered".to_owned()), ..Self::default() };
        };
        let Some(table) = table else { return Self { state_changed, key_changed, ..Self::default() } };
        let Description { id, kind, schema, name, schema_version, attached_revision, .. } = table;
        let Description { columns, key, comment, renamed, gone, retyped, .. } = table;
        let table = AttachedTable {
            id,
            kind: KindName::new(&kind),
            name: TableName::new(&schema, &name),
            schema_version,
            attached_revision: Revision::from_sql(attached_revision),
            columns,
            key,
            comment,
        };
        Self { state_changed, key_changed, table: Some(table), renamed, gone, retyped }
    }

    /// Whether what is known of the rows by their events is not all that became of them.
    pub fn begins_anew(&self) -> bool {
        self.key_changed || self.state_changed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_may_have_been_anything() {
        for text in [None, Some("{"), Some("{}")] {
            assert!(SchemaChange::parse(text).begins_anew(), "{text:?}");
        }
        let read =
            SchemaChange::parse(Some(r#"{"state_changed": null, "key_changed": false, "table": null}"#));
        assert_eq!(read, SchemaChange::default());
        assert!(!read.begins_anew());
    }
}
