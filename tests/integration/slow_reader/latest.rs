//! Policy LATEST: a slow reader gets the newest event of each resource, and the numbers add up.

use super::*;
use crate::support::{history::Change, recorder::Progress, until};
use std::collections::HashSet;
use trex::proto::rh_trex::v1::BackpressurePolicy;

/// Stops readers of each sort, floods, reads again; twice, so that a stream falls behind more than once and
/// keeps up in between.
async fn flood_readers_of_the_newest(settings: Settings, database: &Database) {
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut flood = Flood::new(database).await;
    let plain =
        WatchDinosaursRequest { backpressure: BackpressurePolicy::CatchUp.into(), ..Default::default() };
    let reader = Recorder::start(hub.client().await, "plain", plain).await;
    let mut slow = Vec::new();
    // A row is created once: of those events none stands for another.
    for (name, request) in requests(&flood.hot).into_iter().filter(|(name, _)| *name != "created") {
        let request = WatchDinosaursRequest { backpressure: BackpressurePolicy::Latest.into(), ..request };
        let name = format!("slow, {name}");
        slow.push(Recorder::start(narrow_client(&hub).await, &name, request).await);
    }
    flood.begin().await;
    for round in 1..=2 {
        slow.iter().for_each(Recorder::pause);
        flood.transactions(FLOOD).await;
        let all = HOT + EVENTS * (flood.journal.transactions.len() - 1);
        reader.until("all that was written", |progress| progress.events == all as u64).await;
        let fell = || hub.metric("hub_stream_conflations_total", r#"kind="Dinosaur""#);
        until("all have fallen behind", || fell() >= (round * slow.len()) as f64).await;
        slow.iter().for_each(Recorder::resume);
        flood.transactions(1).await;
        let last: HashSet<_> = flood
            .journal
            .transactions
            .last()
            .into_iter()
            .flat_map(|last| last.changes().map(Change::key))
            .collect();
        for recorder in &slow {
            let is_of_last =
                |progress: &Progress| progress.last.as_ref().is_some_and(|key| last.contains(key));
            recorder.until("the last transaction", is_of_last).await;
        }
    }
    let journal = flood.end().await;
    let mut history = History::default();
    for recorder in std::iter::once(reader).chain(slow) {
        history.streams.push(recorder.finish().await);
    }
    let mut conflated = 0;
    for stream in history.streams.iter().filter(|stream| stream.stalls) {
        println!(
            "{}: {} delivered, which stand for {} more",
            stream.name,
            stream.events.len(),
            stream.conflated()
        );
        assert!(stream.conflated() > 0, "{} got everything", stream.name);
        conflated += stream.conflated();
    }
    assert_eq!(hub.metric("hub_stream_events_conflated_total", "") as u64, conflated);
    assert_eq!(hub.metric(DROPPED, "") as u64, 0);
    hub.stop().await;
    validate(&history, &journal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_the_window_passes_gets_the_newest() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 1 << 20;
    settings.limits.blocked_after = Duration::from_secs(3600);
    flood_readers_of_the_newest(settings, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_reader_gets_the_newest() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.default_buffer = 1000;
    settings.limits.blocked_after = Duration::from_millis(200);
    flood_readers_of_the_newest(settings, &database).await;
}
