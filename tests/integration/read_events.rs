//! The log in batches: complete, from wherever a reader stopped, and honest about what is gone.

use crate::{
    stress::random,
    support::{
        Database, PATIENCE, TestHub,
        fossil::Fossils,
        wire::{metadata, reason, violations},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{Code, Status};
use trex::{
    app::Settings,
    faces::{Registry, dinosaurs::Dinosaurs},
    proto::{
        hub::v1::{Event, ReadEventsRequest, ReadEventsResponse},
        rh_trex::v1::EventType,
    },
    store::{Store, begin_epoch},
};

fn two_kinds() -> Registry {
    Registry::new(vec![Arc::new(Dinosaurs), Arc::new(Fossils)])
}

fn after(revision: u64, batch_size: u32) -> ReadEventsRequest {
    ReadEventsRequest { after_revision: revision, batch_size, ..Default::default() }
}

async fn batches(hub: &TestHub, request: ReadEventsRequest) -> Result<Vec<ReadEventsResponse>, Status> {
    let mut stream = hub.events().await.read_events(request).await?.into_inner();
    let mut batches = Vec::new();
    while let Some(batch) = timeout(*PATIENCE, stream.message()).await.expect("a batch in time")? {
        batches.push(batch);
    }
    Ok(batches)
}

async fn refused(hub: &TestHub, request: ReadEventsRequest) -> Status {
    hub.events().await.read_events(request).await.expect_err("a refusal")
}

fn revisions<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u64> {
    events.into_iter().map(|event| event.revision).collect()
}

/// A hub that has published this many created dinosaurs, and nothing else.
async fn hub_with(rows: u32) -> (Database, TestHub) {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let sql = "INSERT INTO dinosaurs (id, species) SELECT 'd' || n, 's' FROM generate_series(1, $1::int) n";
    database.connect().await.execute(sql, &[&i32::try_from(rows).unwrap()]).await.unwrap();
    published(&hub, rows.into()).await;
    (database, hub)
}

async fn published(hub: &TestHub, revision: u64) {
    crate::support::until("it is published", || hub.metric("hub_head_revision", "") as u64 >= revision).await;
}

#[tokio::test]
async fn an_event_is_the_change_as_it_was_captured() {
    let database = Database::create().await;
    let hub = TestHub::start_with(Settings::new(database.target()), two_kinds()).await;
    let session = database.connect().await;
    session
        .batch_execute(
            "SET hub.actor = 'alice'; SET hub.origin = 'billing'; SET hub.trace = '00-1';
             INSERT INTO fossils (site, number, weight) VALUES ('a/b', 7, 12345678901234567890.10);
             RESET hub.actor; RESET hub.origin; RESET hub.trace;
             INSERT INTO dinosaurs (id, species) VALUES ('x', 'old');
             UPDATE dinosaurs SET species = 'new'; DELETE FROM dinosaurs",
        )
        .await
        .unwrap();
    published(&hub, 4).await;
    let request = ReadEventsRequest { include_previous: true, ..Default::default() };
    let [batch] = &batches(&hub, request).await.unwrap()[..] else { panic!("one batch") };
    let epoch = hub.app().broker().era().unwrap().epoch.clone();
    assert_eq!((batch.next_after_revision, batch.head_revision), (4, 4));
    assert_eq!(batch.epoch, epoch.as_str());
    let [fossil, created, updated, deleted] = &batch.events[..] else { panic!("{:?}", batch.events) };
    assert_eq!((fossil.kind.as_str(), fossil.resource_id.as_str()), ("Fossil", "a%2Fb/7"));
    assert_eq!([&fossil.actor, &fossil.origin, &fossil.trace], ["alice", "billing", "00-1"]);
    assert!(fossil.after_json.contains("\"weight\":12345678901234567890.10"), "{}", fossil.after_json);
    assert_eq!(fossil.before_json, "");
    let user = session.query_one("SELECT session_user::text", &[]).await.unwrap().get::<_, String>(0);
    for event in [created, updated, deleted] {
        assert_eq!((event.kind.as_str(), event.resource_id.as_str()), ("Dinosaur", "x"));
        assert_eq!([&event.actor, &event.origin, &event.trace], [&user, "", ""]);
        assert!(event.occurred_at.is_some());
    }
    let species = |row: &str| match row {
        "" => None,
        row => Some(
            serde_json::from_str::<serde_json::Value>(row).unwrap()["species"].as_str().unwrap().to_owned(),
        ),
    };
    let seen: Vec<_> = [created, updated, deleted]
        .map(|event| (event.r#type(), species(&event.before_json), species(&event.after_json)))
        .into();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            (EventType::Created, None, text("old")),
            (EventType::Updated, text("old"), text("new")),
            (EventType::Deleted, text("new"), None),
        ]
    );
    let without = batches(&hub, ReadEventsRequest::default()).await.unwrap();
    assert!(without[0].events.iter().all(|event| event.before_json.is_empty()), "not asked for");
    hub.stop().await;
}

#[tokio::test]
async fn batches_of_any_size_are_the_same_log() {
    let (_database, hub) = hub_with(2_345).await;
    for (size, longest) in [(0, 500), (1_000, 1_000), (7, 7), (10_000, 2_345)] {
        let read = batches(&hub, after(100, size)).await.unwrap();
        assert!(read.iter().all(|batch| batch.events.len() <= longest && batch.head_revision == 2_345));
        let mut at = 100;
        for batch in &read {
            assert_eq!(revisions(&batch.events), (at + 1..=batch.next_after_revision).collect::<Vec<_>>());
            at = batch.next_after_revision;
        }
        assert_eq!(at, 2_345);
        assert!(size < 10_000 || read.len() == 1, "as many as were asked for");
    }
    let [nothing] = &batches(&hub, after(2_345, 0)).await.unwrap()[..] else { panic!("one batch") };
    assert_eq!((nothing.events.len(), nothing.next_after_revision), (0, 2_345));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_restarted_at_random_gets_every_event_once() {
    const TRANSACTIONS: u64 = 600;
    let mut random = random("read events");
    let database = Database::create().await;
    let hub = TestHub::start_with(Settings::new(database.target()), two_kinds()).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (target, mut random) = (database.target(), random.fork());
            tokio::spawn(async move {
                let session = target.open().await.unwrap();
                for n in 0..TRANSACTIONS / 4 {
                    let rows = random.i32(1..30);
                    let sql = format!(
                        "BEGIN; INSERT INTO dinosaurs (id, species) SELECT '{writer}-{n}-' || r, 's'
                         FROM generate_series(1, {rows}) r;
                         INSERT INTO fossils (site, number) SELECT '{writer}-{n}', r
                         FROM generate_series(1, {}) r;
                         DELETE FROM dinosaurs WHERE id = '{writer}-{}-1'; {}",
                        random.i32(0..10),
                        random.u64(0..=n),
                        if random.u8(0..10) == 0 { "ROLLBACK" } else { "COMMIT" },
                    );
                    session.batch_execute(&sql).await.unwrap();
                }
            })
        })
        .collect();
    // Of everything, and of one kind: the first must be without a gap, the other what the first has of it.
    let mut seen: [BTreeMap<u64, (String, String)>; 2] = Default::default();
    let mut positions = [0, 0];
    let (mut epoch, mut done, mut restarts) = (String::new(), false, 0);
    let kinds = [vec![], vec!["Fossil".to_owned()]];
    loop {
        // Looked at before reading: what these writers wrote is read after that.
        done = done || writers.iter().all(|writer| writer.is_finished());
        if done {
            let sealed = Store::new(&database.target(), 1).unwrap().head().await.unwrap().get();
            published(&hub, sealed).await;
            if positions == [sealed; 2] {
                break;
            }
        }
        for ((seen, position), kinds) in seen.iter_mut().zip(&mut positions).zip(&kinds) {
            let request = ReadEventsRequest {
                after_revision: *position,
                epoch: epoch.clone(),
                kinds: kinds.clone(),
                batch_size: random.u32(1..200),
                include_previous: false,
            };
            let mut stream = hub.events().await.read_events(request).await.unwrap().into_inner();
            // Leaves it in the middle, more often than not.
            for _ in 0..random.usize(1..12) {
                let Some(batch) = timeout(*PATIENCE, stream.message()).await.expect("in time").unwrap()
                else {
                    break;
                };
                for event in batch.events {
                    assert!(event.revision > *position, "{} after {position}", event.revision);
                    let twice = seen.insert(event.revision, (event.kind, event.resource_id));
                    assert_eq!(twice, None, "{} came twice", event.revision);
                }
                *position = batch.next_after_revision;
                epoch = batch.epoch;
            }
            restarts += 1;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let [all, fossils] = seen;
    println!("{} events, {restarts} calls", all.len());
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), (1..=positions[0]).collect::<Vec<_>>(), "no gap");
    let expected: BTreeMap<_, _> = all.into_iter().filter(|(_, (kind, _))| kind == "Fossil").collect();
    assert_eq!(fossils, expected);
    let rows = database.connect().await.query_one("SELECT count(*) FROM fossils", &[]).await.unwrap();
    assert_eq!(fossils.len() as i64, rows.get::<_, i64>(0), "each row of the table was created once");
    hub.stop().await;
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes() {
    const MIB: usize = 1 << 20;
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    // Small ones first, so that many are asked for when the large ones come.
    let sql = "INSERT INTO dinosaurs (id, species) SELECT 'd' || n,
               repeat('x', CASE WHEN n > 600 THEN 300000 ELSE 1 END)
               FROM generate_series(1, 650) n";
    session.batch_execute(sql).await.unwrap();
    published(&hub, 650).await;
    let read = batches(&hub, after(0, 10_000)).await.unwrap();
    let sizes: Vec<usize> =
        read.iter().map(|batch| batch.events.iter().map(|event| event.after_json.len()).sum()).collect();
    assert!(sizes.iter().all(|size| *size < MIB + 301_000), "{sizes:?}");
    assert!(sizes.len() >= 12, "{sizes:?}");
    assert_eq!(revisions(read.iter().flat_map(|batch| &batch.events)), (1..=650).collect::<Vec<_>>());
    hub.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_reason() {
    let (database, hub) = hub_with(10).await;
    let too_large = refused(&hub, after(0, 10_001)).await;
    assert_eq!(
        (too_large.code(), violations(&too_large)),
        (Code::InvalidArgument, vec!["batch_size".to_owned()])
    );
    let kinds = vec!["Dinosaur".to_owned(), "Unicorn".to_owned()];
    let unknown = refused(&hub, ReadEventsRequest { kinds, ..Default::default() }).await;
    assert_eq!((unknown.code(), violations(&unknown)), (Code::InvalidArgument, vec!["kinds".to_owned()]));
    assert!(unknown.message().contains("Unicorn"), "{unknown:?}");
    let ahead = refused(&hub, after(11, 0)).await;
    assert_eq!((ahead.code(), reason(&ahead).as_str()), (Code::OutOfRange, "REVISION_UNKNOWN"));
    assert_eq!(
        (metadata(&ahead, "asked").as_str(), metadata(&ahead, "head_revision").as_str()),
        ("11", "10")
    );
    let other = refused(&hub, ReadEventsRequest { epoch: "another".into(), ..Default::default() }).await;
    assert_eq!((other.code(), reason(&other).as_str()), (Code::OutOfRange, "EPOCH_CHANGED"));
    let store = Store::new(&database.target(), 1).unwrap();
    store.raise_floor(Duration::ZERO, u64::MAX, 1).await.unwrap();
    let compacted = refused(&hub, after(9, 0)).await;
    assert_eq!((compacted.code(), reason(&compacted).as_str()), (Code::OutOfRange, "REVISION_COMPACTED"));
    assert_eq!(metadata(&compacted, "oldest_revision"), "10");
    assert!(batches(&hub, after(10, 0)).await.is_ok());
    hub.stop().await;
}

/// Reads one batch of many, does something to the log, and reads on until it is told.
async fn overtaken(rows: u32, what: impl AsyncFnOnce(&Database)) -> (u64, Status) {
    let (database, hub) = hub_with(rows).await;
    let mut stream = hub.events().await.read_events(after(0, 50)).await.unwrap().into_inner();
    let first = timeout(*PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    let mut at = first.next_after_revision;
    assert_eq!(at, 50);
    what(&database).await;
    let end = loop {
        match timeout(*PATIENCE, stream.message()).await.expect("an end in time") {
            Ok(Some(batch)) => {
                assert_eq!(
                    revisions(&batch.events),
                    (at + 1..=batch.next_after_revision).collect::<Vec<_>>()
                );
                at = batch.next_after_revision;
            }
            Ok(None) => panic!("it ended well at {at}"),
            Err(status) => break status,
        }
    };
    hub.stop().await;
    (at, end)
}

#[tokio::test]
async fn a_reader_that_the_floor_passes_is_told_and_skips_nothing() {
    let raise = async |database: &Database| {
        let store = Store::new(&database.target(), 1).unwrap();
        store.raise_floor(Duration::ZERO, u64::MAX, 100).await.unwrap();
        while store.delete_below_floor(5_000).await.unwrap() > 0 {}
    };
    let (at, end) = overtaken(20_000, raise).await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::OutOfRange, "REVISION_COMPACTED"));
    assert_eq!(metadata(&end, "asked"), at.to_string());
    assert_eq!(metadata(&end, "oldest_revision"), "20000");
}

#[tokio::test]
async fn a_reader_whose_history_is_replaced_is_told() {
    let begin =
        async |database: &Database| begin_epoch(&database.target(), trex::store::Doubt::Told).await.unwrap();
    let (_, end) = overtaken(20_000, begin).await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::OutOfRange, "EPOCH_CHANGED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_says_so_to_those_who_read() {
    let (_database, hub) = hub_with(20_000).await;
    let mut stream = hub.events().await.read_events(after(0, 10)).await.unwrap().into_inner();
    timeout(*PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    let stopping = tokio::spawn(hub.stop());
    let end = loop {
        match timeout(*PATIENCE, stream.message()).await.expect("an end in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("all was read before the stop"),
            Err(status) => break status,
        }
    };
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    timeout(*PATIENCE, stopping).await.unwrap().unwrap();
}
