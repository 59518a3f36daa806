//! What is told of the table, among events: who is told, and who ends there.

use super::*;
use crate::broker::SchemaInterest;

const DESCRIBED: &str = r#"{"state_changed": null, "key_changed": false, "table": null}"#;
const DIFFERS: &str = r#"{"state_changed": "why", "key_changed": false, "table": null}"#;
const OTHER_KEY: &str = r#"{"state_changed": null, "key_changed": true, "table": null}"#;

/// 99 events, and in their midst what is told of the table.
fn batch(first: u64, told: &str) -> Option<Batch> {
    let mut batch = empty();
    for number in first..first + 100 {
        if number == first + 50 {
            batch.push(&change(number, ChangeType::Schema, "", told), 0);
        } else {
            Happened::new(number).encode(&mut batch);
        }
    }
    Some(batch)
}

fn told_of(events: bool, policy: Policy) -> Interest {
    let schema = SchemaInterest { events, needs: Vec::new() };
    Interest { schema, ..interest(Selector::ALL, false, policy) }
}

fn revisions(reader: &Reader) -> Vec<u64> {
    reader.received.iter().map(|event| event.revision).collect()
}

#[test]
fn a_stream_that_asks_is_told_and_another_ends_where_rows_differ() {
    for (told, ends) in [(DESCRIBED, [false, false]), (DIFFERS, [false, true]), (OTHER_KEY, [true, true])] {
        let published = Published::default();
        let topic = topic(&published, 1 << 20);
        let mut readers =
            [true, false].map(|events| Reader::new(&topic, Start::Now, told_of(events, Policy::CatchUp)));
        topic.publish(batch(1, told), Revision::new(100));
        for ((reader, is_told), ends) in readers.iter_mut().zip([true, false]).zip(ends) {
            while !reader.read(1) {}
            assert_eq!(reader.ended.is_some(), ends, "{told} {is_told}");
            let upto = if ends { 50 } else { 100 };
            let seen = |number: &u64| is_told && !ends || *number != 51;
            assert_eq!(revisions(reader), (1..=upto).filter(seen).collect::<Vec<_>>(), "{told} {is_told}");
            // What is told has a revision, and is passed like any other.
            assert_eq!(reader.subscription.revision(), Revision::new(upto));
        }
    }
}

#[test]
fn what_conflates_tells_what_came_before_first() {
    let topic = topic(&Published::default(), 1 << 20);
    for events in [true, false] {
        let mut reader = Reader::new(&topic, Start::After(Revision::ZERO), told_of(events, Policy::Latest));
        let head = topic.head().get();
        if head == 0 {
            topic.publish(batch(1, DIFFERS), Revision::new(100));
        }
        topic.sweep(SOON);
        topic.sweep(LATER);
        while !reader.read(1) {}
        let received = revisions(&reader);
        assert!(received.is_sorted_by(|one, other| one < other), "{received:?}");
        assert_eq!(reader.ended.is_some(), !events);
        assert_eq!(received.contains(&51), events);
        assert_eq!(received.iter().any(|revision| *revision > 51), events);
        let conflated: u64 = reader.received.iter().map(|event| event.conflated.max(1)).sum();
        assert_eq!(conflated, if events { 100 } else { 50 });
    }
}

/// One that loses events must not lose this one among them.
#[test]
fn a_stream_that_would_lose_what_is_told_ends() {
    for (told, events, ends) in [
        (DESCRIBED, true, false),
        (DESCRIBED, false, false),
        (DIFFERS, true, true),
        (DIFFERS, false, true),
        (OTHER_KEY, true, true),
    ] {
        for filter in [false, true] {
            let topic = topic(&Published::default(), 1 << 20);
            let wanted = told_of(events, Policy::Drop);
            let wanted = if filter { filtered(wanted) } else { wanted };
            let mut reader = Reader::new(&topic, Start::Now, wanted);
            topic.publish(batch(1, told), Revision::new(100));
            topic.sweep(SOON);
            topic.sweep(LATER);
            while is_uncounted(&topic) {
                topic.sweep(LATER);
            }
            while !reader.read(1) {}
            assert_eq!(reader.ended.is_some(), ends, "{told} {events} {filter}");
            if !ends && !filter {
                let lost = reader.subscription.dropped();
                assert_eq!((lost, reader.received.len()), (89 + u64::from(events), 10), "{told} {events}");
                assert_eq!(reader.received[0].dropped_before, lost);
            }
        }
    }
}
