//! What filters and orders may say of dinosaurs, and where the messages and the table have it.

use crate::model::filter::{Field, Schema, ValueType};
use std::sync::{Arc, LazyLock};

/// The numbers are those of `DinosaurWatchEvent` and `Dinosaur`.
pub(super) static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let fields = vec![
        Field::of_message("id", ValueType::Text, &["metadata.id"], &[1, 1]),
        Field::of_message("species", ValueType::Text, &[], &[2]),
        Field::of_message("created_at", ValueType::Time, &["metadata.created_at"], &[1, 2]),
        Field::of_message("updated_at", ValueType::Time, &["metadata.updated_at"], &[1, 3]),
    ];
    Arc::new(Schema { row: 2, previous: 7, occurred_at: 5, fields })
});
