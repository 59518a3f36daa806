//! Sealed changes on their way into the logs.

use super::Kinds;
use crate::{
    log::Batch,
    model::{Change, KindName},
    telemetry::Metrics,
    wire::envelope,
};
use std::collections::HashMap;

/// Sealed changes, encoded and sorted by kind.
pub struct Batches {
    kinds: Kinds,
    batches: HashMap<KindName, Batch>,
}

impl Batches {
    pub(super) fn of(kinds: Kinds) -> Self {
        Self { kinds, batches: HashMap::new() }
    }

    /// Encodes a change, once, for everybody. Changes of kinds that are not in the list are left out.
    pub fn push(&mut self, change: &Change<'_>, sealed_at: u64, metrics: &Metrics) {
        let Some(kind) = self.kinds.get(change.kind) else { return };
        let batch = match self.batches.get_mut(change.kind) {
            Some(batch) => batch,
            None => self.batches.entry(kind.name().clone()).or_default(),
        };
        batch.push((change.revision, change.change, change.resource_id), sealed_at, |event, previous| {
            if let Err(error) = envelope::write(change, &*kind.renderer, event, previous) {
                metrics.undecodable_rows.with_label_values(&[kind.name().as_str()]).inc();
                tracing::error!(kind = kind.name().as_str(), revision = %change.revision, %error, "a row does not fit its kind");
            }
        });
    }

    /// The batches.
    pub fn into_map(self) -> HashMap<KindName, Batch> {
        self.batches
    }
}
