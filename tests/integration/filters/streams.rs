//! Filtered streams under load, through every validator.

use super::oracle::{self, Oracle};
use crate::{
    stress::{Control, Load, random, shared_ids, writers},
    support::{
        Database, TestHub,
        recorder::{Recorder, SENTINEL},
        until,
        validators::validate,
        writer::Verb,
    },
};
use std::time::Duration;
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{BackpressurePolicy, EventType, WatchDinosaursRequest},
};

const KIB: usize = 1024;
const ROWS: u64 = 10_000;

/// Marks are `writer-number.statement`, so rows come and go as they are updated. The sentinel ends every
/// stream.
const FILTERS: [(&str, Oracle); 3] = [
    (r#"species = "*7*" OR id = sentinel"#, |id, row| row.species.contains('7') || id == SENTINEL),
    (r#"(species = "*1" species < "w5") OR id = 'sentinel'"#, |id, row| {
        (row.species.ends_with('1') && row.species.as_str() < "w5") || id == SENTINEL
    }),
    (
        r#"NOT (species = "w*" AND -metadata.id = "shared-*") AND updated_at > 2001-01-01T00:00:00Z"#,
        |id, row| !row.species.starts_with('w') || id.starts_with("shared-"),
    ),
];

fn watch(filter: &str) -> WatchDinosaursRequest {
    WatchDinosaursRequest {
        filter: filter.to_owned(),
        backpressure: BackpressurePolicy::CatchUp.into(),
        bookmark_interval: prost_types::Duration::try_from(Duration::from_millis(100)).ok(),
        include_previous: true,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_shows_keeps_every_promise() {
    let mut random = random("filters");
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 64 * KIB;
    settings.limits.blocked_after = Duration::from_millis(100);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut control = Control::new(&database).await;
    let (mut recorders, mut slow) = (Vec::new(), Vec::new());
    for (filter, _) in FILTERS {
        let types = vec![EventType::Created.into(), EventType::Deleted.into()];
        for (name, request) in
            [("all", watch(filter)), ("come and go", WatchDinosaursRequest { types, ..watch(filter) })]
        {
            recorders.push((filter, Recorder::start(hub.client().await, name, request).await));
        }
        let request = WatchDinosaursRequest {
            backpressure: BackpressurePolicy::Drop.into(),
            buffer: 50,
            ..watch(filter)
        };
        slow.push((filter, Recorder::start(hub.narrow_client().await, "slow", request).await));
        let request = WatchDinosaursRequest {
            backpressure: BackpressurePolicy::Latest.into(),
            buffer: 50,
            ..watch(filter)
        };
        slow.push((filter, Recorder::start(hub.narrow_client().await, "slow, LATEST", request).await));
    }
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let load = Load::start(writers(&database, &mut random));
    for step in 1..=4 {
        slow.iter().for_each(|(_, reader)| if step % 2 == 1 { reader.pause() } else { reader.resume() });
        load.until_rows(ROWS / 4 * step).await;
        for (filter, _) in FILTERS {
            let request = WatchDinosaursRequest { send_initial_state: true, ..watch(filter) };
            let name = format!("from the state, {step}");
            recorders.push((filter, Recorder::start(hub.client().await, &name, request).await));
        }
    }
    let dropped = || hub.metric("grpc_stream_events_dropped_total", "");
    slow.iter().for_each(|(_, reader)| reader.pause());
    load.until_rows(ROWS * 3 / 2).await;
    until("a stopped reader has lost something", || dropped() > 0.0).await;
    let conflations = || hub.metric("hub_stream_conflations_total", "");
    until("another one gets only the newest", || conflations() > 0.0).await;
    slow.iter().for_each(|(_, reader)| reader.resume());
    let writers = load.stop().await;
    control.write_sentinel().await;
    recorders.extend(slow);
    for (filter, _) in FILTERS {
        let request = WatchDinosaursRequest { after_revision: Some(0), ..watch(filter) };
        recorders.push((filter, Recorder::start(hub.client().await, "from the beginning", request).await));
    }
    let mut streams = Vec::new();
    for (filter, recorder) in recorders {
        streams.push((filter, recorder.finish().await));
    }
    let journal = control.journal(writers).await;
    for (filter, wants) in FILTERS {
        let of_filter: Vec<_> =
            streams.iter().filter(|(of, _)| *of == filter).map(|(_, stream)| stream.clone()).collect();
        let lengths: Vec<_> = of_filter
            .iter()
            .map(|stream| (stream.events.len(), stream.dropped(), stream.conflated()))
            .collect();
        println!("{filter}: events, dropped, conflated {lengths:?}");
        validate(&oracle::history(of_filter), &oracle::journal(&journal, wants));
    }
    hub.stop().await;
}
