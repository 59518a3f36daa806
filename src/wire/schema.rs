//! The description of a table as a protobuf message, `hub.v1.Table`.

use super::envelope::{bytes, message, number};
use crate::model::{AttachedTable, TableColumn};
use std::collections::HashMap;

/// Appends a table as those see it who may see its visible columns; `renamed`: what columns were called
/// before.
pub(super) fn table(table: &AttachedTable, renamed: &HashMap<String, String>, out: &mut Vec<u8>) {
    bytes(1, table.name.to_string().as_bytes(), out);
    number(2, table.id.into(), out);
    number(3, table.schema_version, out);
    for column in table.visible() {
        message(4, out, |out| self::column(column, renamed.get(&column.name), out));
    }
    for key in &table.key {
        bytes(5, key.as_bytes(), out);
    }
    number(6, table.attached_revision.get(), out);
    bytes(8, table.comment.as_deref().unwrap_or_default().as_bytes(), out);
}

fn column(column: &TableColumn, renamed_from: Option<&String>, out: &mut Vec<u8>) {
    bytes(1, column.name.as_bytes(), out);
    bytes(2, column.type_name.as_bytes(), out);
    number(3, column.number.into(), out);
    number(4, column.nullable.into(), out);
    number(5, column.generated.into(), out);
    for label in &column.enum_labels {
        // Even an empty one.
        message(6, out, |out| out.extend_from_slice(label.as_bytes()));
    }
    bytes(7, renamed_from.map_or("", String::as_str).as_bytes(), out);
    bytes(8, column.comment.as_deref().unwrap_or_default().as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{KindName, Revision, TableName},
        proto::hub::v1 as pb,
    };
    use prost::Message;

    #[test]
    fn a_table_is_what_prost_reads() {
        let column = |name: &str, visible| TableColumn {
            name: name.into(),
            type_name: "public.mood".into(),
            sql_type: "public.mood".into(),
            base_type: String::new(),
            number: 3,
            nullable: true,
            generated: false,
            enum_labels: vec!["".into(), "sad".into()],
            is_long_number: false,
            sortable: true,
            visible,
            comment: Some("c".into()),
        };
        let described = AttachedTable {
            id: 300,
            kind: KindName::new("#300"),
            name: TableName::new("public", "Odd"),
            schema_version: 7,
            attached_revision: Revision::new(9),
            columns: vec![column("a", true), column("secret", false)],
            key: vec!["a".into()],
            comment: None,
        };
        let mut out = Vec::new();
        table(&described, &HashMap::from([("a".to_owned(), "b".to_owned())]), &mut out);
        let expected = pb::Table {
            name: "public.\"Odd\"".into(),
            id: 300,
            schema_version: 7,
            columns: vec![pb::Column {
                name: "a".into(),
                r#type: "public.mood".into(),
                number: 3,
                nullable: true,
                generated: false,
                enum_labels: vec!["".into(), "sad".into()],
                renamed_from: "b".into(),
                comment: "c".into(),
            }],
            key: vec!["a".into()],
            attached_revision: 9,
            comment: String::new(),
        };
        assert_eq!(pb::Table::decode(&*out).unwrap(), expected);
    }
}
