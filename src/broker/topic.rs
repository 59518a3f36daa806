//! One kind's log and its subscribers.

use super::{
    Clock, Ending,
    position::Position,
    sleepers::Sleepers,
    subscription::{Interest, Subscriber, Subscription},
};
use crate::{
    log::{Batch, Log, Outside},
    model::{Revision, Start},
    telemetry::KindMetrics,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Bounds on a kind's log and its subscribers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The log's window, in bytes.
    pub window_bytes: usize,
    /// How many events a blocked stream may fall behind, if its request does not say.
    pub default_buffer: u64,
    /// The most that a request may ask for.
    pub max_buffer: u64,
    /// A stream whose connection took no byte for so long is blocked.
    pub blocked_after: Duration,
    /// Streams at a time, per kind.
    pub max_subscribers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_bytes: 64 << 20,
            default_buffer: 8192,
            max_buffer: 1 << 20,
            blocked_after: Duration::from_secs(2),
            max_subscribers: 100_000,
        }
    }
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The start is not in the window.
    Outside(Outside),
    /// As many streams as the hub may hold.
    TooMany,
}

/// One kind's log and its subscribers.
pub struct Topic {
    pub(super) log: Log,
    pub(super) sleepers: Sleepers,
    pub(super) metrics: KindMetrics,
    pub(super) clock: Clock,
    limits: Limits,
    /// Held while a subscription takes its place and while the window is trimmed, so that no position is ever left behind the window.
    registry: Mutex<HashMap<u64, Arc<Subscriber>>>,
    next_id: AtomicU64,
    ending: OnceLock<Ending>,
}

impl Topic {
    pub(super) fn new(head: Revision, limits: Limits, metrics: KindMetrics, clock: Clock) -> Self {
        Self {
            log: Log::new(head),
            sleepers: Sleepers::default(),
            metrics,
            clock,
            limits,
            registry: Mutex::default(),
            next_id: AtomicU64::new(0),
            ending: OnceLock::new(),
        }
    }

    /// The newest revision up to which everything of this kind has been published.
    pub fn head(&self) -> Revision {
        self.log.head()
    }

    /// How many there are.
    pub fn subscribers(&self) -> usize {
        self.registry.lock().len()
    }

    /// How many of them wait for an event.
    pub fn sleepers(&self) -> usize {
        self.sleepers.len()
    }

    /// Takes a place in the log: what is appended from now on, or what comes after a revision in the window.
    pub fn subscribe(self: &Arc<Self>, start: Start, interest: Interest) -> Result<Subscription, Refused> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let mut registry = self.registry.lock();
        if registry.len() >= self.limits.max_subscribers {
            return Err(Refused::TooMany);
        }
        let (revision, ordinal) = match start {
            Start::Now => self.log.end(),
            Start::After(revision) => (revision, self.log.first_after(revision).map_err(Refused::Outside)?),
        };
        let subscriber = Arc::new(Subscriber::new(id, interest, Position::new(ordinal, revision, now), now));
        registry.insert(id, subscriber.clone());
        drop(registry);
        self.metrics.subscribed();
        Ok(Subscription::new(self.clone(), subscriber))
    }

    pub(super) fn unsubscribe(&self, subscriber: &Subscriber) {
        self.registry.lock().remove(&subscriber.id);
        self.sleepers.remove(subscriber.id);
        self.metrics.unsubscribed(Duration::from_micros(self.clock.now().saturating_sub(subscriber.since)));
    }

    /// Appends events and wakes those that wait for them.
    pub(super) fn publish(&self, batch: Batch, head: Revision) {
        let any = !batch.is_empty();
        self.log.append(batch, head);
        if any {
            self.make_room();
            self.sleepers.wake_all();
            self.metrics.window(self.log.size());
        }
    }

    pub(super) fn end(&self, ending: Ending) {
        // The first reason stands.
        let _ = self.ending.set(ending);
        self.sleepers.wake_all();
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Keeps the window within its bound. Subscribers that stand in what goes lose it, and know exactly how much: they are moved before
    /// the log is trimmed.
    fn make_room(&self) {
        let Some(floor) = self.log.excess(self.limits.window_bytes) else { return };
        let registry = self.registry.lock();
        for subscriber in registry.values() {
            let mut position = subscriber.position.lock();
            if position.ordinal < floor {
                self.metrics.dropped_by_window(position.fall_behind(&self.log, floor, &subscriber.interest));
            }
        }
        self.log.trim(floor);
    }

    /// Moves the subscribers that are blocked and further behind than their buffer, and reports the slowest.
    pub(super) fn sweep(&self, now: u64) {
        let next = self.log.next();
        let blocked_after = u64::try_from(self.limits.blocked_after.as_micros()).unwrap_or(u64::MAX);
        let mut slowest = 0;
        let registry = self.registry.lock();
        for subscriber in registry.values() {
            let mut position = subscriber.position.lock();
            let lag = next.saturating_sub(position.ordinal);
            slowest = slowest.max(lag);
            if lag > subscriber.interest.buffer && now.saturating_sub(position.polled_at) > blocked_after {
                self.metrics.dropped_by_buffer(position.fall_behind(&self.log, 0, &subscriber.interest));
            }
        }
        drop(registry);
        self.metrics.lag(slowest);
    }
}
