//! Follows what is attached: whoever attaches or detaches a table, here or elsewhere, every hub's catalog has
//! it soon. What is wished for by name or pattern is attached when it is seen.

use crate::{
    backoff::Backoff,
    catalog::Kind,
    error::{Error, chain},
    feed::Pipeline,
    model::{Removal, TableName, Wishes},
    store::{AttachChoice, Candidate},
};
use std::{collections::HashSet, time::Duration};
use tokio_util::sync::CancellationToken;

/// A stream of a table that went is told what came before for this long at most.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// Attaches what is wished for, and keeps the catalog as the database has it.
pub(crate) struct Follower {
    pipeline: Pipeline,
    wishes: Wishes,
    /// Why tables that a pattern fits are not attached, as it was told.
    told: HashSet<(TableName, String)>,
}

impl Follower {
    pub(crate) fn new(pipeline: Pipeline, wishes: Wishes) -> Self {
        Self { pipeline, wishes, told: HashSet::new() }
    }

    /// The first look, before anybody is served. What is wished for by name must be there and fit.
    ///
    /// # Errors
    ///
    /// A table that is wished for by name cannot be attached.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        let candidates = self.pipeline.store.candidates().await?;
        for name in self.wishes.0.iter().filter_map(|wish| wish.name()) {
            let known = candidates.iter().find(|candidate| candidate.name == name);
            if known.is_none_or(|known| !known.is_attached && !known.was_detached) {
                self.pipeline.store.attach(&name, &AttachChoice::default()).await?;
            }
        }
        self.look().await
    }

    pub(crate) async fn run(mut self, every: Duration, stop: CancellationToken) {
        let follow_for_ever = async {
            let mut backoff = Backoff::default();
            loop {
                let pause = match self.look().await {
                    Ok(()) => {
                        backoff.reset();
                        every
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "following the attached tables");
                        backoff.next_pause().min(every)
                    }
                };
                // Rung, or the time has passed.
                let _ = tokio::time::timeout(pause, self.pipeline.tables.notified()).await;
            }
        };
        stop.run_until_cancelled(follow_for_ever).await;
    }

    async fn look(&mut self) -> Result<(), Error> {
        if !self.wishes.0.is_empty() {
            for candidate in self.pipeline.store.candidates().await? {
                self.consider(candidate).await?;
            }
        }
        self.follow().await
    }

    /// Attaches a table that somebody wishes for, if it can be; else it is told once.
    async fn consider(&mut self, candidate: Candidate) -> Result<(), Error> {
        let Candidate { name, is_attached, was_detached, fault } = candidate;
        if is_attached || !self.wishes.0.iter().any(|wish| wish.fits(&name)) {
            return Ok(());
        }
        let why = match fault {
            Some(fault) => fault,
            None if was_detached => format!("it was detached; trex attach '{name}' attaches it again"),
            None => match self.pipeline.store.attach(&name, &AttachChoice::default()).await {
                Ok(()) => {
                    tracing::info!(table = %name, "attached");
                    return Ok(());
                }
                Err(Error::CannotAttach { why }) => why,
                Err(error) => return Err(error),
            },
        };
        if self.told.insert((name.clone(), why.clone())) {
            tracing::warn!(table = %name, why, "not attached");
        }
        Ok(())
    }

    async fn follow(&self) -> Result<(), Error> {
        let (store, kinds) = (&self.pipeline.store, self.pipeline.catalog.kinds());
        let compiled = kinds.iter().filter(|kind| kind.attached.is_none()).map(|kind| kind.table.clone());
        store.look_after_tables(&compiled.collect::<Vec<_>>()).await?;
        let tables = store.attached_tables().await?;
        for kind in kinds.iter() {
            if let Some(attached) = &kind.attached
                && tables.iter().all(|table| table.id != attached.table.id)
            {
                self.remove(kind, attached.table.id).await?;
            }
        }
        for table in tables {
            let known = kinds.get(table.kind.as_str()).and_then(|kind| kind.attached.clone());
            if known.is_none_or(|known| known.table != table) {
                tracing::info!(table = %table.name, version = table.schema_version, "watching");
                self.pipeline.catalog.put(Kind::attached(table));
            }
        }
        Ok(())
    }

    /// Takes a table away, after its streams were told what came before.
    async fn remove(&self, kind: &Kind, id: u32) -> Result<(), Error> {
        let detached = self.pipeline.store.was_detached(id).await?;
        let last = self.pipeline.store.seal_now().await?;
        let topic = self.pipeline.broker.era().and_then(|era| era.topic(kind.name().as_str()));
        if let Some(topic) = topic
            && tokio::time::timeout(LAST_EVENTS, topic.reached(last)).await.is_err()
        {
            tracing::warn!(table = %kind.name(), "its streams end before its last events");
        }
        let why = if detached { Removal::Detached } else { Removal::Dropped };
        self.pipeline.catalog.remove(kind.name().as_str(), why);
        tracing::info!(table = %kind.name(), ?why, "no longer watched");
        Ok(())
    }
}
