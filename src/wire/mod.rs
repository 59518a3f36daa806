//! How an event is spelt on the wire.

pub mod envelope;
pub mod frame;

/// Writes the rows of a kind.
pub trait Renderer: Send + Sync + 'static {
    /// Appends a row, which the database wrote as a JSON object of its columns, as a protobuf message. A row that does not fit the kind
    /// is an error; what was appended then is of no use.
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable>;
}

/// A row does not fit its kind.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unreadable(#[from] serde_json::Error);
