//! A subscriber's side of a topic.

use super::{
    Ending,
    chunk::Chunk,
    filters::Source,
    history::{Compacted, Fetch, Glimpse},
    interest::Interest,
    position::{Next, Position, Wait},
    subscriber::Subscriber,
    topic::{Refused, Topic},
};
use crate::{
    call::Call,
    log,
    model::{Revision, Start, filter::Malformed},
};
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

/// A filtered stream scans this many segments or pages before it lets others run.
const LOOKS_PER_POLL: usize = 64;

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
    /// The page of history that is being read. A cached page is not kept here: a blocked stream holds no
    /// memory.
    fetch: Option<Fetch>,
}

impl Topic {
    /// Takes a place in the log: what is appended from now on, or what comes after a revision.
    pub fn subscribe(self: &Arc<Self>, start: Start, interest: Interest) -> Result<Subscription, Refused> {
        let subscriber = self.register(start, interest)?;
        Ok(Subscription { topic: self.clone(), subscriber, fetch: None })
    }
}

impl Subscription {
    /// The same, as part of this call.
    pub fn of(self, call: Call) -> Self {
        // There is one; the first counts.
        let _ = self.subscriber.call.set(call);
        self
    }

    /// The revision after which it delivers.
    pub fn revision_at_start(&self) -> Revision {
        self.subscriber.after
    }

    /// The revision up to which everything wanted was delivered or counted as dropped.
    pub fn revision(&self) -> Revision {
        complete_up_to(&self.topic, &self.subscriber.position.lock())
    }

    /// How many wanted events this subscription has lost, up to its revision.
    pub fn dropped(&self) -> u64 {
        self.subscriber.position.lock().dropped
    }

    /// Why this stream is to end, while it takes no events yet.
    pub fn poll_ending(&self, cx: &Context<'_>) -> Poll<Ending> {
        self.topic.sleepers.add(self.subscriber.id, cx.waker());
        self.topic.ending().cloned().map_or(Poll::Pending, Poll::Ready)
    }

    /// A BOOKMARK: up to its revision this subscription is complete. It reports drops, as any event does.
    pub fn bookmark(&self) -> Bytes {
        let mut position = self.subscriber.position.lock();
        let revision = complete_up_to(&self.topic, &position);
        // A bookmark never goes back: the head at which this stream waits may be beyond the last event of its
        // kind, and the next bookmark may come when there is an event to read. Conflated events are passed,
        // but not covered by a bookmark.
        position.revision = position.revision.max(revision);
        let mut bookmark = Vec::new();
        let spelling = self.subscriber.view.interest.rendition.spelling();
        spelling.bookmark(self.topic.epoch.as_str(), revision, position.tell(), &mut bookmark);
        bookmark.into()
    }

    /// The next frames, which count as sent. To be called only when the connection has sent those before: it
    /// may hold one chunk until there is room, and a stream that is not polled meanwhile is recognised as
    /// blocked.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        for _ in 0..LOOKS_PER_POLL {
            if let Some(ending) = self.topic.ending() {
                return Poll::Ready(Step::End(ending.clone()));
            }
            let mut position = self.subscriber.position.lock();
            position.polled_at = self.topic.clock.now();
            position.wait = Wait::No;
            let looked = match position.next() {
                Next::Events(ordinal) => self.look_live(ordinal, position, cx),
                Next::Count => self.await_count(position, cx),
                Next::Page => {
                    drop(position);
                    self.look_back(cx)
                }
                Next::Lost => Poll::Ready(Looked::End(Ending::SlowConsumer)),
                Next::Failed => Poll::Ready(Looked::End(Ending::FilterFailed)),
                Next::Over => Poll::Ready(position.over().cloned().map_or(Looked::Nothing, Looked::End)),
            };
            match ready!(looked) {
                Looked::Found(chunk) => return Poll::Ready(Step::Frames(self.sent(chunk))),
                Looked::End(ending) => return Poll::Ready(Step::End(ending)),
                Looked::Nothing => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn look_live(
        &self,
        ordinal: u64,
        mut position: MutexGuard<'_, Position>,
        cx: &Context<'_>,
    ) -> Poll<Looked> {
        let Self { topic, subscriber, .. } = self;
        if topic.log.next() == ordinal {
            if let Some(chunk) = position.reach_head(subscriber.view.interest.rendition) {
                return Poll::Ready(Looked::Found(chunk));
            }
            topic.sleepers.add(subscriber.id, cx.waker());
            // An append may have come before the sleeper was seen.
            if topic.log.next() == ordinal && topic.ending().is_none() {
                position.wait = Wait::ForEvents;
                return Poll::Pending;
            }
        }
        let log::Place::In(segment, index) = topic.log.locate(ordinal) else {
            return Poll::Ready(Looked::Nothing);
        };
        Poll::Ready(position.take(Source::Log, (&segment, index), &subscriber.view).into())
    }

    /// What it lost is being counted.
    fn await_count(&self, mut position: MutexGuard<'_, Position>, cx: &Context<'_>) -> Poll<Looked> {
        position.wait = Wait::ForCount;
        self.topic.sleepers.add(self.subscriber.id, cx.waker());
        if self.topic.ending().is_some() { Poll::Ready(Looked::Nothing) } else { Poll::Pending }
    }

    /// Reads history, until the window reaches this stream's position.
    fn look_back(&mut self, cx: &mut Context<'_>) -> Poll<Looked> {
        let Self { topic, subscriber, fetch } = self;
        if fetch.is_none() && topic.go_live(subscriber) {
            return Poll::Ready(Looked::Nothing);
        }
        let after = subscriber.position.lock().revision;
        // Other kinds may be further. What this kind has not published yet is no history.
        let head = topic.head();
        let page = match topic.history.cached(&topic.kind, after, head) {
            Some(page) => page,
            None => {
                // The page's arrival is not all that may end the waiting.
                topic.sleepers.add(subscriber.id, cx.waker());
                if topic.ending().is_some() {
                    return Poll::Ready(Looked::Nothing);
                }
                let page = fetch.get_or_insert_with(|| {
                    topic.history.fetch(&topic.kind, after, head, subscriber.view.interest.parts())
                });
                let Poll::Ready(fetched) = page.as_mut().poll(cx) else {
                    subscriber.position.lock().wait = Wait::ForPage;
                    return Poll::Pending;
                };
                *fetch = None;
                match fetched {
                    Ok(page) => page,
                    Err(Compacted { oldest }) => {
                        return Poll::Ready(Looked::End(Ending::Compacted { asked: after, oldest }));
                    }
                }
            }
        };
        *fetch = None;
        let mut position = subscriber.position.lock();
        Poll::Ready(match page.look(topic.kind(), after) {
            Glimpse::Event(segment, index) => {
                position.take(page.source(), (segment, index), &subscriber.view).into()
            }
            Glimpse::NothingUpTo(upto) => {
                position.revision = upto;
                Looked::Nothing
            }
            Glimpse::Compacted(Compacted { oldest }) => {
                Looked::End(Ending::Compacted { asked: after, oldest })
            }
        })
    }

    fn sent(&self, chunk: Chunk) -> Bytes {
        let Self { topic, subscriber, .. } = self;
        let waited =
            (chunk.sealed_at >= subscriber.since).then(|| topic.clock.now().saturating_sub(chunk.sealed_at));
        topic.metrics.sent(chunk.events, waited);
        topic.metrics.conflated(chunk.conflated);
        chunk.frames
    }
}

/// The result of a look for events.
enum Looked {
    Found(Chunk),
    /// Nothing wanted here; look further.
    Nothing,
    End(Ending),
}

impl From<Result<Option<Chunk>, Malformed>> for Looked {
    fn from(taken: Result<Option<Chunk>, Malformed>) -> Self {
        match taken {
            Ok(Some(chunk)) => Self::Found(chunk),
            Ok(None) => Self::Nothing,
            Err(Malformed) => Self::End(Ending::FilterFailed),
        }
    }
}

pub(super) fn complete_up_to(topic: &Topic, position: &Position) -> Revision {
    let (head, next) = topic.log.end();
    match position.next() {
        Next::Events(ordinal) if ordinal >= next && !position.conflates() => head.max(position.revision),
        _ => position.complete_up_to(),
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.unsubscribe(&self.subscriber);
    }
}
