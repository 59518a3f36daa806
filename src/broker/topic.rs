//! One kind's log and its subscribers.

use super::{
    Clock, Ending,
    filters::Filters,
    history::History,
    interest::Interest,
    position::{At, Fall, Position, Wait},
    sleepers::Sleepers,
    subscriber::Subscriber,
    view::View,
};
use crate::{
    log::{Batch, Log, Outside, Part, Parts, Size},
    model::{Epoch, KindId, KindName, Revision, Start},
    telemetry::{KindMetrics, Reason},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Bytes of events outside the window that are kept until their loss is counted.
const UNCOUNTED: usize = 64 << 20;
/// How long a sweep counts, in microseconds, before it is the turn of other kinds.
const COUNTING: u64 = 100_000;

/// Bounds on a kind's log and its subscribers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The log's window, in bytes.
    pub window_bytes: usize,
    /// How many events a blocked stream may fall behind, if its request does not say.
    pub default_buffer: u64,
    /// The most that a request may ask for.
    pub max_buffer: u64,
    /// A stream whose connection has taken no byte for this long is blocked.
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
            blocked_after: Duration::from_secs(5),
            max_subscribers: 100_000,
        }
    }
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The start is ahead of what this hub has published; another may have sealed it.
    Ahead {
        /// The newest revision published here.
        head: Revision,
    },
    /// The start is no longer retained.
    Compacted {
        /// The oldest revision that a watch can start after.
        oldest: Revision,
    },
    /// There are too many streams.
    TooMany,
    /// There are too many distinct filters.
    TooManyFilters,
}

/// One kind's log and its subscribers.
pub struct Topic {
    pub(super) kind: KindId,
    /// The history that it is of.
    pub(super) epoch: Epoch,
    /// Nothing of this kind is known up to here: no stream can start before it.
    since: Revision,
    pub(super) log: Log,
    pub(super) history: Arc<dyn History>,
    pub(super) sleepers: Sleepers,
    pub(super) metrics: KindMetrics,
    pub(super) clock: Clock,
    filters: Filters,
    limits: Limits,
    /// How many subscribers need each part of the encoded events.
    needed: [AtomicUsize; Part::COUNT],
    /// The head, for those who wait for it.
    reached: watch::Sender<Revision>,
    /// Held while a subscription takes its place and while the window is trimmed, so that no position is ever
    /// before the window.
    registry: Mutex<HashMap<u64, Arc<Subscriber>>>,
    next_id: AtomicU64,
    ending: OnceLock<Ending>,
}

impl Topic {
    pub(super) fn new(
        (epoch, kind): (Epoch, KindId),
        (since, head): (Revision, Revision),
        history: Arc<dyn History>,
        limits: Limits,
        metrics: KindMetrics,
        clock: Clock,
    ) -> Self {
        Self {
            kind,
            epoch,
            since: since.min(head),
            log: Log::new(head),
            history,
            sleepers: Sleepers::default(),
            metrics,
            clock,
            filters: Filters::default(),
            limits,
            needed: Default::default(),
            reached: watch::Sender::new(head),
            registry: Mutex::default(),
            next_id: AtomicU64::new(0),
            ending: OnceLock::new(),
        }
    }

    /// The kind.
    pub fn kind(&self) -> &KindName {
        &self.kind.name
    }

    /// The kind, distinct from others that had its name.
    pub(super) fn id(&self) -> &KindId {
        &self.kind
    }

    /// The newest revision up to which everything of this kind has been published.
    pub fn head(&self) -> Revision {
        self.log.head()
    }

    /// Waits until everything of this kind up to a revision has been published.
    pub async fn reached(&self, revision: Revision) {
        // The sender lives as long as this borrow.
        let _ = self.reached.subscribe().wait_for(|head| *head >= revision).await;
    }

    /// How many subscriptions there are.
    pub fn subscribers(&self) -> usize {
        self.registry.lock().len()
    }

    /// All of them: the registry is held for no longer than it takes to copy it.
    pub(super) fn registered(&self) -> Vec<Arc<Subscriber>> {
        self.registry.lock().values().cloned().collect()
    }

    /// The bounds on them.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the window holds.
    pub fn window(&self) -> Size {
        self.log.size()
    }

    /// A watch can start after this revision, and after any later one.
    pub fn oldest(&self) -> Revision {
        self.log.floor().min(self.history.oldest().max(self.since))
    }

    /// How many of them wait for an event.
    pub fn sleepers(&self) -> usize {
        self.sleepers.len()
    }

    /// Gives a subscriber its place in the log. It must be unsubscribed.
    pub(super) fn register(&self, start: Start, interest: Interest) -> Result<Arc<Subscriber>, Refused> {
        let (filter, sight) = (interest.filter.as_ref(), &interest.sight);
        let column = (filter.is_some() || !sight.is_whole())
            .then(|| self.filters.column(filter, sight, &self.metrics).ok_or(Refused::TooManyFilters));
        let view = View::new(interest, column.transpose()?);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let mut registry = self.registry.lock();
        if registry.len() >= self.limits.max_subscribers {
            return Err(Refused::TooMany);
        }
        let (revision, at) = match start {
            Start::Now => {
                let (head, ordinal) = self.log.end();
                (head, At::Window(ordinal))
            }
            Start::After(revision) => (revision, self.at(revision)?),
            // Not live: a stream that is still sending its initial state takes no events, and must not lose
            // any because of that.
            Start::AfterStateAt(revision) => (revision, At::History),
        };
        let mut position = Position::new(at, revision, now);
        if matches!(start, Start::AfterStateAt(_)) {
            position.wait = Wait::ForState;
        }
        let subscriber = Arc::new(Subscriber::new(id, view, position, now));
        registry.insert(id, subscriber.clone());
        drop(registry);
        for needed in self.needed_by(&subscriber) {
            needed.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics.subscribed();
        Ok(subscriber)
    }

    /// Where a stream begins that has seen everything up to a revision.
    fn at(&self, revision: Revision) -> Result<At, Refused> {
        match self.log.first_after(revision) {
            Ok(ordinal) => Ok(At::Window(ordinal)),
            Err(Outside::Ahead { head }) => Err(Refused::Ahead { head }),
            Err(Outside::TooOld { .. }) => match self.history.oldest().max(self.since) {
                oldest if revision < oldest => Err(Refused::Compacted { oldest }),
                _ => Ok(At::History),
            },
        }
    }

    /// Hands a subscriber over from history to the window, if the window reaches its position. Under the
    /// registry's lock, so that the window does not move on in between.
    pub(super) fn go_live(&self, subscriber: &Subscriber) -> bool {
        let _registry = self.registry.lock();
        let mut position = subscriber.position.lock();
        match self.log.first_after(position.revision) {
            Ok(ordinal) => {
                position.enter_window(ordinal);
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn unsubscribe(&self, subscriber: &Subscriber) {
        self.registry.lock().remove(&subscriber.id);
        self.sleepers.remove(subscriber.id);
        for needed in self.needed_by(subscriber) {
            needed.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.unsubscribed(Duration::from_micros(self.clock.now().saturating_sub(subscriber.since)));
    }

    fn needed_by(&self, subscriber: &Subscriber) -> impl Iterator<Item = &AtomicUsize> {
        let parts = subscriber.view.interest.parts();
        Part::all().filter(move |&part| parts.contains(part)).filter_map(|part| self.needed.get(part.index()))
    }

    /// The parts that some subscriber needs.
    fn needed(&self) -> Parts {
        let count = |part: &Part| self.needed.get(part.index()).map(|needed| needed.load(Ordering::Relaxed));
        Part::all().filter(|part| count(part).is_some_and(|needed| needed > 0)).collect()
    }

    /// Appends events, if there are any, and wakes the subscriptions that wait for them.
    pub(super) fn publish(&self, batch: Option<Batch>, head: Revision) {
        match batch.filter(|batch| !batch.is_empty()) {
            Some(batch) => {
                self.log.append(batch.of(self.epoch.clone()), head, self.needed());
                self.make_room();
                self.sleepers.wake_all();
                let size = self.log.size();
                self.metrics.window(size.events, size.bytes);
            }
            None => self.log.advance(head),
        }
        self.reached.send_replace(head);
    }

    pub(super) fn end(&self, ending: Ending) {
        // The first reason counts.
        let _ = self.ending.set(ending);
        self.sleepers.wake_all();
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Keeps the window within its bound. Subscribers whose position is in the trimmed part lose it: they are
    /// moved before the log is trimmed. What they have yet to count is kept, and counted by the sweep: the
    /// publisher judges nothing.
    fn make_room(&self) {
        let Some(floor) = self.log.excess(self.limits.window_bytes) else { return };
        let registry = self.registry.lock();
        let mut first_needed = floor;
        for subscriber in registry.values() {
            let mut position = subscriber.position.lock();
            let is_passed = position.ordinal().is_some_and(|ordinal| ordinal < floor);
            let fall =
                is_passed.then(|| position.fall_behind(&self.log, floor, &subscriber.view, Reason::Window));
            if let Some(passed) = position.uncounted() {
                first_needed = first_needed.min(passed.ordinals.start);
            }
            drop(position);
            if let Some(fall) = fall {
                self.fallen(subscriber, fall);
            }
        }
        if self.log.trim(floor, first_needed) > UNCOUNTED {
            // Judging their filters takes longer than publishing.
            for subscriber in registry.values() {
                let mut position = subscriber.position.lock();
                if position.uncounted().is_some() {
                    let fall = position.give_up();
                    drop(position);
                    self.fallen(subscriber, fall);
                }
            }
            self.log.trim(floor, floor);
        }
    }

    /// A stream that waits for events and has to read history or end instead must look again.
    fn fallen(&self, subscriber: &Subscriber, fall: Fall) {
        match fall {
            Fall::Dropped(events, reason) => self.metrics.dropped(events, reason),
            Fall::ToHistory => self.metrics.caught_up(),
            Fall::Lost => self.metrics.disconnected(),
            Fall::Conflates => self.metrics.fell_to_conflation(),
            Fall::Nothing | Fall::Failed | Fall::Over => {}
        }
        self.sleepers.wake(subscriber.id);
    }

    /// Moves the subscribers that are blocked and further behind than their buffer, and reports the slowest.
    pub(super) fn sweep(&self, now: u64) {
        let next = self.log.next();
        let blocked_after = u64::try_from(self.limits.blocked_after.as_micros()).unwrap_or(u64::MAX);
        let is_too_far = |subscriber: &Subscriber, position: &Position, lag| {
            position.wait == Wait::No
                && lag > subscriber.view.interest.buffer
                && now.saturating_sub(position.polled_at) > blocked_after
        };
        let (mut slowest, mut uncounted) = (0, Vec::new());
        let registry = self.registry.lock();
        for subscriber in registry.values() {
            let mut position = subscriber.position.lock();
            let Some(lag) = position.lag(next) else { continue };
            slowest = slowest.max(lag);
            if lag > 0 {
                position.notice_events(now);
            }
            let fall = is_too_far(subscriber, &position, lag)
                .then(|| position.fall_behind(&self.log, 0, &subscriber.view, Reason::Buffer));
            if let Some(passed) = position.uncounted() {
                uncounted.push((passed.ordinals.start, subscriber.clone()));
            }
            drop(position);
            if let Some(fall) = fall {
                self.fallen(subscriber, fall);
            }
        }
        uncounted.sort_unstable_by_key(|(first, _)| *first);
        self.log.trim(0, uncounted.first().map_or(u64::MAX, |(first, _)| *first));
        self.log.recount();
        drop(registry);
        self.count(uncounted.iter().map(|(_, subscriber)| &**subscriber));
        self.metrics.lag(slowest);
    }

    /// Counts what these have lost. Nothing is locked while their filters judge, so that nobody else waits.
    fn count<'a>(&self, subscribers: impl Iterator<Item = &'a Subscriber>) {
        let until = self.clock.now() + COUNTING;
        let first_of = |subscriber: &Subscriber| subscriber.position.lock().uncounted().cloned();
        for subscriber in subscribers {
            while let Some(passed) = first_of(subscriber) {
                let missed = subscriber.view.count(&self.log, passed.ordinals.clone());
                let fall = subscriber.position.lock().count(&passed, missed);
                self.fallen(subscriber, fall);
                if self.clock.now() > until || self.ending().is_some() {
                    return;
                }
            }
        }
    }
}
