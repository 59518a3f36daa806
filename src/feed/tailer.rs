//! Follows the log, reads and publishes: one reader for all kinds except those that are read aside.

use super::{
    HistorySlot, Pipeline, Tail,
    aside::{self, Asides, Ended},
    history::HistoryReader,
};
use crate::{
    backoff::Backoff,
    broker::{Era, History},
    catalog::Kinds,
    model::Revision,
    store::{Doubt, HubConnection, LogPosition, PageBound, SealError, Sealed, SealedRow, Span, begin_epoch},
};
use std::{collections::HashMap, convert::Infallible, sync::Arc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) struct Tailer {
    pipeline: Pipeline,
    /// That the catalog has changed.
    changes: watch::Receiver<Kinds>,
    history: HistorySlot,
    /// The history being published, and how far, for all kinds except those that are read aside.
    published: Option<(Arc<Era>, LogPosition)>,
    asides: Asides,
}

impl Tailer {
    pub(super) fn new(pipeline: Pipeline, history: HistorySlot) -> Self {
        let (asides, changes) = (Asides::new(pipeline.clone()), pipeline.catalog.changes());
        Self { pipeline, changes, history, published: None, asides }
    }

    /// Runs until told to stop. After any failure it reconnects and reads what was missed: streams notice a
    /// pause and no loss.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let health = self.pipeline.health.clone();
        let mut backoff = Backoff::default();
        let tail_for_ever = async {
            loop {
                let error = self.tail(&mut backoff).await;
                health.database_lost(&error);
                tokio::time::sleep(backoff.next_pause()).await;
            }
        };
        stop.run_until_cancelled(tail_for_ever).await;
    }

    async fn tail(&mut self, backoff: &mut Backoff) -> SealError {
        match self.try_tail(backoff).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    async fn try_tail(&mut self, backoff: &mut Backoff) -> Result<Infallible, SealError> {
        let mut tail = self.pipeline.feed.follow().await?;
        self.begin(&mut *tail).await?;
        backoff.reset();
        self.pipeline.health.database_seen();
        loop {
            if let Some(ended) = self.wait(&mut *tail).await
                && let Some((era, position)) = &self.published
            {
                self.asides.go_on(ended, era, position.revision).await?;
            }
            self.round(&mut *tail).await?;
            tail.done().await?;
        }
    }

    /// Finds the head and begins, or goes on with, its history.
    async fn begin(&mut self, tail: &mut dyn Tail) -> Result<(), SealError> {
        self.asides.halt().await;
        self.settle_epoch(tail.log()).await?;
        let sealed = tail.head().await?;
        let (oldest, _) = tail.log().bounds().await?;
        let aside = self.asides.oldest();
        let goes_on = |(era, position): &&(Arc<Era>, LogPosition)| {
            era.epoch == sealed.epoch && aside.unwrap_or(position.revision) >= oldest
        };
        match self.published.as_ref().filter(goes_on) {
            Some((era, position)) => self.asides.resume(era, position.revision),
            None => {
                let position = tail.log().position_at(sealed.revision).await?;
                self.begin_era(&sealed, oldest, position);
            }
        }
        // What was sealed while this hub did not look.
        self.read_up_to(&sealed, tail.log()).await
    }

    /// Makes sure that revisions mean what they meant, or begins a new epoch.
    async fn settle_epoch(&self, connection: &HubConnection) -> Result<(), SealError> {
        match connection.check_history().await {
            Err(SealError::History(fault)) => {
                tracing::warn!(fault, "beginning a new epoch");
                begin_epoch(&self.pipeline.target, Doubt::Found).await?;
            }
            other => other?,
        }
        if let Some((era, position)) = &self.published
            && !connection.has_replaced(&era.epoch).await?
            && !connection.remembers(position).await?
        {
            tracing::warn!(revision = %position.revision, "the database does not know what was published: \
                beginning a new epoch");
            begin_epoch(&self.pipeline.target, Doubt::Forgotten(&era.epoch)).await?;
        }
        Ok(())
    }

    fn begin_era(&mut self, sealed: &Sealed, oldest: Revision, position: LogPosition) {
        let Pipeline { feed, catalog, metrics, broker, .. } = &self.pipeline;
        let (epoch, replay) = (sealed.epoch.clone(), feed.replay().clone());
        let history = Arc::new(HistoryReader::new(epoch, replay, catalog.clone(), metrics.clone()));
        history.set_oldest(oldest);
        *self.history.lock() = Some(history.clone());
        tracing::info!(epoch = %sealed.epoch, revision = %sealed.revision, "serving");
        let era = broker.begin(sealed.epoch.clone(), sealed.revision, &(history as Arc<dyn History>));
        metrics.head_revision.set(sealed.revision.to_sql());
        self.published = Some((era, position));
        self.asides.clear();
    }

    /// Waits for a reason to look: news, or the end of a leg aside.
    async fn wait(&mut self, tail: &mut dyn Tail) -> Option<Ended> {
        let position = self.published.as_ref().map(|(_, position)| position.revision).unwrap_or_default();
        tokio::select! {
            biased;
            ended = self.asides.ended() => Some(ended),
            // The sender is in the catalog.
            _ = self.changes.changed() => None,
            () = tail.wait(position) => None,
        }
    }

    /// Makes the topics agree with the catalog, at the position up to which everything is published. Removed
    /// kinds must not be published any more by anybody, because another of the same name may have been added:
    /// so the readers aside are halted meanwhile.
    async fn follow_catalog(&mut self) {
        let Some((era, position)) = self.published.clone() else { return };
        if !self.pipeline.broker.is_behind(&era) {
            return;
        }
        self.asides.halt().await;
        let gone = self.pipeline.broker.follow(&era, position.revision);
        self.asides.forget(&gone);
        self.asides.resume(&era, position.revision);
        tracing::info!(version = era.kinds().version(), revision = %position.revision, ?gone, "following \
            the catalog");
    }

    /// Looks once, and publishes everything that is found.
    async fn round(&mut self, tail: &mut dyn Tail) -> Result<(), SealError> {
        self.follow_catalog().await;
        let Some((era, position)) = self.published.clone() else { return Ok(()) };
        // What another hub seals between this seal and its read is read too: the position may pass `sealed`.
        let mut read = position;
        let (sealed, rows) = tail.next(&mut read).await?;
        if sealed.epoch != era.epoch || sealed.revision < position.revision {
            // Another hub has found it. Begin again, from its head.
            return Err(SealError::EpochChanged { current: sealed.epoch });
        }
        self.publish(&era, position, &rows, tail.log()).await?;
        self.read_up_to(&sealed, tail.log()).await
    }

    async fn read_up_to(&mut self, sealed: &Sealed, connection: &HubConnection) -> Result<(), SealError> {
        loop {
            let Some((era, before)) = self.published.clone() else { return Ok(()) };
            if before.revision >= sealed.revision {
                return Ok(());
            }
            let mut position = before;
            let rows = connection.read(&mut position, PageBound::HUB).await?;
            if rows.is_empty() {
                return Err(SealError::Corrupt(format!("nothing to read up to {}", sealed.revision)));
            }
            self.publish(&era, before, &rows, connection).await?;
            tokio::task::yield_now().await;
        }
    }

    /// Publishes what was read after a position, and only then moves on: after a failure it is read again. It
    /// stops at a large transaction and begins the next page there; then that is read aside, if some kind
    /// need not wait for it.
    async fn publish(
        &mut self,
        era: &Arc<Era>,
        before: LogPosition,
        rows: &[SealedRow],
        connection: &HubConnection,
    ) -> Result<(), SealError> {
        let large = |row: &SealedRow| row.begins().filter(|transaction| aside::is_large(*transaction));
        if let Some(transaction) = rows.first().and_then(large)
            && self.put_aside(era, before, transaction, connection).await?
        {
            return Ok(());
        }
        let beginning = rows.iter().skip(1).position(|row| large(row).is_some());
        let rows = beginning.map_or(rows, |skipped| &rows[..=skipped]);
        let Some(last) = rows.last() else { return Ok(()) };
        let position = last.position()?;
        self.pipeline.publish(era, &self.asides.others(era), rows)?;
        self.stand_at(era, position);
        Ok(())
    }

    /// Passes a large transaction, which a separate reader publishes to the kinds that it touches. `false`:
    /// it touches all kinds that are not read aside already, so nobody would gain.
    async fn put_aside(
        &mut self,
        era: &Arc<Era>,
        before: LogPosition,
        transaction: Span,
        connection: &HubConnection,
    ) -> Result<bool, SealError> {
        if era.kinds().names().nth(1).is_none() {
            return Ok(false);
        }
        let touched = connection.touched(transaction).await?;
        let (held_up, free): (Vec<_>, Vec<_>) = self
            .asides
            .others(era)
            .into_iter()
            .partition(|kind| touched.kinds.iter().any(|name| *kind == **name));
        if free.is_empty() {
            return Ok(false);
        }
        if !held_up.is_empty() {
            self.asides.add(era, held_up, before, transaction.end);
        }
        self.pipeline.broker.publish(era, &free, HashMap::new(), transaction.end);
        self.stand_at(era, touched.end);
        Ok(true)
    }

    fn stand_at(&mut self, era: &Arc<Era>, position: LogPosition) {
        self.pipeline.metrics.head_revision.set(position.revision.to_sql());
        self.published = Some((era.clone(), position));
    }
}
