//! The broker against a model: random publishing, reading, blocking and trimming, with every policy and every kind of interest. Time is
//! an argument, the history a vector.

mod wakeups;

use super::{history::Fetch, topic::Topic, *};
use crate::{
    log::{Batch, frame},
    model::{ChangeType, Selector, Start},
    telemetry::Metrics,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::{
    future::ready,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
};

const KIND: &str = "Test";
/// Events per page of the history.
const GRID: u64 = 7;
/// A time at which every stream that was polled before is blocked.
const LATER: u64 = u64::MAX / 2;

type Events = Arc<parking_lot::Mutex<Vec<(Revision, ChangeType, String)>>>;

/// What was published, and the history made of it.
#[derive(Clone, Default)]
pub(super) struct Published(Events);

impl Published {
    fn batch(&self, revisions: impl Iterator<Item = u64>) -> Batch {
        let mut batch = Batch::default();
        for number in revisions {
            let (change, id) = (
                [ChangeType::Created, ChangeType::Updated, ChangeType::Deleted][number as usize % 3],
                format!("r{}", number % 5),
            );
            encode(&mut batch, Revision::new(number), change, &id);
            self.0.lock().push((Revision::new(number), change, id));
        }
        batch
    }

    fn matching(&self, after: Revision, selector: &Selector) -> Vec<u64> {
        let events = self.0.lock();
        let wanted =
            events.iter().filter(|(revision, change, id)| *revision > after && selector.matches(*change, id));
        wanted.map(|(revision, ..)| revision.get()).collect()
    }
}

impl History for Published {
    fn cached(&self, _: Revision, _: Revision) -> Option<Arc<Page>> {
        None
    }

    fn fetch(&self, after: Revision, head: Revision) -> Fetch {
        let begin = Revision::new(after.get() / GRID * GRID);
        let upto = Revision::new(begin.get() + GRID).min(head).max(after.next());
        let mut batch = Batch::default();
        for (revision, change, id) in
            self.0.lock().iter().filter(|(revision, ..)| *revision > begin && *revision <= upto)
        {
            encode(&mut batch, *revision, *change, id);
        }
        Box::pin(ready(Ok(Arc::new(Page::new(begin, upto, HashMap::from([(KIND, batch)]))))))
    }

    fn oldest(&self) -> Revision {
        Revision::ZERO
    }
}

/// Field 4 is the revision, as in every watch event; the row before is field 7, of one byte.
fn encode(batch: &mut Batch, revision: Revision, change: ChangeType, id: &str) {
    batch.push((revision, change, id), 0, |message, previous| {
        message.extend(frame::varint_field(4, revision.get()));
        message.extend([0x7a, 40]); // field 15, 40 bytes: some weight
        message.extend([0; 40]);
        previous.extend(frame::varint_field(7, 1));
    });
}

/// What a client reads: revision, dropped_before, and whether the row before was there.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    revision: u64,
    dropped_before: u64,
    previous: bool,
}

fn decode(mut bytes: Bytes) -> Vec<Received> {
    let mut received = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let mut message = bytes.split_to(frame::HEADER + length).split_off(frame::HEADER);
        let mut event = Received { revision: 0, dropped_before: 0, previous: false };
        while !message.is_empty() {
            let field = message.split_to(1)[0];
            let value = prost::decode_length_delimiter(&mut message).unwrap();
            match field >> 3 {
                4 => event.revision = value as u64,
                6 => event.dropped_before = value as u64,
                7 => event.previous = true,
                15 => drop(message.split_to(value)),
                other => panic!("field {other}"),
            }
        }
        received.push(event);
    }
    received
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) fn topic(published: &Published, window_bytes: usize) -> Arc<Topic> {
    let limits = Limits {
        window_bytes,
        blocked_after: Duration::from_secs(1),
        max_subscribers: 100,
        ..Limits::default()
    };
    let metrics = Metrics::new([KIND].into_iter()).unwrap().kind(KIND);
    Arc::new(Topic::new(KIND, Revision::ZERO, Arc::new(published.clone()), limits, metrics, Clock::start()))
}

pub(super) fn interest(selector: Selector, include_previous: bool, policy: Policy) -> Interest {
    Interest { selector, include_previous, buffer: 20, policy }
}

/// A subscription and what it has brought.
struct Reader {
    subscription: Subscription,
    interest: Interest,
    received: Vec<Received>,
    ended: Option<Ending>,
}

impl Reader {
    fn new(topic: &Arc<Topic>, start: Start, interest: Interest) -> Self {
        let subscription = topic.subscribe(start, interest.clone()).unwrap();
        Self { subscription, interest, received: Vec::new(), ended: None }
    }

    /// Takes at most so many chunks; whether there was nothing left.
    fn read(&mut self, chunks: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..chunks {
            match self.subscription.poll_next(&mut cx) {
                Poll::Ready(Step::Frames(bytes)) => self.received.extend(decode(bytes)),
                Poll::Ready(Step::End(ending)) => {
                    self.ended = Some(ending);
                    return true;
                }
                Poll::Pending => return true,
            }
        }
        false
    }

    /// Ordered, Unique, Complete and Attributed, of what was read to the end.
    fn validate(&self, published: &Published) {
        let wanted = published.matching(self.subscription.revision_at_start(), &self.interest.selector);
        let mut expected = wanted.iter();
        let mut told = 0;
        for Received { revision, dropped_before, previous } in &self.received {
            assert_eq!(*previous, self.interest.include_previous);
            let skipped = expected.by_ref().take_while(|wanted| *wanted != revision).count() as u64;
            assert_eq!(skipped, *dropped_before, "before revision {revision}");
            told += dropped_before;
        }
        let left = expected.count() as u64;
        if self.ended.is_none() {
            assert_eq!(self.received.len() as u64 + self.subscription.dropped(), wanted.len() as u64);
            assert_eq!(left + told, self.subscription.dropped());
        }
        if self.interest.policy != Policy::Drop {
            assert_eq!(self.subscription.dropped(), 0);
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Publish(u64),
    /// A revision that is not of this kind.
    Skip,
    Read(usize, usize),
    Sweep,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1..60u64).prop_map(Act::Publish),
        1 => Just(Act::Skip),
        4 => (0..8usize, 1..4usize).prop_map(|(reader, chunks)| Act::Read(reader, chunks)),
        1 => Just(Act::Sweep),
    ];
    prop::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_event_is_accounted_for(acts in acts(), window in prop_oneof![Just(4_000usize), Just(40_000)]) {
        let published = Published::default();
        let topic = topic(&published, window);
        let some = || Selector::new(&[ChangeType::Created], vec![]);
        let few = || Selector::new(&[], vec!["r3".into()]);
        let mut readers: Vec<_> = [
            interest(Selector::ALL, false, Policy::Drop),
            interest(Selector::ALL, true, Policy::Drop),
            interest(some(), false, Policy::Drop),
            interest(few(), true, Policy::Drop),
            interest(Selector::ALL, false, Policy::CatchUp),
            interest(few(), true, Policy::CatchUp),
            interest(Selector::ALL, false, Policy::Disconnect),
            interest(some(), false, Policy::CatchUp),
        ].into_iter().map(|interest| Reader::new(&topic, Start::Now, interest)).collect();
        let mut head = 0;
        for act in acts {
            match act {
                Act::Publish(events) => {
                    topic.publish(published.batch(head + 1..=head + events), Revision::new(head + events));
                    head += events;
                }
                Act::Skip => {
                    head += 1;
                    topic.publish(Batch::default(), Revision::new(head));
                }
                Act::Read(reader, chunks) => drop(readers[reader].read(chunks)),
                Act::Sweep => topic.sweep(LATER),
            }
        }
        for reader in &mut readers {
            while !reader.read(100) {}
            reader.validate(&published);
            if reader.ended.is_none() {
                prop_assert_eq!(reader.subscription.revision(), Revision::new(head));
            } else {
                prop_assert_eq!(reader.interest.policy, Policy::Disconnect);
            }
        }
    }
}

#[test]
fn a_sleeper_is_woken_by_an_append_and_leaves_nothing_behind() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let mut subscription = topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    let waker = Arc::new(CountingWaker::default());
    let (first, second) = (Waker::from(waker.clone()), Waker::from(waker.clone()));
    assert!(subscription.poll_next(&mut Context::from_waker(&first)).is_pending());
    assert!(subscription.poll_next(&mut Context::from_waker(&second)).is_pending());
    topic.publish(published.batch(1..=3), Revision::new(3));
    topic.publish(published.batch(4..=4), Revision::new(4));
    assert_eq!(waker.0.load(Ordering::SeqCst), 1, "once, for it did not sleep again");
    assert!(
        matches!(subscription.poll_next(&mut Context::from_waker(&first)), Poll::Ready(Step::Frames(bytes)) if decode(bytes.clone()).len() == 4)
    );
    assert!(subscription.poll_next(&mut Context::from_waker(&first)).is_pending());
    drop(subscription);
    assert_eq!(topic.sleepers.len(), 0);
    assert_eq!(topic.subscribers(), 0);
}

#[test]
fn an_ended_topic_says_why() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let mut reader = Reader::new(&topic, Start::Now, interest(Selector::ALL, false, Policy::Drop));
    assert!(reader.read(1));
    let ending = Ending::ShuttingDown { retry_after: Duration::from_secs(1) };
    topic.end(ending.clone());
    topic.end(Ending::SlowConsumer);
    assert!(reader.read(1));
    assert_eq!(reader.ended, Some(ending));
}

#[test]
fn starts_outside_are_refused() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    topic.publish(published.batch(1..=3), Revision::new(3));
    let start = |revision| {
        topic
            .subscribe(Start::After(Revision::new(revision)), interest(Selector::ALL, false, Policy::Drop))
            .map(drop)
    };
    assert_eq!(start(3), Ok(()));
    assert_eq!(start(4), Err(Refused::Ahead { head: Revision::new(3) }));
}

#[test]
fn a_bookmark_tells_of_drops() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let subscription = topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    topic.publish(published.batch(1..=100), Revision::new(100));
    topic.sweep(LATER);
    let bookmark = subscription.bookmark();
    // type 5, revision 90, dropped_before 90: ten events, half the buffer, are still to come.
    assert_eq!(bookmark[frame::HEADER..], [0x08, 5, 0x20, 90, 0x30, 90]);
    assert_eq!(subscription.bookmark()[frame::HEADER..], [0x08, 5, 0x20, 90], "told once");
}

#[test]
fn a_bookmark_never_goes_back() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let mut subscription = topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    topic.publish(published.batch(1..=1), Revision::new(1));
    assert!(subscription.poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
    // Other kinds go on.
    topic.publish(Batch::default(), Revision::new(9));
    assert_eq!(subscription.bookmark()[frame::HEADER..], [0x08, 5, 0x20, 9]);
    topic.publish(published.batch(10..=10), Revision::new(10));
    assert_eq!(subscription.bookmark()[frame::HEADER..], [0x08, 5, 0x20, 9], "10 is still to come");
    assert_eq!(subscription.revision(), Revision::new(9));
}
