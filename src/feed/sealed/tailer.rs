//! Seals, reads and publishes: while load is light at every bell, under load at short intervals and without bells.

use super::{
    aside::{self, Asides, Ended},
    doorbell::DoorbellState,
    drain::Drain,
    heard::Heard,
    pace::{Load, Pace},
};
use crate::{
    backoff::Backoff,
    broker::{Era, History},
    catalog::Kinds,
    feed::{HistorySlot, Parts, Settings, Wakeups, history::HistoryReader},
    model::Revision,
    store::{Doubt, HubConnection, LogPosition, PageBound, SealError, Sealed, SealedRow, Span, begin_epoch},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long to wait for writers that are looking whether the hub is busy. They look for microseconds.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// A hub that cannot hear bells, and a polling one while something happens, looks so often.
const POLL: Duration = Duration::from_millis(10);
/// A polling hub is at rest after so many looks that found nothing.
const POLLS_TO_REST: u32 = 50;

/// How the tailer waits.
enum Mode {
    /// Bells ring. `owed`: writers that saw the hub busy may still be under way.
    Armed { owed: Option<Drain> },
    /// No bells; the next round comes after this pause.
    Busy { pause: Duration },
    /// No bells ever: so many looks found nothing.
    Polling { empty: u32 },
}

impl Mode {
    fn doorbell(&self, hears: bool) -> DoorbellState {
        match self {
            Self::Armed { .. } if !hears => DoorbellState::Deaf,
            Self::Armed { owed: Some(_) } => DoorbellState::Settling,
            Self::Armed { owed: None } => DoorbellState::Armed,
            Self::Busy { .. } => DoorbellState::Busy,
            Self::Polling { .. } => DoorbellState::Polling,
        }
    }
}

pub(super) struct Tailer {
    parts: Parts,
    settings: Settings,
    hears: watch::Receiver<Heard>,
    /// That the catalog has changed.
    changes: watch::Receiver<Kinds>,
    /// What had been heard when the last round began.
    seen: Heard,
    history: HistorySlot,
    /// The history being published, and how far: all kinds but those that are read aside.
    published: Option<(Arc<Era>, LogPosition)>,
    asides: Asides,
}

impl Tailer {
    pub(super) fn new(
        parts: Parts,
        settings: Settings,
        hears: watch::Receiver<Heard>,
        history: HistorySlot,
    ) -> Self {
        let asides = Asides::new(parts.clone());
        let changes = parts.catalog.changes();
        Self { parts, settings, hears, changes, seen: Heard::default(), history, published: None, asides }
    }

    /// Until told to stop. Whatever fails, the connection is made anew and what was missed is read: streams notice a pause and no loss.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let health = self.parts.health.clone();
        let mut backoff = Backoff::default();
        let tail_for_ever = async {
            loop {
                let error = self.tail(&mut backoff).await;
                self.parts.doorbell.set(DoorbellState::Away);
                health.database_lost(&error);
                tokio::time::sleep(backoff.next_pause()).await;
            }
        };
        stop.run_until_cancelled(tail_for_ever).await;
    }

    async fn tail(&mut self, backoff: &mut Backoff) -> SealError {
        match self.try_tail(backoff).await {
            Err(error) => error,
            Ok(never) => never,
        }
    }

    async fn try_tail(&mut self, backoff: &mut Backoff) -> Result<SealError, SealError> {
        let listens = self.settings.wakeups == Wakeups::Listen;
        let connection = HubConnection::open(&self.parts.target, listens).await?;
        self.begin(&connection).await?;
        backoff.reset();
        self.parts.health.database_seen();
        let mut pace = Pace::new(self.settings.busy_above, Instant::now());
        let mut mode = if listens && !connection.forbids_bells {
            // A hub that died busy, this one or another, owes what its writers were told.
            Mode::Armed { owed: Some(Drain::begin(&connection).await?) }
        } else {
            Mode::Polling { empty: 0 }
        };
        loop {
            let heard_before = self.seen;
            if let Some(ended) = self.wait(&mut mode).await
                && let Some((era, position)) = &self.published
            {
                self.asides.go_on(ended, era, position.revision).await?;
            }
            if let Mode::Armed { owed } = &mut mode
                && self.seen.is_back_since(&heard_before)
            {
                // Writers that looked while nobody listened rang no bell, and may commit yet.
                *owed = Some(Drain::begin(&connection).await?);
            }
            if let Mode::Armed { owed: Some(drain) } = &mut mode {
                drain.look(&connection).await?;
            }
            let started = Instant::now();
            let transactions = self.round(&connection).await?;
            let load = pace.observe(Instant::now(), transactions);
            mode = self.next_mode(mode, load, transactions, started.elapsed(), &connection).await?;
            self.parts.doorbell.set(mode.doorbell(self.seen.connected));
        }
    }

    /// Finds the head and begins, or goes on with, its history.
    async fn begin(&mut self, connection: &HubConnection) -> Result<(), SealError> {
        self.asides.halt().await;
        self.settle_epoch(connection).await?;
        let sealed = connection.seal().await?;
        let (oldest, _) = connection.bounds().await?;
        let aside = self.asides.oldest();
        let goes_on = |(era, position): &&(Arc<Era>, LogPosition)| {
            era.epoch == sealed.epoch && aside.unwrap_or(position.revision) >= oldest
        };
        match self.published.as_ref().filter(goes_on) {
            Some((era, position)) => self.asides.resume(era, position.revision),
            None => {
                let position = connection.position_at(sealed.revision).await?;
                self.begin_era(&sealed, oldest, position);
            }
        }
        self.count(&sealed);
        // What was sealed while this hub did not look.
        self.read_up_to(&sealed, connection).await
    }

    /// Makes sure that revisions mean what they meant, or begins a new epoch.
    async fn settle_epoch(&self, connection: &HubConnection) -> Result<(), SealError> {
        match connection.check_history().await {
            Err(SealError::History(fault)) => {
                tracing::warn!(fault, "beginning a new epoch");
                begin_epoch(&self.parts.target, Doubt::Found).await?;
            }
            other => other?,
        }
        if let Some((era, position)) = &self.published
            && !connection.has_replaced(&era.epoch).await?
            && !connection.remembers(position).await?
        {
            tracing::warn!(revision = %position.revision, "the database does not know what was published: beginning a new epoch");
            begin_epoch(&self.parts.target, Doubt::Forgotten(&era.epoch)).await?;
        }
        Ok(())
    }

    fn begin_era(&mut self, sealed: &Sealed, oldest: Revision, position: LogPosition) {
        let Parts { replay, catalog, metrics, broker, .. } = &self.parts;
        let epoch = sealed.epoch.clone();
        let history = Arc::new(HistoryReader::new(epoch, replay.clone(), catalog.clone(), metrics.clone()));
        history.set_oldest(oldest);
        *self.history.lock() = Some(history.clone());
        tracing::info!(epoch = %sealed.epoch, revision = %sealed.revision, "serving");
        let era = broker.begin(sealed.epoch.clone(), sealed.revision, &(history as Arc<dyn History>));
        metrics.head_revision.set(sealed.revision.to_sql());
        self.published = Some((era, position));
        self.asides.clear();
    }

    /// Waits for a reason to look: news, or the end of a leg aside. What is heard from here on, the round that follows may not see: it is a
    /// reason to look again.
    async fn wait(&mut self, mode: &mut Mode) -> Option<Ended> {
        let hears_nothing = self.settings.wakeups == Wakeups::Listen && !self.hears.borrow().connected;
        let (pause, hears) = match mode {
            Mode::Busy { pause } => (*pause, false),
            Mode::Polling { empty } if *empty < POLLS_TO_REST => (POLL, false),
            Mode::Polling { .. } => (self.settings.poll, false),
            Mode::Armed { .. } if hears_nothing => (POLL, true),
            Mode::Armed { owed: Some(drain) } => (drain.pause(), true),
            Mode::Armed { owed: None } => (self.settings.backup_poll, true),
        };
        let seen = self.seen;
        let position = self.published.as_ref().map(|(_, position)| position.revision).unwrap_or_default();
        let news = |now: &Heard| now.is_news(&seen, position);
        let hearing = async {
            if hears {
                // The channel closes only at the stop, or is closed from the beginning where nobody listens.
                let _ = tokio::time::timeout(pause, self.hears.wait_for(news)).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = self.asides.ended() => Some(ended),
            // The sender is in the parts.
            _ = self.changes.changed() => None,
            () = hearing => None,
        };
        self.seen = *self.hears.borrow_and_update();
        ended
    }

    /// Makes the topics agree with the catalog, at the position up to which everything is published. The kinds that went are not to be
    /// published any more by anybody, for one of the same name may have come: so the readers aside stand still meanwhile.
    async fn follow_catalog(&mut self) {
        let Some((era, position)) = self.published.clone() else { return };
        if !self.parts.broker.is_behind(&era) {
            return;
        }
        self.asides.halt().await;
        let gone = self.parts.broker.follow(&era, position.revision);
        self.asides.forget(&gone);
        self.asides.resume(&era, position.revision);
        tracing::info!(version = era.kinds().version(), revision = %position.revision, ?gone, "following the catalog");
    }

    /// Seals once and publishes everything that is sealed. Returns how many transactions were found.
    async fn round(&mut self, connection: &HubConnection) -> Result<u64, SealError> {
        self.follow_catalog().await;
        let Some((era, position)) = self.published.clone() else { return Ok(0) };
        // What another hub seals between this seal and its read is read too: the position may pass `sealed`.
        let mut read = position;
        let (sealed, rows) = connection.seal_and_read(&mut read, PageBound::HUB).await?;
        if sealed.epoch != era.epoch || sealed.revision < position.revision {
            // Found by another hub. Begin anew, from its head.
            return Err(SealError::History(format!("the epoch is now {}", sealed.epoch)));
        }
        self.count(&sealed);
        self.publish(&era, position, &rows, connection).await?;
        self.read_up_to(&sealed, connection).await?;
        Ok(sealed.transactions)
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

    /// Publishes what was read after a position, and only then stands behind it: whatever fails before is read again. At a large
    /// transaction it stops, and begins the next page there; then that is put aside, if some kind need not wait for it.
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
        self.parts.publish(era, &self.asides.others(era), rows)?;
        self.stand_at(era, position);
        Ok(())
    }

    /// Passes a large transaction, which a reader of their own publishes to the kinds that it touches. `false`: it touches all the kinds
    /// that are not read aside already, so nobody would gain.
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
        self.parts.broker.publish(era, &free, HashMap::new(), transaction.end);
        self.stand_at(era, touched.end);
        Ok(true)
    }

    fn stand_at(&mut self, era: &Arc<Era>, position: LogPosition) {
        self.parts.metrics.head_revision.set(position.revision.to_sql());
        self.published = Some((era.clone(), position));
    }

    fn count(&self, sealed: &Sealed) {
        self.parts.metrics.seals.inc();
        self.parts.metrics.sealed_events.inc_by(sealed.events);
    }

    async fn next_mode(
        &self,
        mode: Mode,
        load: Load,
        transactions: u64,
        round: Duration,
        connection: &HubConnection,
    ) -> Result<Mode, SealError> {
        Ok(match (mode, load) {
            (Mode::Polling { empty }, _) => {
                Mode::Polling { empty: if transactions > 0 { 0 } else { empty.saturating_add(1) } }
            }
            (Mode::Armed { .. }, Load::Heavy) => {
                if connection.take_busy(BUSY_WAIT).await? {
                    Mode::Busy { pause: Duration::ZERO }
                } else {
                    // The attempt alone may have made writers skip their bell.
                    Mode::Armed { owed: Some(Drain::begin(connection).await?) }
                }
            }
            // It was over before this round began, so the round has found what the last of them left.
            (Mode::Armed { owed: Some(drain) }, Load::Light) if drain.is_over() => Mode::Armed { owed: None },
            (armed @ Mode::Armed { .. }, Load::Light) => armed,
            (Mode::Busy { .. }, Load::Heavy) => {
                self.parts.metrics.doorbell_skips.inc_by(transactions);
                Mode::Busy { pause: Pace::interval(round) }
            }
            (Mode::Busy { .. }, Load::Light) => {
                self.parts.metrics.doorbell_skips.inc_by(transactions);
                connection.release_busy().await?;
                Mode::Armed { owed: Some(Drain::begin(connection).await?) }
            }
        })
    }
}
