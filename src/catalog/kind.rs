//! A watched kind, as a value.

use super::Attached;
use crate::{
    model::{KindName, Revision, Table, filter::Schema},
    store::Scope,
    wire::Renderer,
};
use prost_types::Timestamp;
use serde::{Deserialize, Deserializer};
use std::{fmt, sync::Arc};

/// A watched kind. A compiled kind and one made from a table's columns are two makers of this value.
#[derive(Clone)]
pub struct Kind {
    /// Its name, its table and the key of that.
    pub table: Table,
    /// The fields that filters and orders may name.
    pub schema: Arc<Schema>,
    /// The migrations that create its table; `None`: the table is not ours.
    pub scope: Option<Scope>,
    /// Its changes are captured after this revision; ZERO: from the beginning of the history.
    pub since: Revision,
    /// How its rows are written.
    pub renderer: Arc<dyn Renderer>,
    /// The table that it was made from; `None`: it is compiled.
    pub attached: Option<Arc<Attached>>,
}

impl Kind {
    /// Its name.
    pub fn name(&self) -> &KindName {
        &self.table.kind
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("table", &self.table).finish_non_exhaustive()
    }
}

/// For `#[serde(deserialize_with)]`: a timestamp as Postgres writes it in JSON. What no protobuf timestamp
/// can say (`infinity`, years before 1 and after 9999) is unset.
pub fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let micros = text.and_then(|text| crate::model::filter::message_time(&text));
    Ok(micros.map(|micros| Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Less than a second.
        nanos: micros.rem_euclid(1_000_000) as i32 * 1000,
    }))
}
