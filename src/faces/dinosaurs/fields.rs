//! The fields that filters and orders of dinosaurs may name.

use crate::model::filter::{Field, Schema, ValueType};
use std::sync::{Arc, LazyLock};

pub(super) static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let fields = vec![
        Field::of_message("id", ValueType::Text, &["metadata.id"]),
        Field::of_message("species", ValueType::Text, &[]),
        Field::of_message("created_at", ValueType::Time, &["metadata.created_at"]),
        Field::of_message("updated_at", ValueType::Time, &["metadata.updated_at"]),
    ];
    Schema::new(fields)
});
