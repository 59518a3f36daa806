//! What the subscriptions of a topic are doing, read from state that they keep anyway: observing them costs
//! nothing.

use super::{
    interest::Interest,
    position::{Next, Position, Wait},
    subscriber::Subscriber,
    subscription::complete_up_to,
    topic::Topic,
};
use crate::{
    call::Call,
    log,
    model::{KindName, Revision},
};
use std::{sync::Arc, time::Duration};

/// What a subscription is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// It sends its initial state. Events wait and are not lost.
    Initial,
    /// It reads the retained history.
    History,
    /// It sends what happens, from the window.
    Live,
    /// Events wait, and its connection takes no bytes.
    Blocked,
    /// It ends as soon as its connection takes bytes.
    Ending,
}

/// A subscription as it was at one moment.
pub struct SubscriptionStatus {
    subscriber: Arc<Subscriber>,
    /// Its kind.
    pub kind: KindName,
    /// What it is doing.
    pub state: SubscriptionState,
    /// Everything up to here was delivered, was not wanted, or was dropped.
    pub revision: Revision,
    /// How many events it has still to look at: of its kind if it reads the window, else of all kinds.
    pub lag_events: u64,
    /// For how long the first of them has been sealed, if that is known in memory.
    pub lag: Option<Duration>,
    /// Events delivered.
    pub sent: u64,
    /// Wanted events that it lost.
    pub dropped: u64,
    /// How long it has existed.
    pub age: Duration,
    /// How long its connection has taken no bytes, if it is blocked.
    pub blocked_for: Option<Duration>,
}

impl SubscriptionStatus {
    /// What it asked for.
    pub fn interest(&self) -> &Interest {
        &self.subscriber.view.interest
    }

    /// The call that it belongs to, if that was said.
    pub fn call(&self) -> Option<&Call> {
        self.subscriber.call.get()
    }

    /// Whether it reads the window: for others only the database knows how old the first event is that they
    /// have not seen.
    pub fn reads_window(&self) -> bool {
        self.lag.is_some() || self.lag_events == 0
    }
}

/// The subscriptions of a topic.
pub(super) fn of(topic: &Topic) -> Vec<SubscriptionStatus> {
    let subscribers = topic.registered();
    subscribers.into_iter().map(|subscriber| look(topic, subscriber)).collect()
}

fn look(topic: &Topic, subscriber: Arc<Subscriber>) -> SubscriptionStatus {
    let position = subscriber.position.lock();
    // The clock after the position, so that no span is negative.
    let now = topic.clock.now();
    let since = |then: u64| Duration::from_micros(now.saturating_sub(then));
    let (lag_events, sealed_at) = lag(topic, &position);
    let quiet = since(position.polled_at);
    let state = state(topic, &position, lag_events, quiet);
    let (revision, sent, dropped) = (complete_up_to(topic, &position), position.delivered, position.dropped);
    drop(position);
    SubscriptionStatus {
        kind: topic.kind().clone(),
        state,
        revision,
        lag_events,
        lag: sealed_at.map(since),
        sent,
        dropped,
        age: since(subscriber.since),
        blocked_for: (state == SubscriptionState::Blocked).then_some(quiet),
        subscriber,
    }
}

/// How many events wait, and when the first of them was sealed, if that is known in memory.
fn lag(topic: &Topic, position: &Position) -> (u64, Option<u64>) {
    let Some(ordinal) = position.ordinal() else {
        return (topic.head().get().saturating_sub(position.revision.get()), None);
    };
    let waiting = topic.log.next().saturating_sub(ordinal);
    match topic.log.locate(ordinal) {
        log::Place::In(segment, index) if waiting > 0 => {
            (waiting, segment.entries().get(index).map(|entry| entry.sealed_at))
        }
        _ => (waiting, None),
    }
}

fn state(topic: &Topic, position: &Position, lag_events: u64, quiet: Duration) -> SubscriptionState {
    if topic.ending().is_some() || matches!(position.next(), Next::Lost | Next::Failed | Next::Over) {
        return SubscriptionState::Ending;
    }
    let takes_nothing = lag_events > 0 && quiet > topic.limits().blocked_after;
    match (position.wait, position.ordinal()) {
        (Wait::ForState, _) => SubscriptionState::Initial,
        (Wait::No, _) if takes_nothing => SubscriptionState::Blocked,
        (_, Some(_)) => SubscriptionState::Live,
        (_, None) => SubscriptionState::History,
    }
}
