//! From rows to the log: sorted by kind, then handed to the broker.

use super::Pipeline;
use crate::{
    broker::Era,
    model::KindName,
    store::{SealError, SealedRow},
};
use std::time::SystemTime;

impl Pipeline {
    /// Publishes the events of these kinds that were read, and skips those of others.
    pub(super) fn publish(&self, era: &Era, kinds: &[KindName], rows: &[SealedRow]) -> Result<(), SealError> {
        let Some(last) = rows.last() else { return Ok(()) };
        let (sealed_at, now) = (self.broker.clock().now(), SystemTime::now());
        let mut batches = era.kinds().batches();
        for row in rows {
            let change = row.change()?;
            if kinds.iter().all(|kind| *kind != *change.kind) {
                continue;
            }
            if let Some(Ok(waited)) = change.captured_at.map(|captured| now.duration_since(captured)) {
                self.metrics.captured_to_sealed.observe(waited.as_secs_f64());
            }
            batches.push(&change, sealed_at, &self.metrics);
        }
        self.broker.publish(era, kinds, batches.into_map(), last.change()?.revision);
        Ok(())
    }
}
