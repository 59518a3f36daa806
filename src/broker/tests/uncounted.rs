//! The sweep counts what a stream passes: the publisher judges nothing, and the stream waits until the count
//! is known.

use super::{filters::counted, *};

pub(super) const WINDOW: usize = 4_000;

pub(super) fn wanting(filter: &str) -> Interest {
    let filter = Filter::parse(filter, &SCHEMA, Scope::Events).unwrap();
    Interest { filter, ..interest(Selector::ALL, false, Policy::Drop) }
}

#[test]
fn the_publisher_judges_nothing_and_the_stream_is_told_all() {
    let published = Published::default();
    let (topic, evaluations) = counted(&published, WINDOW);
    let mut slow = Reader::new(&topic, Start::Now, wanting("species = T*"));
    topic.publish(published.batch(1..=5), Revision::new(5));
    while !slow.read(10) {}
    let (judged, received) = (evaluations(), slow.received.len());
    for number in 6..=500 {
        topic.publish(published.batch(number..=number), Revision::new(number));
    }
    assert_eq!(evaluations(), judged);
    // Its connection takes bytes: it waits, and reports nothing that is not counted.
    assert!(slow.read(10));
    assert_eq!((slow.received.len(), slow.subscription.dropped()), (received, 0));
    assert_eq!(slow.subscription.revision(), Revision::new(5));
    assert_eq!(slow.subscription.bookmark()[frame::HEADER..], [0x08, 5, 0x20, 5]);
    assert_eq!(topic.sleepers(), 1);
    // It is not blocked by that, however long it takes.
    let status = status::of(&topic).remove(0);
    assert_eq!(
        (status.state, status.dropped, status.revision),
        (SubscriptionState::Live, 0, Revision::new(5))
    );
    while is_uncounted(&topic) {
        topic.sweep(LATER);
    }
    assert_eq!(topic.sleepers(), 0, "it is woken");
    while !slow.read(10) {}
    slow.validate(&published);
    assert!(slow.subscription.dropped() > 0);
    assert_eq!(evaluations(), 500);
}

#[test]
fn what_is_counted_is_let_go() {
    let published = Published::default();
    let (topic, _) = counted(&published, WINDOW);
    let _blocked = Reader::new(&topic, Start::Now, wanting("species = T*"));
    for number in 1..=500 {
        topic.publish(published.batch(number..=number), Revision::new(number));
    }
    assert!(topic.log.trim(0, 0) > WINDOW, "the window is within its bound, and this beside it");
    while is_uncounted(&topic) {
        topic.sweep(0);
    }
    topic.sweep(0);
    assert_eq!(topic.log.trim(0, 0), 0);
}

#[test]
fn what_takes_too_long_to_count_ends_where_it_was() {
    let published = Published::default();
    let (topic, evaluations) = counted(&published, WINDOW);
    let slow = Reader::new(&topic, Start::Now, wanting("species = T*"));
    let mut plain = Reader::new(&topic, Start::Now, interest(Selector::ALL, false, Policy::Drop));
    let row = row("", 1 << 20);
    for number in 1..=70 {
        let mut batch = empty();
        batch.push(&change(number, ChangeType::Created, "large", &row), 0);
        topic.publish(Some(batch), Revision::new(number));
    }
    assert_eq!((evaluations(), slow.subscription.revision()), (0, Revision::ZERO));
    assert!(topic.log.trim(0, 0) < 64 << 20);
    let mut slow = slow;
    assert!(slow.read(1));
    assert_eq!(slow.ended, Some(Ending::SlowConsumer));
    assert!(plain.read(10));
    assert_eq!(plain.received.len() as u64 + plain.subscription.dropped(), 70);
    assert_eq!(plain.ended, None);
}
