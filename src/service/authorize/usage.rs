//! How much each principal does at a time.

use crate::{
    auth::{Limits, Principal},
    error::Error,
};
use dashmap::DashMap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Principals that are known, beyond which those who do nothing are forgotten.
const KNOWN: usize = 10_000;

/// Counts, by principal.
pub(super) struct Usage {
    began: Instant,
    of: DashMap<(String, String), Arc<Counts>>,
}

#[derive(Default)]
struct Counts {
    watches: AtomicU32,
    /// The second, since the beginning, and the calls in it: in one number, so that they change together.
    calls: AtomicU64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { began: Instant::now(), of: DashMap::with_shard_amount(16) }
    }
}

/// A watch that is counted for as long as this lives.
pub(in crate::service) struct OpenWatch(Arc<Counts>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Usage {
    /// Counts a call.
    pub(super) fn count_call(&self, principal: &Principal, limits: Limits) -> Result<(), Error> {
        let Some(most) = limits.calls_per_second else { return Ok(()) };
        let (counts, second) = (self.counts(principal), self.began.elapsed().as_secs() & 0xffff_ffff);
        let count = |known: u64| {
            let made = if known >> 32 == second { known & 0xffff_ffff } else { 0 };
            (made < u64::from(most)).then_some(second << 32 | (made + 1))
        };
        match counts.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Quota { what: "more calls in a second than the policy allows" }),
        }
    }

    /// Counts a watch.
    pub(super) fn open_watch(&self, principal: &Principal, limits: Limits) -> Result<OpenWatch, Error> {
        let counts = self.counts(principal);
        let before = counts.watches.fetch_add(1, Ordering::Relaxed);
        // Dropped, it is not counted.
        let open = OpenWatch(counts);
        match limits.watches {
            Some(most) if before >= most => {
                Err(Error::Quota { what: "as many watches are open as the policy allows" })
            }
            _ => Ok(open),
        }
    }

    fn counts(&self, principal: &Principal) -> Arc<Counts> {
        if self.of.len() > KNOWN {
            self.of.retain(|_, counts| Arc::strong_count(counts) > 1);
        }
        let key = (principal.issuer.clone(), principal.subject.clone());
        self.of.entry(key).or_default().clone()
    }
}
