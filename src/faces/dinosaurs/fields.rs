//! What filters and orders may say of dinosaurs, and where the messages and the table have it.

use crate::model::filter::{Field, Schema, ValueType};

/// The numbers are those of `DinosaurWatchEvent` and `Dinosaur`.
pub(super) static SCHEMA: Schema = Schema {
    row: 2,
    previous: 7,
    occurred_at: 5,
    fields: &[
        Field { names: &["id", "metadata.id"], value: ValueType::Text, path: &[1, 1], column: "id" },
        Field { names: &["species"], value: ValueType::Text, path: &[2], column: "species" },
        Field {
            names: &["created_at", "metadata.created_at"],
            value: ValueType::Time,
            path: &[1, 2],
            column: "created_at",
        },
        Field {
            names: &["updated_at", "metadata.updated_at"],
            value: ValueType::Time,
            path: &[1, 3],
            column: "updated_at",
        },
    ],
};
