//! Filters within the broker: judged once, dropped when unused, and failing alone.

use super::*;

const EVENTS: u64 = 1000;

fn filter(text: &str) -> Interest {
    let filter = Filter::parse(text, &SCHEMA, Scope::Events).unwrap();
    Interest { filter, ..interest(Selector::ALL, false, Policy::Drop) }
}

/// A topic, and how many events its filters have judged so far.
pub(super) fn counted(published: &Published, window_bytes: usize) -> (Arc<Topic>, impl Fn() -> u64) {
    let metrics = Metrics::new([KIND]).unwrap();
    let limits = Limits { blocked_after: Duration::from_secs(1), window_bytes, ..Limits::default() };
    let topic = topic_with(published, limits, metrics.kind(KIND));
    let evaluations = move || {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("hub_filter_evaluations_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap()
    };
    (topic, evaluations)
}

#[test]
fn an_event_is_judged_once_per_distinct_filter() {
    let published = Published::default();
    let (topic, evaluations) = counted(&published, 1 << 20);
    let filters =
        ["species = T*", "species = 'Allo'", "species = *o", "type = CREATED", "species > B AND species < U"];
    let mut readers: Vec<_> =
        (0..100).map(|n| Reader::new(&topic, Start::Now, filter(filters[n % filters.len()]))).collect();
    // One by one, so that segments grow under their readers.
    for number in 1..=EVENTS {
        topic.publish(published.batch(number..=number), Revision::new(number));
        readers[number as usize % 100].read(10);
    }
    for reader in &mut readers {
        while !reader.read(10) {}
        assert_eq!(reader.subscription.revision(), Revision::new(EVENTS));
    }
    assert_eq!(evaluations(), EVENTS * filters.len() as u64);
    // What a blocked stream loses is counted by the same verdicts.
    let mut blocked = Reader::new(&topic, Start::After(Revision::ZERO), filter("species = T*"));
    topic.sweep(LATER);
    while !blocked.read(10) {}
    blocked.validate(&published);
    assert!(blocked.subscription.dropped() > 0);
    assert_eq!(evaluations(), EVENTS * filters.len() as u64);
}

#[test]
fn a_filter_goes_with_its_last_subscriber() {
    let published = Published::default();
    let (topic, evaluations) = counted(&published, 1 << 20);
    topic.publish(published.batch(1..=10), Revision::new(10));
    for round in 1..=2 {
        let mut reader = Reader::new(&topic, Start::After(Revision::ZERO), filter("species = T*"));
        assert!(reader.read(10));
        assert_eq!(evaluations(), 10 * round);
    }
}

#[test]
fn there_are_so_many_distinct_filters_and_no_more() {
    let published = Published::default();
    let (topic, _) = counted(&published, 1 << 20);
    let subscribe = |n: usize| topic.subscribe(Start::Now, filter(&format!("species = 's{n}'")));
    let held: Vec<_> = (0..1000).map(|n| subscribe(n).unwrap()).collect();
    assert_eq!(subscribe(1000).map(drop), Err(Refused::TooManyFilters));
    drop(subscribe(7).unwrap());
    assert_eq!(topic.subscribers(), 1000);
    drop(held);
    drop(subscribe(1000).unwrap());
}

#[test]
fn a_filter_that_fails_ends_only_its_own_stream() {
    let published = Published::default();
    let (topic, _) = counted(&published, 1 << 20);
    let mut others = Reader::new(&topic, Start::Now, interest(Selector::ALL, false, Policy::Drop));
    let mut failing = Reader::new(&topic, Start::Now, filter("species = T*"));
    let mut blocked = Reader::new(&topic, Start::Now, filter("species = T*"));
    topic.publish(published.batch(1..=1), Revision::new(1));
    let mut broken = empty();
    // A row that ends too early.
    broken.push(&change(2, ChangeType::Created, "r", r#"{"species":"Tar"#), 0);
    topic.publish(Some(broken), Revision::new(2));
    topic.publish(published.batch(3..=100), Revision::new(100));
    assert!(failing.read(10));
    assert_eq!(failing.ended, Some(Ending::FilterFailed));
    topic.sweep(LATER);
    assert!(blocked.read(10));
    assert_eq!(blocked.ended, Some(Ending::FilterFailed));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(others.subscription.poll_next(&mut cx), Poll::Ready(Step::Frames(_))));
    assert_eq!(others.ended, None);
}
