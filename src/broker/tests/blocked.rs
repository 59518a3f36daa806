//! A stream is blocked if its connection takes no bytes, not if it waited for the hub.

use super::{
    filters::counted,
    uncounted::{WINDOW, wanting},
    *,
};

#[test]
fn a_stream_that_was_idle_is_not_blocked() {
    for policy in [Policy::Drop, Policy::CatchUp, Policy::Disconnect, Policy::Latest] {
        let published = Published::default();
        let limits = Limits { blocked_after: Duration::ZERO, ..Limits::default() };
        let metrics = Metrics::new([KIND]).unwrap().kind(KIND);
        let topic = topic_with(&published, limits, metrics);
        let mut reader = Reader::new(&topic, Start::Now, interest(Selector::ALL, false, policy));
        assert!(reader.read(1), "it sleeps");
        topic.publish(published.batch(1..=100), Revision::new(100));
        // Long after it was polled, and before its turn comes.
        assert_eq!(status::of(&topic).remove(0).state, SubscriptionState::Live);
        topic.sweep(SOON);
        assert!(reader.read(2));
        assert_eq!(reader.received.len(), 100, "{policy:?}");
        assert!(reader.received.iter().all(|event| event.conflated == 0), "{policy:?}");
        // Now its turn does not come.
        topic.publish(published.batch(101..=200), Revision::new(200));
        topic.sweep(SOON);
        assert_eq!(status::of(&topic).remove(0).dropped, 0);
        topic.sweep(LATER);
        let dropped = if policy == Policy::Drop { 90 } else { 0 };
        assert_eq!(status::of(&topic).remove(0).dropped, dropped);
        while !reader.read(100) {}
        reader.validate(&published);
        assert_eq!(reader.ended.is_some(), policy == Policy::Disconnect);
    }
}

#[test]
fn a_stream_blocked_after_it_was_counted_is_held_to_its_buffer() {
    let published = Published::default();
    let (topic, _) = counted(&published, WINDOW);
    let mut slow = Reader::new(&topic, Start::Now, wanting("species = T*"));
    for number in 1..=500 {
        topic.publish(published.batch(number..=number), Revision::new(number));
    }
    assert!(slow.read(1));
    while is_uncounted(&topic) {
        topic.sweep(0);
    }
    let dropped = slow.subscription.dropped();
    topic.publish(published.batch(501..=530), Revision::new(530));
    topic.sweep(SOON);
    assert_eq!(slow.subscription.dropped(), dropped);
    topic.sweep(LATER);
    assert!(slow.subscription.dropped() > dropped);
    while is_uncounted(&topic) {
        topic.sweep(LATER);
    }
    while !slow.read(10) {}
    slow.validate(&published);
}
