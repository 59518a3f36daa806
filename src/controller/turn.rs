//! What is done in a turn, within its transaction: changes are applied, failures become dead letters, and
//! later changes of their resources are parked.

use super::{Controller, HandlerError, Settings};
use crate::{
    backoff::Backoff,
    model::{AttributedChange, ChangeType},
    store::{DueLetter, Turn},
    telemetry::Metrics,
};
use futures_util::FutureExt;
use std::{collections::HashSet, panic::AssertUnwindSafe, time::Duration};

/// Postgres caches this many subtransactions of a session; beyond that, they slow down every other session's
/// visibility checks.
const SUBTRANSACTIONS: usize = 64;

/// A controller at work in a turn.
pub(super) struct Work<'a> {
    pub(super) controller: &'a dyn Controller,
    pub(super) turn: &'a Turn<'a>,
    pub(super) settings: &'a Settings,
    pub(super) metrics: &'a Metrics,
}

impl Work<'_> {
    /// Applies changes, each resource's in order. `letters`: whether the controller has dead letters, behind
    /// which some changes may have to wait.
    pub(super) async fn apply(
        &self,
        mut changes: Vec<AttributedChange>,
        letters: bool,
    ) -> Result<(), HandlerError> {
        if letters {
            let held_up = self.turn.held_up(&changes).await?;
            let is_held_up = |change: &AttributedChange| {
                held_up.contains(&(change.kind.clone(), change.resource_id.clone()))
            };
            let waiting = changes.iter().filter(|change| is_held_up(change));
            if waiting.clone().next().is_some() {
                self.turn.park(waiting).await?;
                changes.retain(|change| !is_held_up(change));
            }
        }
        if changes.is_empty() || self.together(&changes).await? {
            return Ok(());
        }
        let mut held_up = HashSet::new();
        for change in &changes {
            if held_up.contains(&change.resource()) {
                self.turn.park(std::iter::once(change)).await?;
            } else if let Err(why) = self.attempt(change).await? {
                self.turn.bury(change, &why, self.pause(1)).await?;
                held_up.insert(change.resource());
            }
        }
        Ok(())
    }

    /// Applies all at once, if the controller does that or there are many; `false`: nothing has been done,
    /// and each is to be attempted on its own.
    async fn together(&self, changes: &[AttributedChange]) -> Result<bool, HandlerError> {
        self.turn.savepoint().await?;
        let all = async {
            let mut done = self.guarded(self.controller.on_changes(changes, self.turn)).await?;
            if !done && changes.len() > SUBTRANSACTIONS {
                for change in changes {
                    self.handle(change).await?;
                }
                done = true;
            }
            self.turn.release().await?;
            Ok(done)
        };
        match all.await {
            Ok(done) => {
                if done {
                    self.metrics.controller(self.controller.name()).handled(changes.len() as u64);
                }
                Ok(done)
            }
            Err(HandlerError::Change(why)) => {
                tracing::warn!(controller = self.controller.name(), why, "a turn is taken change by change");
                self.turn.undo().await?;
                Ok(false)
            }
            Err(world) => Err(world),
        }
    }

    /// Applies one change. `Ok(Err(why))`: it failed, and its effects through the turn are rolled back.
    async fn attempt(&self, change: &AttributedChange) -> Result<Result<(), String>, HandlerError> {
        self.turn.savepoint().await?;
        let metrics = self.metrics.controller(self.controller.name());
        let handled = async {
            self.handle(change).await?;
            Ok(self.turn.release().await?)
        };
        match handled.await {
            Ok(()) => {
                metrics.handled(1);
                Ok(Ok(()))
            }
            Err(HandlerError::Change(why)) => {
                self.turn.undo().await?;
                metrics.failed();
                let (name, revision) = (self.controller.name(), change.revision);
                tracing::warn!(
                    controller = name,
                    kind = change.kind,
                    resource_id = change.resource_id,
                    %revision,
                    why,
                    "a change was not handled"
                );
                Ok(Err(why))
            }
            Err(world) => Err(world),
        }
    }

    async fn handle(&self, change: &AttributedChange) -> Result<(), HandlerError> {
        match change.change {
            ChangeType::Deleted => self.guarded(self.controller.on_delete(change, self.turn)).await,
            // Of those that come here a change of the table is for the trail alone, which takes it as it is.
            ChangeType::Created | ChangeType::Updated | ChangeType::Snapshot | ChangeType::Schema => {
                self.guarded(self.controller.on_upsert(change, self.turn)).await
            }
        }
    }

    /// Tries a dead letter that this turn holds: it is handled and deleted, or postponed.
    pub(super) async fn deliver(&self, letter: &DueLetter) -> Result<(), HandlerError> {
        match self.attempt(&letter.change).await? {
            Ok(()) => self.turn.settle(letter.id).await?,
            Err(why) => {
                let failed = letter.attempts + 1;
                let pause = (failed < self.settings.attempts).then(|| self.pause(failed));
                self.turn.postpone(letter.id, &why, pause).await?;
            }
        }
        Ok(())
    }

    /// Runs a handler within its time limit; a panic counts as a failure of its change.
    async fn guarded<T>(
        &self,
        handler: impl Future<Output = Result<T, HandlerError>>,
    ) -> Result<T, HandlerError> {
        let limit = self.settings.attempt_timeout;
        match tokio::time::timeout(limit, AssertUnwindSafe(handler).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(HandlerError::Change("it panicked".to_owned())),
            Err(_) => Err(HandlerError::Change(format!("it took longer than {limit:?}"))),
        }
    }

    /// The pause after this number of failures of a change.
    fn pause(&self, failed: u32) -> Duration {
        Backoff::new(self.settings.first_pause, self.settings.longest_pause).after(failed)
    }
}
