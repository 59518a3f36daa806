//! Every guarantee of a watch, over every form that a stream has here.

use super::reader::{LINES, Reader, SSE, empty, note};
use crate::{
    stress::{Control, Load, random, shared_ids, writers},
    support::{
        Database, TestHub,
        history::{End, History, Stream},
        recorder::Recorder,
        validators::validate,
        writer::Verb,
    },
};
use tokio::task::JoinHandle;
use trex::{app::Settings, faces::Registry, proto::rh_trex::v1::WatchDinosaursRequest};

const WATCH: &str = "/v1/tables/dinosaurs/watch";

const OFTEN: &str = "bookmarks=100ms";

/// How often a stream of this query says where it is.
fn interval(query: &str) -> prost_types::Duration {
    let often = std::time::Duration::from_millis(if query.contains(OFTEN) { 100 } else { 15_000 });
    often.try_into().unwrap()
}

/// Records a stream to its end, from its headers on.
async fn record(address: &str, name: &str, media: &str, query: &str) -> JoinHandle<Stream> {
    let request = WatchDinosaursRequest {
        include_previous: query.contains("previous=true"),
        send_initial_state: query.contains("state=true"),
        bookmark_interval: Some(interval(query)),
        ..WatchDinosaursRequest::default()
    };
    let mut reader = Reader::open(address, &format!("{WATCH}?{query}"), media, "").await;
    assert_eq!(reader.status, 200, "{name}");
    let mut stream = empty(name, request, reader.position());
    tokio::spawn(async move {
        let mut dropped = 0;
        while let Some(said) = reader.next().await {
            if note(&mut stream, &said, &mut dropped) {
                break;
            }
        }
        stream
    })
}

/// Records as a browser does that is cut off again and again, at random: a stream for each time. Whatever
/// ends a stream, the next begins with the id of the last event.
async fn record_resuming(address: String, most: u64, mut random: fastrand::Rng) -> Vec<Stream> {
    let (mut streams, mut last_id): (Vec<Stream>, _) = (Vec::new(), String::new());
    loop {
        let again = if last_id.is_empty() { String::new() } else { format!("last-event-id: {last_id}\r\n") };
        let opened = Reader::try_open(&address, &format!("{WATCH}?{OFTEN}"), SSE, &again).await;
        // The hub may be on its way back; a browser waits before it comes again.
        let Some(mut reader) = opened.filter(|reader| reader.header("hub-revision").is_some()) else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let mut position = reader.position();
        let after = (!last_id.is_empty()).then_some(position.revision);
        let request = WatchDinosaursRequest {
            after_revision: after,
            bookmark_interval: Some(interval(OFTEN)),
            ..WatchDinosaursRequest::default()
        };
        if let Some(last) = streams.last() {
            assert_eq!(position.revision, last.up_to(), "it resumes where it was cut off");
            position.epoch.clone_from(&last.headers.epoch);
        }
        let mut stream = empty(&format!("resuming {}", streams.len()), request, position);
        let (mut dropped, enough) = (0, random.u64(1..=most));
        while (stream.events.len() as u64) < enough
            && let Some(said) = reader.next().await
        {
            if note(&mut stream, &said, &mut dropped) {
                break;
            }
        }
        last_id.clone_from(&reader.last_id);
        let is_finished = stream.end == End::Finished;
        streams.push(stream);
        if is_finished {
            return streams;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_stream_keeps_the_contract() {
    let mut random = random("http");
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut control = Control::new(&database).await;
    let plain = WatchDinosaursRequest::default();
    let reference = Recorder::start(hub.client().await, "gRPC", plain).await;
    let address = hub.app().addresses().api.clone();
    let mut recorded = Vec::new();
    for (name, media, query) in [
        ("SSE", SSE, ""),
        ("lines", LINES, ""),
        ("SSE with previous", SSE, "previous=true&policy=catch-up"),
        ("lines with previous and bookmarks", LINES, "previous=true&bookmarks=100ms"),
    ] {
        recorded.push(record(&address, name, media, query).await);
    }
    let most = random.u64(200..2000);
    let resuming = tokio::spawn(record_resuming(address.clone(), most, random.fork()));
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let load = Load::start(writers(&database, &mut random));
    load.until_rows(5_000).await;
    for (name, media) in [("SSE with a state", SSE), ("lines with a state", LINES)] {
        recorded.push(record(&address, name, media, "state=true&policy=catch-up").await);
    }
    load.until_rows(15_000).await;
    let writers = load.stop().await;
    control.write_sentinel().await;
    let mut history = History::default();
    history.streams.push(reference.finish().await);
    for stream in recorded {
        history.streams.push(stream.await.unwrap());
    }
    history.streams.extend(resuming.await.unwrap());
    assert!(history.streams.iter().all(|stream| matches!(stream.end, End::Finished | End::Left)));
    hub.stop().await;
    validate(&history, &control.journal(writers).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_each_event_once_through_restarts_of_the_hub() {
    let mut random = random("http restarts");
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.drain_timeout = std::time::Duration::from_secs(1);
    let mut hub = TestHub::start_with(settings.clone(), Registry::of_this_program()).await;
    let mut control = Control::new(&database).await;
    let address = hub.app().addresses().api.clone();
    let resuming = tokio::spawn(record_resuming(address.clone(), 1_000_000, random.fork()));
    crate::support::until("the reader is there", || {
        hub.metric("grpc_stream_subscribers_active", "Dinosaur") > 0.0
    })
    .await;
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let load = Load::start(writers(&database, &mut random));
    for rows in [3_000, 6_000, 9_000] {
        load.until_rows(rows).await;
        hub.stop().await;
        hub = TestHub::start_at_api(settings.clone(), &address).await;
    }
    load.until_rows(12_000).await;
    let writers = load.stop().await;
    control.write_sentinel().await;
    let streams = resuming.await.unwrap();
    let ended = streams.iter().filter(|stream| matches!(stream.end, End::Hub { .. })).count();
    assert!(ended >= 3, "a hub that stops says so: {ended}");
    hub.stop().await;
    let seen: usize = streams.iter().map(|stream| stream.events.len()).sum();
    let journal = control.journal(writers).await;
    let history = History { streams };
    validate(&history, &journal);
    let written: usize = journal.committed().map(|(_, transaction)| transaction.changes().count()).sum();
    assert_eq!(seen, written, "each event once");
}
