//! Rows of the tests' kind, and events of them.

use super::KIND;
use crate::{
    log::Batch,
    model::{Change, ChangeType, Revision, Writer},
    wire::{Renderer, Unreadable},
};
use prost::Message;
use std::sync::{Arc, LazyLock};

#[derive(Clone, PartialEq, prost::Message, serde::Deserialize)]
pub(super) struct Row {
    #[prost(string, tag = "1")]
    pub(super) species: String,
    #[prost(string, tag = "2")]
    weight: String,
}

/// A row with this many bytes besides its species.
pub(super) fn row(species: &str, weight: usize) -> String {
    format!(r#"{{"species":"{species}","weight":"{}"}}"#, "x".repeat(weight))
}

struct Rows;

impl Renderer for Rows {
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        serde_json::from_str::<Row>(row)?.encode(out).unwrap();
        Ok(())
    }
}

/// A batch without events yet.
pub(super) fn empty() -> Batch {
    // One for all, so that segments that are appended in turn can merge.
    static ROWS: LazyLock<Arc<Rows>> = LazyLock::new(|| Arc::new(Rows));
    Batch::new(KIND.into(), ROWS.clone())
}

/// A change without a row before.
pub(super) fn change<'a>(
    revision: u64,
    change: ChangeType,
    resource_id: &'a str,
    row: &'a str,
) -> Change<'a> {
    Change {
        revision: Revision::new(revision),
        kind: KIND,
        resource_id,
        change,
        after: Some(row),
        before: None,
        captured_at: None,
        writer: Writer::default(),
        transaction_end: Revision::new(revision),
    }
}
