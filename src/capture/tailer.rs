//! Seals, reads and publishes: while load is light at every bell, under load at short intervals and without bells.

use super::{
    Heard, HistorySlot, Parts, Settings, Wakeups,
    backoff::Backoff,
    doorbell::DoorbellState,
    drain::Drain,
    history::HistoryReader,
    pace::{Load, Pace},
};
use crate::{
    broker::{Era, History},
    model::Revision,
    store::{HubConnection, ReadPosition, SealError, Sealed, SealedRow, begin_epoch},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Events per read: a large transaction is published in such pages, and others run in between.
const PAGE: u32 = 500;
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
    /// What had been heard when the last round began.
    seen: Heard,
    history: HistorySlot,
    /// The history being published, and how far.
    published: Option<(Arc<Era>, ReadPosition)>,
}

impl Tailer {
    pub(super) fn new(
        parts: Parts,
        settings: Settings,
        hears: watch::Receiver<Heard>,
        history: HistorySlot,
    ) -> Self {
        Self { parts, settings, hears, seen: Heard::default(), history, published: None }
    }

    /// Until told to stop. Whatever fails, the connection is made anew and what was missed is read: streams notice a pause and no loss.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let health = self.parts.health.clone();
        let mut backoff = Backoff::new();
        let tail_for_ever = async {
            loop {
                let error = self.tail(&mut backoff).await;
                self.parts.doorbell.set(DoorbellState::Away);
                health.database_lost(&error);
                tokio::time::sleep(backoff.next()).await;
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
        let mut pace = Pace::new(Instant::now());
        let mut mode = if listens && !connection.forbids_bells {
            // A hub that died busy, this one or another, owes what its writers were told.
            Mode::Armed { owed: Some(Drain::begin(&connection).await?) }
        } else {
            Mode::Polling { empty: 0 }
        };
        loop {
            let heard_before = self.seen.connected;
            self.wait(&mut mode).await;
            if let Mode::Armed { owed } = &mut mode
                && self.seen.connected
                && !heard_before
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
        self.settle_epoch(connection).await?;
        let sealed = connection.seal().await?;
        let (oldest, _) = connection.bounds().await?;
        let goes_on = |(era, position): &(Arc<Era>, ReadPosition)| {
            era.epoch == sealed.epoch && position.revision >= oldest
        };
        if !self.published.as_ref().is_some_and(goes_on) {
            let position = connection.position_at(sealed.revision).await?;
            self.begin_era(&sealed, oldest, position);
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
                begin_epoch(&self.parts.target, false).await?;
            }
            other => other?,
        }
        if let Some((_, position)) = &self.published
            && !connection.remembers(position).await?
        {
            tracing::warn!(revision = %position.revision, "the database does not know what was published: beginning a new epoch");
            begin_epoch(&self.parts.target, true).await?;
        }
        Ok(())
    }

    fn begin_era(&mut self, sealed: &Sealed, oldest: Revision, position: ReadPosition) {
        let Parts { target, registry, metrics, broker, .. } = &self.parts;
        let session = self.settings.wakeups == Wakeups::Listen;
        let history =
            Arc::new(HistoryReader::new(target.clone(), session, registry.clone(), metrics.clone()));
        history.set_oldest(oldest);
        *self.history.lock() = Some(history.clone());
        tracing::info!(epoch = %sealed.epoch, revision = %sealed.revision, "serving");
        let era = broker.begin(sealed.epoch.clone(), sealed.revision, &(history as Arc<dyn History>));
        metrics.head_revision.set(sealed.revision.to_sql());
        self.published = Some((era, position));
    }

    /// Waits for a reason to look. What is heard from here on, the round that follows may not see: it is a reason to look again.
    async fn wait(&mut self, mode: &mut Mode) {
        let hears_nothing = self.settings.wakeups == Wakeups::Listen && !self.hears.borrow().connected;
        let (pause, hears) = match mode {
            Mode::Busy { pause } => (*pause, false),
            Mode::Polling { empty } if *empty < POLLS_TO_REST => (POLL, false),
            Mode::Polling { .. } => (self.settings.poll, false),
            Mode::Armed { .. } if hears_nothing => (POLL, true),
            Mode::Armed { owed: Some(drain) } => (drain.pause(), true),
            Mode::Armed { owed: None } => (self.settings.backup_poll, true),
        };
        if hears {
            let seen = self.seen;
            let position = self.published.as_ref().map(|(_, position)| position.revision).unwrap_or_default();
            // The echo of this hub's own seals is no news.
            let news = |now: &Heard| {
                now.bells != seen.bells || now.connected != seen.connected || now.sealed > position
            };
            // The channel closes only at the stop.
            let _ = tokio::time::timeout(pause, self.hears.wait_for(news)).await;
        } else {
            tokio::time::sleep(pause).await;
        }
        self.seen = *self.hears.borrow_and_update();
    }

    /// Seals once and publishes everything that is sealed. Returns how many transactions were found.
    async fn round(&mut self, connection: &HubConnection) -> Result<u64, SealError> {
        let Some((era, position)) = self.published.clone() else { return Ok(0) };
        // What another hub seals between this seal and its read is read too: the position may pass `sealed`.
        let mut read = position;
        let (sealed, rows) = connection.seal_and_read(&mut read, PAGE).await?;
        if sealed.epoch != era.epoch || sealed.revision < position.revision {
            // Found by another hub. Begin anew, from its head.
            return Err(SealError::History(format!("the epoch is now {}", sealed.epoch)));
        }
        self.count(&sealed);
        self.publish(era, read, &rows)?;
        self.read_up_to(&sealed, connection).await?;
        Ok(sealed.transactions)
    }

    async fn read_up_to(&mut self, sealed: &Sealed, connection: &HubConnection) -> Result<(), SealError> {
        loop {
            let Some((era, mut position)) = self.published.clone() else { return Ok(()) };
            if position.revision >= sealed.revision {
                return Ok(());
            }
            let rows = connection.read(&mut position, PAGE).await?;
            if rows.is_empty() {
                return Err(SealError::Corrupt(format!("nothing to read up to {}", sealed.revision)));
            }
            self.publish(era, position, &rows)?;
            tokio::task::yield_now().await;
        }
    }

    /// Publishes what was read up to a position, and only then stands there: whatever fails before is read again.
    fn publish(
        &mut self,
        era: Arc<Era>,
        position: ReadPosition,
        rows: &[SealedRow],
    ) -> Result<(), SealError> {
        let Some(last) = rows.last() else { return Ok(()) };
        let (sealed_at, now) = (self.parts.broker.clock().now(), SystemTime::now());
        let mut batches = self.parts.registry.batches();
        for row in rows {
            let change = row.change()?;
            if let Some(Ok(waited)) = change.captured_at.map(|captured| now.duration_since(captured)) {
                self.parts.metrics.captured_to_sealed.observe(waited.as_secs_f64());
            }
            batches.push(&change, sealed_at, &self.parts.metrics);
        }
        let head = last.change()?.revision;
        self.parts.broker.publish(&era, batches.into_map(), head);
        self.published = Some((era, position));
        self.parts.metrics.head_revision.set(head.to_sql());
        Ok(())
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
