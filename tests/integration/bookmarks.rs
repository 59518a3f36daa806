//! Bookmarks: always true, and sent even when nothing else is.

use crate::{
    stress::{Control, Load, random, shared_ids, writers},
    support::{
        Database, TestHub,
        history::{History, Stream},
        recorder::{Recorder, SENTINEL},
        until,
        validators::validate,
        writer::Verb,
    },
};
use std::time::{Duration, Instant};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{BackpressurePolicy, EventType, WatchDinosaursRequest},
};

const KIB: usize = 1024;
const SHORTEST: Duration = Duration::from_millis(100);

async fn hub(database: &Database, window: usize) -> TestHub {
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = window;
    TestHub::start_with(settings, Registry::of_this_program()).await
}

/// A watch with bookmarks that loses nothing.
fn marked() -> WatchDinosaursRequest {
    WatchDinosaursRequest {
        backpressure: BackpressurePolicy::CatchUp.into(),
        bookmark_interval: prost_types::Duration::try_from(SHORTEST).ok(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_are_true_under_load_and_can_be_resumed_from() {
    const ROWS: u64 = 10_000;
    let mut random = random("bookmarks");
    let database = Database::create().await;
    let hub = hub(&database, 64 * KIB).await;
    let mut control = Control::new(&database).await;
    let mut recorders = vec![Recorder::start(hub.client().await, "plain", marked()).await];
    let ids = shared_ids().into_iter().chain([SENTINEL.to_owned()]).collect();
    for (name, request) in [
        ("of some", WatchDinosaursRequest { resource_ids: ids, ..marked() }),
        ("deleted", WatchDinosaursRequest { types: vec![EventType::Deleted.into()], ..marked() }),
        ("from the state", WatchDinosaursRequest { send_initial_state: true, ..marked() }),
    ] {
        recorders.push(Recorder::start(hub.client().await, name, request).await);
    }
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let mut history = History::default();
    let mut resuming = marked();
    let load = Load::start(writers(&database, &mut random));
    for step in 1..=6 {
        let recorder =
            Recorder::start(hub.client().await, &format!("resuming {step}"), resuming.clone()).await;
        load.until_rows(step * ROWS / 6).await;
        let enough = random.u64(1..4);
        recorder.until("bookmarks", |progress| progress.bookmarks >= enough).await;
        let mut stream = recorder.leave().await;
        // As a client that keeps only bookmarks.
        let last = stream.bookmarks.last().unwrap().clone();
        stream.events.truncate(last.at);
        resuming.after_revision = Some(last.revision);
        history.streams.push(stream);
    }
    recorders.push(Recorder::start(hub.client().await, "resuming at last", resuming).await);
    let writers = load.stop().await;
    control.write_sentinel().await;
    for recorder in recorders {
        history.streams.push(recorder.finish().await);
    }
    let bookmarks: usize = history.streams.iter().map(|stream| stream.bookmarks.len()).sum();
    println!("bookmarks: {bookmarks} on {} streams", history.streams.len());
    // The last of them may have come and gone within an interval.
    let marked = |stream: &Stream| !stream.bookmarks.is_empty() || stream.name == "resuming at last";
    assert!(history.streams.iter().all(marked));
    validate(&history, &control.journal(writers).await);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_come_when_nothing_happens_and_when_nothing_matches() {
    let database = Database::create().await;
    let hub = hub(&database, 64 << 20).await;
    let mut control = Control::new(&database).await;
    control.write(&[(Verb::Insert, &["a".to_owned()])]).await;
    until("it is published", || hub.metric("hub_head_revision", "") == 1.0).await;
    let of_b = WatchDinosaursRequest { resource_ids: vec!["b".into()], ..marked() };
    let quiet = Recorder::start(hub.client().await, "quiet", marked()).await;
    let unmatched = Recorder::start(hub.client().await, "unmatched", of_b).await;
    let started = Instant::now();
    quiet.until("ten bookmarks", |progress| progress.bookmarks >= 10).await;
    let took = started.elapsed();
    println!("quiet: ten bookmarks in {took:?}");
    assert!(took >= 8 * SHORTEST, "jitter shortens an interval by a tenth at the most: {took:?}");
    assert!(took < 60 * SHORTEST, "they come at the interval: {took:?}");
    for head in 2..=6 {
        control.write(&[(Verb::Insert, &[format!("c{head}")])]).await;
        until("it is published", || hub.metric("hub_head_revision", "") == f64::from(head)).await;
        let seen = unmatched.bookmarks();
        unmatched.until("two more bookmarks", |progress| progress.bookmarks >= seen + 2).await;
    }
    let (quiet, unmatched) = (quiet.leave().await, unmatched.leave().await);
    assert_eq!(quiet.bookmarks.first().unwrap().revision, 1);
    assert!(unmatched.events.is_empty());
    assert_eq!(unmatched.bookmarks.last().unwrap().revision, 6, "it is complete up to what it did not want");
    let history = History { streams: vec![quiet, unmatched] };
    validate(&history, &control.journal(vec![]).await);
    hub.stop().await;
}
