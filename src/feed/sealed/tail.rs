//! Follows the sealed log: at every bell while the load is light, at short intervals and without bells under
//! load.

use super::{
    doorbell::{Doorbell, DoorbellState},
    drain::Drain,
    heard::Heard,
    pace::{Load, Pace},
};
use crate::{
    feed::{Settings, Tail, Wakeups},
    model::Revision,
    store::{HubConnection, LogPosition, PageBound, SealError, Sealed, SealedRow},
    telemetry::Metrics,
};
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long to wait for writers that are checking whether the hub is busy, which takes them microseconds.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// A hub that cannot hear bells, and a polling one while something happens, looks this often.
const POLL: Duration = Duration::from_millis(10);
/// A polling hub is at rest after this many looks that found nothing.
const POLLS_TO_REST: u32 = 50;

/// How the hub waits.
enum Mode {
    /// Bells ring. `owed`: writers that saw the hub busy may not have finished.
    Armed { owed: Option<Drain> },
    /// No bells; the next round comes after this pause.
    Busy { pause: Duration },
    /// No bells ever: this many looks found nothing.
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

/// Seals, and reads what was sealed, until its connection fails.
pub(super) struct SealedTail {
    log: HubConnection,
    settings: Settings,
    metrics: Arc<Metrics>,
    doorbell: Arc<Doorbell>,
    hears: watch::Receiver<Heard>,
    /// What had been heard when the last round began.
    seen: Heard,
    /// `None`: nothing has been waited for yet.
    mode: Option<Mode>,
    pace: Pace,
    /// When the last round began to seal, and how many transactions it found.
    round: (Instant, u64),
}

impl SealedTail {
    pub(super) fn new(
        log: HubConnection,
        settings: Settings,
        metrics: Arc<Metrics>,
        doorbell: Arc<Doorbell>,
        mut hears: watch::Receiver<Heard>,
    ) -> Self {
        let (seen, now) = (*hears.borrow_and_update(), Instant::now());
        let pace = Pace::new(settings.busy_above, now);
        Self { log, settings, metrics, doorbell, hears, seen, mode: None, pace, round: (now, 0) }
    }

    async fn first_mode(&self) -> Result<Mode, SealError> {
        Ok(if self.settings.wakeups == Wakeups::Listen && !self.log.forbids_bells {
            // A hub that died busy, this one or another, owes its writers a look.
            Mode::Armed { owed: Some(Drain::begin(&self.log).await?) }
        } else {
            Mode::Polling { empty: 0 }
        })
    }

    /// The seal that follows may not see what is heard from here on: it is a reason to look again.
    async fn begin_round(&mut self) -> Result<(), SealError> {
        let heard_before = self.seen;
        self.seen = *self.hears.borrow_and_update();
        let mode = match &mut self.mode {
            Some(mode) => mode,
            None => {
                let first = self.first_mode().await?;
                self.mode.insert(first)
            }
        };
        if let Mode::Armed { owed } = mode
            && self.seen.is_back_since(&heard_before)
        {
            // Writers that looked while nobody listened rang no bell, and may still commit.
            *owed = Some(Drain::begin(&self.log).await?);
        }
        if let Mode::Armed { owed: Some(drain) } = mode {
            drain.look(&self.log).await?;
        }
        Ok(())
    }

    fn count(&self, sealed: &Sealed) {
        self.metrics.seals.inc();
        self.metrics.sealed_events.inc_by(sealed.events);
    }

    async fn next_mode(&self, mode: Mode, load: Load, transactions: u64) -> Result<Mode, SealError> {
        let log = &self.log;
        Ok(match (mode, load) {
            (Mode::Polling { empty }, _) => {
                Mode::Polling { empty: if transactions > 0 { 0 } else { empty.saturating_add(1) } }
            }
            (Mode::Armed { .. }, Load::Heavy) => {
                if log.take_busy(BUSY_WAIT).await? {
                    Mode::Busy { pause: Duration::ZERO }
                } else {
                    // The attempt alone may have made writers skip their bell.
                    Mode::Armed { owed: Some(Drain::begin(log).await?) }
                }
            }
            // They had finished before this round began, so the round has found what they left.
            (Mode::Armed { owed: Some(drain) }, Load::Light) if drain.is_over() => Mode::Armed { owed: None },
            (armed @ Mode::Armed { .. }, Load::Light) => armed,
            (Mode::Busy { .. }, Load::Heavy) => {
                self.metrics.doorbell_skips.inc_by(transactions);
                Mode::Busy { pause: Pace::interval(self.round.0.elapsed()) }
            }
            (Mode::Busy { .. }, Load::Light) => {
                self.metrics.doorbell_skips.inc_by(transactions);
                log.release_busy().await?;
                Mode::Armed { owed: Some(Drain::begin(log).await?) }
            }
        })
    }
}

#[async_trait]
impl Tail for SealedTail {
    fn log(&self) -> &HubConnection {
        &self.log
    }

    async fn head(&mut self) -> Result<Sealed, SealError> {
        let sealed = self.log.seal().await?;
        self.count(&sealed);
        Ok(sealed)
    }

    async fn wait(&mut self, position: Revision) {
        let hears_nothing = self.settings.wakeups == Wakeups::Listen && !self.hears.borrow().connected;
        let (pause, hears) = match &mut self.mode {
            None => return,
            Some(Mode::Busy { pause }) => (*pause, false),
            Some(Mode::Polling { empty }) if *empty < POLLS_TO_REST => (POLL, false),
            Some(Mode::Polling { .. }) => (self.settings.poll, false),
            Some(Mode::Armed { .. }) if hears_nothing => (POLL, true),
            Some(Mode::Armed { owed: Some(drain) }) => (drain.pause(), true),
            Some(Mode::Armed { owed: None }) => (self.settings.backup_poll, true),
        };
        if !hears {
            return tokio::time::sleep(pause).await;
        }
        let seen = self.seen;
        let news = |now: &Heard| now.is_news(&seen, position);
        // The channel closes only when the hub is gone.
        let _ = tokio::time::timeout(pause, self.hears.wait_for(news)).await;
    }

    async fn next(&mut self, position: &mut LogPosition) -> Result<(Sealed, Vec<SealedRow>), SealError> {
        self.begin_round().await?;
        let started = Instant::now();
        let (sealed, rows) = self.log.seal_and_read(position, PageBound::HUB).await?;
        self.round = (started, sealed.transactions);
        self.count(&sealed);
        Ok((sealed, rows))
    }

    async fn done(&mut self) -> Result<(), SealError> {
        let Some(mode) = self.mode.take() else { return Ok(()) };
        let transactions = self.round.1;
        let load = self.pace.observe(Instant::now(), transactions);
        let mode = self.next_mode(mode, load, transactions).await?;
        self.doorbell.set(mode.doorbell(self.seen.connected));
        self.mode = Some(mode);
        Ok(())
    }
}

impl Drop for SealedTail {
    fn drop(&mut self) {
        self.doorbell.set(DoorbellState::Away);
    }
}
