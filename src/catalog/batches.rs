//! Sealed changes on their way into the logs.

use super::Kinds;
use crate::{
    log::Batch,
    model::{Change, ChangeType, KindName},
    telemetry::Metrics,
    wire::{Renderer, Unreadable},
};
use prometheus::IntCounter;
use std::{collections::HashMap, sync::Arc};

/// Sealed changes, sorted by kind.
pub struct Batches {
    kinds: Kinds,
    batches: HashMap<KindName, Batch>,
}

impl Batches {
    pub(super) fn of(kinds: Kinds) -> Self {
        Self { kinds, batches: HashMap::new() }
    }

    /// Adds a change. Changes of kinds that are not in the list are left out; those that have come without
    /// the row that they leave, for it was too large or no text, are counted.
    pub fn push(&mut self, change: &Change<'_>, sealed_at: u64, metrics: &Metrics) {
        let batch = match self.batches.get_mut(change.kind) {
            Some(batch) => batch,
            None => {
                let Some((name, renderer)) = self.kinds.counting(change.kind, metrics) else { return };
                self.batches.entry(name.clone()).or_insert_with(|| Batch::new(name, renderer))
            }
        };
        if change.after.is_none() && change.change != ChangeType::Deleted {
            metrics.undecodable_rows.with_label_values(&[change.kind]).inc();
        }
        batch.push(change, sealed_at);
    }

    /// The batches.
    pub fn into_map(self) -> HashMap<KindName, Batch> {
        self.batches
    }
}

/// A kind's renderer, with a count of what it could not write.
pub(super) struct Counting {
    pub(super) renderer: Arc<dyn Renderer>,
    pub(super) unreadable: IntCounter,
}

impl Renderer for Counting {
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.renderer.message(row, out).inspect_err(|_| self.unreadable.inc())
    }

    fn json(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.renderer.json(row, out).inspect_err(|_| self.unreadable.inc())
    }

    fn schema_version(&self) -> Option<u64> {
        self.renderer.schema_version()
    }
}
