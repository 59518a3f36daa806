//! A subscriber's side of a topic.

use super::{Ending, position::Position, topic::Topic};
use crate::{
    log::Place,
    model::{Revision, Selector},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    sync::Arc,
    task::{Context, Poll},
};

/// A filtered stream looks at so many segments before it lets others run.
const SEGMENTS_PER_POLL: usize = 64;

/// What a subscriber wants, and how far it may fall behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// Which events.
    pub selector: Selector,
    /// Whether the row before goes with them.
    pub include_previous: bool,
    /// How many events it may fall behind while its connection takes no bytes.
    pub buffer: u64,
}

impl Interest {
    /// Whether the log's own bytes are what this subscriber gets.
    pub(super) fn is_plain(&self) -> bool {
        !self.include_previous && self.selector.is_all()
    }
}

pub(super) struct Subscriber {
    pub(super) id: u64,
    pub(super) interest: Interest,
    pub(super) position: Mutex<Position>,
    /// When it began, and after which revision.
    pub(super) since: u64,
    pub(super) after: Revision,
}

impl Subscriber {
    pub(super) fn new(id: u64, interest: Interest, position: Position, since: u64) -> Self {
        Self { id, interest, position: Mutex::new(position), since, after: position.revision }
    }
}

/// What a subscription has next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Frames of one or more events, for the wire as they are.
    Frames(Bytes),
    /// The hub ends this stream.
    End(Ending),
}

/// A place in a topic's log. Dropping it is the only way to leave.
pub struct Subscription {
    topic: Arc<Topic>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    pub(super) fn new(topic: Arc<Topic>, subscriber: Arc<Subscriber>) -> Self {
        Self { topic, subscriber }
    }

    /// The revision after which it delivers.
    pub fn revision_at_start(&self) -> Revision {
        self.subscriber.after
    }

    /// The revision up to which everything wanted was delivered or counted as dropped.
    pub fn revision(&self) -> Revision {
        let position = self.subscriber.position.lock();
        let (head, next) = self.topic.log.end();
        if position.ordinal >= next { head.max(position.revision) } else { position.revision }
    }

    /// How many wanted events this subscription has lost.
    pub fn dropped(&self) -> u64 {
        self.subscriber.position.lock().dropped
    }

    /// The next frames. To be called only when the connection takes bytes: that is how a blocked one is told.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let Self { topic, subscriber } = self;
        let now = topic.clock.now();
        let mut position = subscriber.position.lock();
        position.polled_at = now;
        for _ in 0..SEGMENTS_PER_POLL {
            if let Some(ending) = topic.ending() {
                return Poll::Ready(Step::End(ending.clone()));
            }
            if topic.log.next() == position.ordinal {
                topic.sleepers.add(subscriber.id, cx.waker());
                if topic.log.next() == position.ordinal && topic.ending().is_none() {
                    return Poll::Pending;
                }
            }
            if let Place::In(segment, index) = topic.log.locate(position.ordinal)
                && let Some(chunk) = position.take(&segment, index, &subscriber.interest)
            {
                let waited =
                    (chunk.sealed_at >= subscriber.since).then(|| now.saturating_sub(chunk.sealed_at));
                topic.metrics.sent(chunk.events, waited);
                return Poll::Ready(Step::Frames(chunk.frames));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.unsubscribe(&self.subscriber);
    }
}
