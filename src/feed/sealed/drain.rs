//! What a hub owes before it may sleep: writers that saw it busy rang no bell, so it stays awake until they
//! are done.
//!
//! Such a writer captured, and so had its transaction id, before `busy` was released. An id X taken after the
//! release is greater; once every transaction up to X has finished (the snapshot's xmin is greater than X;
//! its xmax will not do, because the newest running id can equal it), one more seal sees them all.

use crate::store::{HubConnection, SealError, TransactionId};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(20);
/// When xmin has not moved for this long, a transaction that may not concern us holds it: then only those
/// that have captured something are waited for.
const XMIN_PATIENCE: Duration = Duration::from_millis(200);

pub(super) struct Drain {
    until: TransactionId,
    since: Instant,
    pause: Duration,
    /// Those that had captured but not finished when patience ended.
    sessions: Option<HashSet<(i32, String)>>,
    over: bool,
}

impl Drain {
    /// To be called after `busy` was released, or after an attempt to take it.
    pub(super) async fn begin(connection: &HubConnection) -> Result<Self, SealError> {
        let until = connection.new_transaction_id().await?;
        Ok(Self { until, since: Instant::now(), pause: SHORTEST, sessions: None, over: false })
    }

    /// How long to wait before the next look.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        pause
    }

    /// Looks whether all writers that may have seen `busy` are done.
    pub(super) async fn look(&mut self, connection: &HubConnection) -> Result<(), SealError> {
        if connection.oldest_running().await? > self.until {
            self.over = true;
        } else if self.since.elapsed() >= XMIN_PATIENCE {
            let now: HashSet<_> = connection.capturing_sessions().await?.into_iter().collect();
            let left = match self.sessions.take() {
                None => now,
                Some(sessions) => sessions.intersection(&now).cloned().collect(),
            };
            self.over = left.is_empty();
            self.sessions = Some(left);
        }
        Ok(())
    }

    /// Whether the last look found them done. What they captured may still be unsealed: seal once more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}
