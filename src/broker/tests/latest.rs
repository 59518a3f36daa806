//! Policy LATEST: what a slow stream gets, and what it says meanwhile.

use super::*;

fn reader(topic: &Arc<Topic>) -> Reader {
    Reader::new(topic, Start::Now, interest(Selector::ALL, false, Policy::Latest))
}

fn stands_for(reader: &Reader) -> Vec<(u64, u64)> {
    reader.received.iter().map(|event| (event.revision, event.conflated)).collect()
}

#[test]
fn a_stream_that_keeps_up_gets_every_event() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let mut reader = reader(&topic);
    for number in 1..=50 {
        topic.publish(published.batch(number..=number), Revision::new(number));
        assert!(reader.read(2));
        topic.sweep(LATER);
    }
    assert_eq!(reader.received.len(), 50);
    reader.validate(&published);
}

#[test]
fn a_blocked_stream_gets_the_newest_of_each_resource() {
    let published = Published::default();
    let topic = topic(&published, 1 << 20);
    let mut reader = reader(&topic);
    topic.publish(published.batch(1..=3), Revision::new(3));
    assert!(reader.read(2));
    topic.publish(published.batch(4..=100), Revision::new(100));
    topic.sweep(SOON);
    topic.sweep(LATER);
    topic.sweep(LATER);
    assert_eq!(reader.subscription.revision(), Revision::new(3), "nothing was delivered since");
    assert!(reader.read(3));
    // Five resources in turn: the last five events stand for 97.
    let newest = stands_for(&reader).split_off(3);
    assert_eq!(newest, [(96, 19), (97, 19), (98, 19), (99, 20), (100, 20)]);
    assert_eq!(reader.subscription.revision(), Revision::new(100));
    topic.publish(published.batch(101..=110), Revision::new(110));
    assert!(reader.read(2));
    assert_eq!(reader.received.len(), 18, "it keeps up again");
    reader.validate(&published);
}

#[test]
fn what_is_conflated_from_history_and_memory_is_one() {
    let published = Published::default();
    // Small enough that the window passes a subscriber that does not read.
    let topic = topic(&published, 4_000);
    let mut reader = reader(&topic);
    for number in 1..=1000 {
        topic.publish(published.batch(number..=number), Revision::new(number));
    }
    assert!(reader.read(1000));
    assert_eq!(stands_for(&reader), [(996, 200), (997, 200), (998, 200), (999, 200), (1000, 200)]);
    reader.validate(&published);
}

#[test]
fn a_conflation_under_way_is_no_position() {
    let published = Published::default();
    let topic = topic(&published, 4_000);
    let mut reader = reader(&topic);
    topic.publish(published.batch(1..=2), Revision::new(2));
    assert!(reader.read(2));
    for number in 3..=2000 {
        topic.publish(published.batch(number..=number), Revision::new(number));
    }
    // One poll scans a bounded number of pages: it has read some, and delivered nothing.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reader.subscription.poll_next(&mut cx).is_pending());
    assert_eq!(reader.subscription.revision(), Revision::new(2));
    let bookmark = Event::decode(&reader.subscription.bookmark()[frame::HEADER..]).unwrap();
    assert_eq!((bookmark.change, bookmark.revision), (5, 2));
    while reader.received.len() == 2 {
        reader.read(1);
    }
    assert_eq!(reader.subscription.revision(), Revision::new(2000));
    reader.validate(&published);
}

#[test]
fn portions_are_bounded() {
    let topic = topic(&Published::default(), 64 << 20);
    let mut subscription =
        topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Latest)).unwrap();
    let (mut batch, row) = (empty(), row("", 400));
    for number in 1..=10_000u64 {
        let id = format!("resource {}", number % 5_000);
        batch.push(&change(number, ChangeType::Updated, &id, &row), 0);
    }
    topic.publish(Some(batch), Revision::new(10_000));
    topic.sweep(LATER);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut passed, mut portions, mut last) = (0, 0, 0);
    while passed < 10_000 {
        let Poll::Ready(Step::Frames(frames)) = subscription.poll_next(&mut cx) else { continue };
        assert!(frames.len() < 300_000, "{}", frames.len());
        portions += 1;
        for event in decode(frames) {
            assert!(event.revision > last);
            last = event.revision;
            passed += event.conflated.max(1);
        }
        assert_eq!(subscription.revision(), Revision::new(last), "a portion is a position");
    }
    assert_eq!((passed, last), (10_000, 10_000));
    assert!(portions > 4, "{portions}");
}
