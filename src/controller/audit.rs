//! The audit trail: who changed what, when, and how it was before and after. A row of `hub.audit` for each
//! change of each kind.

use super::{Controller, HandlerError};
use crate::{
    error::Error,
    model::{AttributedChange, Gap},
    store::{Store, Turn},
};
use async_trait::async_trait;
use std::time::Duration;

/// Records that one statement deletes, at most.
const STEP: u32 = 2000;

/// The controller that keeps the trail. It begins with the oldest change that is still retained.
pub struct AuditTrail {
    keep: Duration,
}

impl AuditTrail {
    /// Its name in `hub.controller`.
    pub const NAME: &str = "audit";
    /// How long records are kept by default.
    pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

    /// Keeps records for this long.
    pub fn new(keep: Duration) -> Self {
        Self { keep }
    }
}

#[async_trait]
impl Controller for AuditTrail {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn kind(&self) -> Option<&str> {
        None
    }

    fn at_a_time(&self) -> u32 {
        500
    }

    async fn on_upsert(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError> {
        Ok(turn.record(std::slice::from_ref(change)).await?)
    }

    async fn on_delete(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError> {
        Ok(turn.record(std::slice::from_ref(change)).await?)
    }

    async fn on_changes(&self, changes: &[AttributedChange], turn: &Turn<'_>) -> Result<bool, HandlerError> {
        turn.record(changes).await?;
        Ok(true)
    }

    /// What is missing cannot be recovered; the gap itself is recorded in the trail.
    async fn on_gap(&self, gap: &Gap, turn: &Turn<'_>) -> Result<(), HandlerError> {
        Ok(turn.record_gap(gap).await?)
    }

    async fn tidy(&self, store: &Store) -> Result<(), Error> {
        // Each statement is its own transaction: nobody is kept waiting for long.
        while store.audit_trim(self.keep, STEP).await? > 0 {}
        Ok(())
    }
}
