//! The broker against a model: random publishing, reading, blocking and trimming, with every policy and every
//! kind of interest. Time is an argument, the history a vector.

mod altered;
mod blocked;
mod filters;
mod latest;
mod rows;
mod uncounted;
mod wakeups;

use super::{history::Fetch, topic::Topic, *};
use crate::{
    log::{Batch, Parts},
    model::{
        Change, ChangeType, KindId, Selector, Start,
        filter::{Field, Filter, Schema, Scope, ValueType},
    },
    telemetry::{KindMetrics, Metrics},
    wire::{Rendition, frame},
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use rows::{Row, change, empty, row};
use std::{
    future::ready,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
};

const KIND: &str = "Test";
/// Events per page of the history.
const GRID: u64 = 7;
/// A time at which every stream that was polled before is blocked; one that waited for events then is, if it
/// was seen to leave some `SOON`.
const SOON: u64 = LATER / 2;
const LATER: u64 = u64::MAX / 2;

type Events = Arc<parking_lot::Mutex<Vec<Happened>>>;

/// Texts that rows have, in turn; the filters of the tests want those that begin with T.
const SPECIES: [&str; 4] = ["Tarbo", "Allo", "Torvo", "Mega"];

pub(super) static SCHEMA: std::sync::LazyLock<Arc<Schema>> = std::sync::LazyLock::new(|| {
    let fields = vec![Field::of_message("species", ValueType::Text, &[])];
    Schema::new(fields)
});

/// What a client reads.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Event {
    #[prost(int32, tag = "1")]
    change: i32,
    #[prost(message, optional, tag = "2")]
    row: Option<Row>,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(uint64, tag = "6")]
    dropped_before: u64,
    #[prost(message, optional, tag = "7")]
    previous: Option<Row>,
    #[prost(uint64, tag = "8")]
    conflated: u64,
}

/// A change that was published.
#[derive(Clone)]
struct Happened {
    revision: Revision,
    change: ChangeType,
    id: String,
    old: Option<&'static str>,
    new: Option<&'static str>,
}

impl Happened {
    fn new(number: u64) -> Self {
        let change = [ChangeType::Created, ChangeType::Updated, ChangeType::Deleted][number as usize % 3];
        let species = |at: u64| Some(SPECIES[at as usize % SPECIES.len()]);
        Self {
            revision: Revision::new(number),
            change,
            id: format!("r{}", number % 5),
            old: species(number / 7).filter(|_| change != ChangeType::Created),
            new: species(number / 3).filter(|_| change != ChangeType::Deleted),
        }
    }

    fn encode(&self, batch: &mut Batch) {
        let row = |species: Option<&str>| species.map(|species| row(species, 40));
        let (after, before) = (row(self.new), row(self.old));
        let change = change(self.revision.get(), self.change, &self.id, "");
        batch.push(&Change { after: after.as_deref(), before: before.as_deref(), ..change }, 0);
    }

    /// What a subscriber with this interest must see, computed without the code under test.
    fn seen_as(&self, interest: &Interest) -> Option<ChangeType> {
        let is_wanted = |species: Option<&str>| species.is_some_and(|species| species.starts_with('T'));
        let seen_as = match (is_wanted(self.old), is_wanted(self.new)) {
            _ if interest.filter.is_none() => self.change,
            (false, false) => return None,
            (false, true) => ChangeType::Created,
            (true, false) => ChangeType::Deleted,
            (true, true) => ChangeType::Updated,
        };
        interest.selector.matches(seen_as, &self.id).then_some(seen_as)
    }
}

/// What was published, as a history.
#[derive(Clone, Default)]
pub(super) struct Published(Events);

impl Published {
    fn batch(&self, revisions: impl Iterator<Item = u64>) -> Option<Batch> {
        let mut batch = empty();
        for happened in revisions.map(Happened::new) {
            happened.encode(&mut batch);
            self.0.lock().push(happened);
        }
        Some(batch)
    }

    fn matching(&self, after: Revision, interest: &Interest) -> Vec<(u64, ChangeType, Happened)> {
        let events = self.0.lock();
        let later = events.iter().filter(|happened| happened.revision > after);
        later
            .filter_map(|happened| {
                Some((happened.revision.get(), happened.seen_as(interest)?, happened.clone()))
            })
            .collect()
    }
}

impl History for Published {
    fn cached(&self, _: &KindId, _: Revision, _: Revision) -> Option<Arc<Page>> {
        None
    }

    fn fetch(&self, kind: &KindId, after: Revision, head: Revision, parts: Parts) -> Fetch {
        let begin = Revision::new(after.get() / GRID * GRID);
        let upto = Revision::new(begin.get() + GRID).min(head).max(after.next());
        let mut batch = empty();
        let events = self.0.lock();
        let page = events.iter().filter(|happened| happened.revision > begin && happened.revision <= upto);
        page.for_each(|happened| happened.encode(&mut batch));
        let page = Page::new(
            &Epoch::new(""),
            (begin, upto),
            Kinds::default(),
            HashMap::from([(kind.name.clone(), batch)]),
        );
        page.make(&kind.name, parts);
        Box::pin(ready(Ok(Arc::new(page))))
    }

    fn oldest(&self) -> Revision {
        Revision::ZERO
    }
}

fn decode(mut bytes: Bytes) -> Vec<Event> {
    let mut received = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let message = bytes.split_to(frame::HEADER + length).split_off(frame::HEADER);
        received.push(Event::decode(message).unwrap());
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
    let metrics = Metrics::new([KIND]).unwrap().kind(KIND);
    topic_with(published, limits, metrics)
}

fn topic_with(published: &Published, limits: Limits, metrics: KindMetrics) -> Arc<Topic> {
    Arc::new(Topic::new(
        (Epoch::new(""), KindId { name: KIND.into(), version: 0 }),
        (Revision::ZERO, Revision::ZERO),
        Arc::new(published.clone()),
        limits,
        metrics,
        Clock::start(),
    ))
}

pub(super) fn interest(selector: Selector, include_previous: bool, policy: Policy) -> Interest {
    Interest {
        selector,
        filter: None,
        sight: crate::model::filter::Sight::Whole,
        rendition: Rendition::Grpc,
        composer: None,
        schema: SchemaInterest::NONE,
        include_previous,
        buffer: 20,
        policy,
    }
}

/// The same for the events that a filter wants.
fn filtered(interest: Interest) -> Interest {
    Interest { filter: Filter::parse("species = T*", &SCHEMA, Scope::Events).unwrap(), ..interest }
}

/// A subscription and what it has delivered.
struct Reader {
    subscription: Subscription,
    interest: Interest,
    received: Vec<Event>,
    ended: Option<Ending>,
}

impl Reader {
    fn new(topic: &Arc<Topic>, start: Start, interest: Interest) -> Self {
        let subscription = topic.subscribe(start, interest.clone()).unwrap();
        Self { subscription, interest, received: Vec::new(), ended: None }
    }

    /// Takes at most this many chunks. Returns whether there was nothing left.
    fn read(&mut self, chunks: usize) -> bool {
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..chunks {
            match self.subscription.poll_next(&mut cx) {
                Poll::Ready(Step::Frames(bytes)) => self.received.extend(decode(bytes)),
                Poll::Ready(Step::End(ending)) => {
                    self.ended = Some(ending);
                    return true;
                }
                // It only let others run.
                Poll::Pending if woken.0.swap(0, Ordering::SeqCst) > 0 => {}
                Poll::Pending => return true,
            }
        }
        false
    }

    /// Ordered, Unique, Complete and Attributed, of what was read to the end.
    fn validate(&self, published: &Published) {
        let wanted = published.matching(self.subscription.revision_at_start(), &self.interest);
        if self.interest.policy == Policy::Latest {
            return self.validate_latest(&wanted);
        }
        let by_revision: HashMap<_, _> =
            wanted.iter().map(|(revision, seen_as, happened)| (*revision, (*seen_as, happened))).collect();
        let mut expected = wanted.iter();
        let mut told = 0;
        for event in &self.received {
            let revision = event.revision;
            let skipped = expected.by_ref().take_while(|(wanted, ..)| *wanted != revision).count() as u64;
            assert_eq!(skipped, event.dropped_before, "before revision {revision}");
            told += event.dropped_before;
            let (seen_as, happened) = by_revision[&revision];
            assert_eq!(event.change, seen_as as i32, "the type of {revision}");
            self.validate_rows(event, seen_as, happened);
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

    /// In order; and each event stands for those of its resource since the one before of it, to the last.
    fn validate_latest(&self, wanted: &[(u64, ChangeType, Happened)]) {
        assert!(self.received.is_sorted_by(|one, two| one.revision < two.revision));
        let mut waiting: HashMap<&str, u64> = HashMap::new();
        let mut received = self.received.iter().peekable();
        for (revision, seen_as, happened) in wanted {
            *waiting.entry(&happened.id).or_default() += 1;
            let Some(event) = received.next_if(|event| event.revision == *revision) else { continue };
            let stands_for = waiting.remove(happened.id.as_str()).unwrap_or(0);
            assert_eq!(event.conflated.max(1), stands_for, "at {revision}");
            assert_ne!(event.conflated, 1, "one is not said");
            assert_eq!((event.change, event.dropped_before), (*seen_as as i32, 0));
            self.validate_rows(event, *seen_as, happened);
        }
        assert!(
            received.next().is_none() && waiting.is_empty(),
            "nothing else, and something for everything"
        );
        let stand_for = self.received.iter().map(|event| event.conflated.max(1)).sum::<u64>();
        assert_eq!(stand_for, wanted.len() as u64, "delivered, and what that stands for, is what matched");
        assert_eq!(self.subscription.dropped(), 0);
    }

    /// The row is there unless it was deleted; the row before on request, and always where an update left the
    /// filter.
    fn validate_rows(&self, event: &Event, seen_as: ChangeType, happened: &Happened) {
        let species = |row: &Option<Row>| row.as_ref().map(|row| row.species.clone());
        let row = happened.new.filter(|_| seen_as != ChangeType::Deleted);
        assert_eq!(species(&event.row).as_deref(), row);
        let left = seen_as != happened.change && seen_as == ChangeType::Deleted;
        let previous = happened
            .old
            .filter(|_| left || (self.interest.include_previous && seen_as != ChangeType::Created));
        assert_eq!(species(&event.previous).as_deref(), previous);
    }
}

/// Whether some stream waits for its losses to be counted.
fn is_uncounted(topic: &Topic) -> bool {
    topic.registered().iter().any(|subscriber| subscriber.position.lock().uncounted().is_some())
}

#[derive(Debug, Clone)]
enum Act {
    Publish(u64),
    /// A revision of another kind.
    Skip,
    Read(usize, usize),
    Sweep,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1..60u64).prop_map(Act::Publish),
        1 => Just(Act::Skip),
        4 => (0..16usize, 1..4usize).prop_map(|(reader, chunks)| Act::Read(reader, chunks)),
        1 => Just(Act::Sweep),
    ];
    prop::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_event_is_accounted_for(
        acts in acts(),
        window in prop_oneof![Just(4_000usize), Just(40_000)],
    ) {
        let published = Published::default();
        let topic = topic(&published, window);
        let some = || Selector::new(&[ChangeType::Created], vec![]);
        let going = || Selector::new(&[ChangeType::Deleted], vec![]);
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
            filtered(interest(Selector::ALL, false, Policy::Drop)),
            filtered(interest(some(), true, Policy::Drop)),
            filtered(interest(Selector::ALL, true, Policy::CatchUp)),
            filtered(interest(few(), false, Policy::Disconnect)),
            interest(Selector::ALL, false, Policy::Latest),
            interest(few(), true, Policy::Latest),
            filtered(interest(going(), false, Policy::CatchUp)),
            filtered(interest(Selector::ALL, true, Policy::Latest)),
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
                    topic.publish(None, Revision::new(head));
                }
                Act::Read(reader, chunks) => drop(readers[reader].read(chunks)),
                Act::Sweep => [SOON, LATER].into_iter().for_each(|now| topic.sweep(now)),
            }
        }
        while is_uncounted(&topic) {
            topic.sweep(topic.clock.now());
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
    assert_eq!(waker.0.load(Ordering::SeqCst), 1, "once, because it did not sleep again");
    let Poll::Ready(Step::Frames(bytes)) = subscription.poll_next(&mut Context::from_waker(&first)) else {
        panic!("frames were appended");
    };
    assert_eq!(decode(bytes).len(), 4);
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
fn only_a_blocked_stream_is_held_to_its_buffer() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let subscription = topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    topic.publish(published.batch(1..=100), Revision::new(100));
    // Half the time that makes it blocked, in microseconds.
    topic.sweep(500_000);
    assert_eq!(subscription.dropped(), 0);
    topic.sweep(LATER);
    assert_eq!(subscription.dropped(), 90);
}

#[test]
fn a_bookmark_never_goes_back() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let mut subscription = topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    topic.publish(published.batch(1..=1), Revision::new(1));
    assert!(subscription.poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
    // Other kinds go on.
    topic.publish(None, Revision::new(9));
    assert_eq!(subscription.bookmark()[frame::HEADER..], [0x08, 5, 0x20, 9]);
    topic.publish(published.batch(10..=10), Revision::new(10));
    assert_eq!(subscription.bookmark()[frame::HEADER..], [0x08, 5, 0x20, 9], "10 is still to come");
    assert_eq!(subscription.revision(), Revision::new(9));
}
