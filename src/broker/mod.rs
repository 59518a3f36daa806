//! The `EventBroker`: publishes sealed events into per-kind logs and hands out subscriptions to them. The
//! publisher never waits, and judges nothing.
//!
//! Locks, in this order: a topic's registry, a subscriber's position, the log's window, a filter's verdicts.
//! None is held across an await.

mod chunk;
mod clock;
mod conflation;
mod filters;
mod history;
mod interest;
mod position;
mod projection;
mod sleepers;
mod status;
mod subscriber;
mod subscription;
mod topic;
mod view;

pub use clock::Clock;
pub use history::{Compacted, Fetch, History, Page};
pub use interest::{Interest, Policy, SchemaInterest};
pub use projection::{Composer, Projections};
pub use status::{SubscriptionState, SubscriptionStatus};
pub use subscription::{Step, Subscription};
pub use topic::{Limits, Refused, Topic};

use crate::{
    catalog::{Catalog, Kinds},
    log::Batch,
    model::{Epoch, KindName, Removal, Revision},
    telemetry::Metrics,
};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::watch;

/// Why the hub ends a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The hub shuts down; another hub, or the same one later, goes on.
    ShuttingDown {
        /// When to try again.
        retry_after: Duration,
    },
    /// The revisions of this stream belong to a history that has ended.
    EpochChanged {
        /// The current history.
        epoch: Epoch,
    },
    /// The kind is not watched any more.
    Removed {
        /// The kind.
        kind: KindName,
        /// Why.
        why: Removal,
    },
    /// The stream was too slow, and asked to be ended then.
    SlowConsumer,
    /// Rows became others without events of their own, and the stream did not ask to be told of that.
    StateChanged {
        /// The kind.
        kind: KindName,
        /// Where.
        revision: Revision,
        /// How.
        why: String,
    },
    /// Rows are called by other ids than before.
    KeyChanged {
        /// The kind.
        kind: KindName,
        /// Since when.
        revision: Revision,
    },
    /// A column that the stream names is not there any more.
    ColumnGone {
        /// The kind.
        kind: KindName,
        /// The column.
        column: String,
    },
    /// A column that the stream's filter tests has another type, which the filter does not fit.
    ColumnChanged {
        /// The kind.
        kind: KindName,
        /// The column.
        column: String,
    },
    /// The stream's filter could not be evaluated: a fault of the hub.
    FilterFailed,
    /// What the stream would read next is no longer retained.
    Compacted {
        /// Its revision.
        asked: Revision,
        /// The oldest revision that a watch can start after.
        oldest: Revision,
    },
}

/// One history and its logs.
pub struct Era {
    /// Names the history.
    pub epoch: Epoch,
    history: Arc<dyn History>,
    newest: watch::Sender<Revision>,
    topics: RwLock<Topics>,
}

struct Topics {
    /// The kinds that are published: the version of the list that this era follows.
    kinds: Kinds,
    by_kind: HashMap<KindName, Arc<Topic>>,
}

impl Era {
    /// The topic of a kind.
    pub fn topic(&self, kind: &str) -> Option<Arc<Topic>> {
        self.topics.read().by_kind.get(kind).cloned()
    }

    /// The kinds that are published.
    pub fn kinds(&self) -> Kinds {
        self.topics.read().kinds.clone()
    }

    /// The newest revision that has been published; some kinds may not be there yet.
    pub fn newest(&self) -> Revision {
        *self.newest.borrow()
    }

    /// Waits until something after a revision is published.
    pub async fn passes(&self, revision: Revision) {
        // The sender lives as long as this borrow.
        let _ = self.newest.subscribe().wait_for(|newest| *newest > revision).await;
    }

    /// All topics.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().by_kind.values().cloned().collect()
    }
}

/// Fans sealed events out to subscriptions.
pub struct EventBroker {
    catalog: Catalog,
    limits: Limits,
    metrics: Arc<Metrics>,
    clock: Clock,
    state: RwLock<State>,
    /// Told of each history that begins.
    begun: watch::Sender<()>,
    projections: Projections,
    /// Why every stream ends, once the hub drains. Set under the lock of the state.
    draining: watch::Sender<Option<Ending>>,
}

#[derive(Default)]
struct State {
    /// `None` until the database has been seen for the first time.
    era: Option<Arc<Era>>,
    /// Topics of ended histories, until all of their streams have noticed.
    past: Vec<Weak<Topic>>,
}

impl EventBroker {
    /// A broker for these kinds, which serves nothing until [`EventBroker::begin`].
    pub fn new(catalog: Catalog, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            catalog,
            limits,
            metrics,
            clock: Clock::start(),
            state: RwLock::default(),
            begun: watch::Sender::new(()),
            projections: Projections::default(),
            draining: watch::Sender::new(None),
        }
    }

    /// The clock that `sealed_at` is on.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The projections of watches.
    pub fn projections(&self) -> &Projections {
        &self.projections
    }

    /// The bounds on subscriptions.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The history being served.
    pub fn era(&self) -> Option<Arc<Era>> {
        self.state.read().era.clone()
    }

    /// The history being served, as soon as there is one.
    pub async fn first_era(&self) -> Arc<Era> {
        // Subscribed before the check, so that a history that begins in between is not missed.
        let mut begun = self.begun.subscribe();
        loop {
            if let Some(era) = self.era() {
                return era;
            }
            // The sender lives as long as this borrow.
            let _ = begun.changed().await;
        }
    }

    /// Starts to serve a history from its head. What was served before ends: with [`Ending::EpochChanged`],
    /// or with [`Ending::Compacted`] if it is the same history and the hub was cut off from it for too long.
    pub fn begin(&self, epoch: Epoch, head: Revision, history: &Arc<dyn History>) -> Arc<Era> {
        let mut state = self.state.write();
        let kinds = self.catalog.kinds();
        let by_kind =
            kinds.names().filter_map(|name| self.topic(&epoch, &kinds, name, head, history)).collect();
        let era = Arc::new(Era {
            epoch: epoch.clone(),
            history: history.clone(),
            newest: watch::Sender::new(head),
            topics: RwLock::new(Topics { kinds, by_kind }),
        });
        let ended = state.era.replace(era.clone());
        state.past.retain(|topic| topic.strong_count() > 0);
        state.past.extend(ended.iter().flat_map(|era| era.topics()).map(|topic| Arc::downgrade(&topic)));
        let draining = self.draining();
        drop(state);
        for topic in ended.iter().flat_map(|ended| ended.topics()) {
            topic.end(if ended.as_ref().is_some_and(|ended| ended.epoch == epoch) {
                // The hub was away for longer than history is kept.
                Ending::Compacted { asked: topic.head(), oldest: history.oldest() }
            } else {
                Ending::EpochChanged { epoch: epoch.clone() }
            });
        }
        if let Some(ending) = draining {
            era.topics().iter().for_each(|topic| topic.end(ending.clone()));
        }
        self.begun.send_replace(());
        era
    }

    /// The topic of a kind, at `head`.
    fn topic(
        &self,
        epoch: &Epoch,
        kinds: &Kinds,
        name: &KindName,
        head: Revision,
        history: &Arc<dyn History>,
    ) -> Option<(KindName, Arc<Topic>)> {
        let (kind, id) = (kinds.get(name.as_str())?, kinds.id(name.as_str())?.clone());
        let metrics = self.metrics.kind(name.as_str());
        let id = (epoch.clone(), id);
        let topic = Topic::new(id, (kind.since, head), history.clone(), self.limits, metrics, self.clock);
        Some((name.clone(), Arc::new(topic)))
    }

    /// Whether the catalog has changed since an era's topics were made to agree with it.
    pub fn is_behind(&self, era: &Era) -> bool {
        era.topics.read().kinds.version() != self.catalog.kinds().version()
    }

    /// Makes the topics of an era agree with the catalog: topics of added kinds begin at `head`, up to which
    /// their publisher has published, and the streams of removed kinds end. The others notice nothing.
    /// Returns the removed kinds. Nothing may be published meanwhile.
    pub fn follow(&self, era: &Era, head: Revision) -> Vec<KindName> {
        let kinds = self.catalog.kinds();
        let mut state = self.state.write();
        let mut topics = era.topics.write();
        topics.kinds = kinds.clone();
        let gone: Vec<_> = topics.by_kind.extract_if(|_, topic| !kinds.has(topic.id())).collect();
        for name in kinds.names() {
            if !topics.by_kind.contains_key(name) {
                topics.by_kind.extend(self.topic(&era.epoch, &kinds, name, head, &era.history));
            }
        }
        state.past.retain(|topic| topic.strong_count() > 0);
        state.past.extend(gone.iter().map(|(_, topic)| Arc::downgrade(topic)));
        let draining = self.draining();
        drop(topics);
        drop(state);
        for (name, topic) in &gone {
            // A kind that is missing was removed, and the catalog knows why.
            let why = kinds.removal(name.as_str()).unwrap_or(Removal::Detached);
            topic.end(Ending::Removed { kind: name.clone(), why });
            if kinds.get(name.as_str()).is_none() {
                self.metrics.forget(name.as_str());
            }
        }
        if let Some(ending) = draining {
            era.topics().iter().for_each(|topic| topic.end(ending.clone()));
        }
        gone.into_iter().map(|(name, _)| name).collect()
    }

    /// Publishes sealed events by kind and notes for each of these kinds that everything up to `head` has
    /// been published. The other kinds stay where they are.
    pub fn publish(
        &self,
        era: &Era,
        kinds: &[KindName],
        mut batches: HashMap<KindName, Batch>,
        head: Revision,
    ) {
        for topic in kinds.iter().filter_map(|kind| era.topic(kind.as_str())) {
            topic.publish(batches.remove(topic.kind()), head);
        }
        era.newest.send_if_modified(|newest| head > std::mem::replace(newest, head.max(*newest)));
    }

    /// Why no stream goes on, once the hub drains.
    pub fn draining(&self) -> Option<Ending> {
        self.draining.borrow().clone()
    }

    /// Awaits what a stream needs before it begins, unless a drain comes first.
    pub async fn unless_draining<T>(&self, opening: impl Future<Output = T>) -> Result<T, Ending> {
        let mut draining = self.draining.subscribe();
        let drained = async {
            match draining.wait_for(Option::is_some).await.ok().and_then(|ending| ending.clone()) {
                Some(ending) => ending,
                // The sender lives as long as this borrow.
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            opened = opening => Ok(opened),
            ending = drained => Err(ending),
        }
    }

    /// Every subscription as it is now, those of ended histories included, in no order. Locks are held only
    /// to copy a registry, or to read one position.
    pub fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        let state = self.state.read();
        let present = state.era.iter().flat_map(|era| era.topics());
        let topics: Vec<_> = present.chain(state.past.iter().filter_map(Weak::upgrade)).collect();
        drop(state);
        topics.iter().flat_map(|topic| status::of(topic)).collect()
    }

    /// Ends every stream, and every later one, for this reason.
    pub fn drain(&self, ending: Ending) {
        let state = self.state.write();
        self.draining.send_replace(Some(ending.clone()));
        let era = state.era.clone();
        drop(state);
        if let Some(era) = era {
            era.topics().iter().for_each(|topic| topic.end(ending.clone()));
        }
    }

    /// Tells subscribers that are blocked beyond their buffer that they lose events, and refreshes the
    /// gauges. To be called a few times a second: what a blocked stream loses is counted while it is blocked,
    /// not when it wakes.
    pub fn sweep(&self) {
        if let Some(era) = self.era() {
            let now = self.clock.now();
            era.topics().iter().for_each(|topic| topic.sweep(now));
        }
    }
}

#[cfg(test)]
mod tests;
