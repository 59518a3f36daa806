//! Reading rows that were captured as JSON.

use prost_types::Timestamp;
use serde::{Deserialize, Deserializer};

/// A row does not fit its kind.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unreadable(#[from] serde_json::Error);

/// For `#[serde(deserialize_with)]`: a timestamp as Postgres writes it in JSON. What no protobuf timestamp can say (`infinity`,
/// years before 1) is unset.
pub fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map(|at| Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }))
}
