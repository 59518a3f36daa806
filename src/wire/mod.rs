//! How an event is spelt on the wire.

pub mod envelope;
pub mod frame;
pub mod rows;

use crate::model::filter::Malformed;

/// Writes the rows of a kind.
pub trait Renderer: Send + Sync + 'static {
    /// Appends a row, which the database wrote as a JSON object of its columns, as a protobuf message. A row that does not fit the kind
    /// is an error; what was appended then is of no use.
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// Of the description that rows are written under, for events that say so; `None`: the kind is compiled, and its events do not.
    fn schema_version(&self) -> Option<u64> {
        None
    }
}

/// A row does not fit its kind.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Unreadable {
    /// It is not what the kind's own code expects.
    Row(#[from] serde_json::Error),
    /// It is no JSON object.
    Json(#[from] Malformed),
}
