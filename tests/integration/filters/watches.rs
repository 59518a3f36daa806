//! What a filtered watch gets on the wire, and what its filter costs.

use crate::support::{
    Database, PATIENCE, TestHub, until,
    wire::{reason, violations},
};
use tokio::time::timeout;
use tonic::{Code, Streaming};
use trex::proto::rh_trex::v1::{DinosaurWatchEvent, EventType, WatchDinosaursRequest};

fn watch(filter: &str) -> WatchDinosaursRequest {
    WatchDinosaursRequest { filter: filter.into(), ..Default::default() }
}

async fn start(hub: &TestHub, request: WatchDinosaursRequest) -> Streaming<DinosaurWatchEvent> {
    hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner()
}

/// Type, id, the row's species, that of the row before; without the prefix that all types have.
async fn next(watch: &mut Streaming<DinosaurWatchEvent>) -> String {
    let event =
        timeout(*PATIENCE, watch.message()).await.expect("an event in time").unwrap().expect("no end");
    let species =
        |row: &Option<trex::proto::rh_trex::v1::Dinosaur>| row.as_ref().map(|row| row.species.clone());
    let kind = event.r#type().as_str_name().trim_start_matches("EVENT_TYPE_");
    format!("{kind} {} {:?} {:?}", event.resource_id, species(&event.dinosaur), species(&event.previous))
}

const COME_AND_GO: &str = "INSERT INTO dinosaurs (id, species) VALUES ('a', 'Trex'), ('b', 'Rex');
    UPDATE dinosaurs SET species = 'Tyrex' WHERE id = 'a';
    UPDATE dinosaurs SET species = 'Torvo' WHERE id = 'b';
    UPDATE dinosaurs SET species = 'Max' WHERE id = 'a';
    UPDATE dinosaurs SET species = 'Mux' WHERE id = 'a';
    DELETE FROM dinosaurs WHERE id = 'b';
    DELETE FROM dinosaurs WHERE id = 'a';
    INSERT INTO dinosaurs (id, species) VALUES ('end', 'The end')";

#[tokio::test]
async fn rows_come_and_go() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut plain = start(&hub, watch("species = \"T*\"")).await;
    let with_previous = WatchDinosaursRequest { include_previous: true, ..watch("species = \"T*\"") };
    let mut with_previous = start(&hub, with_previous).await;
    let mut not_deleted = start(&hub, watch("species = \"T*\" AND type != DELETED")).await;
    let created =
        WatchDinosaursRequest { types: vec![EventType::Created.into()], ..watch("species = \"T*\"") };
    let mut created = start(&hub, created).await;
    database.connect().await.batch_execute(COME_AND_GO).await.unwrap();
    for expected in [
        r#"CREATED a Some("Trex") None"#,
        r#"UPDATED a Some("Tyrex") None"#,
        r#"CREATED b Some("Torvo") None"#,
        r#"DELETED a None Some("Tyrex")"#,
        r#"DELETED b None None"#,
        r#"CREATED end Some("The end") None"#,
    ] {
        assert_eq!(next(&mut plain).await, expected);
        if !expected.starts_with("DELETED") {
            assert_eq!(next(&mut not_deleted).await, expected);
        }
        if expected.starts_with("CREATED") {
            assert_eq!(next(&mut created).await, expected);
        }
    }
    for expected in [
        r#"CREATED a Some("Trex") None"#,
        r#"UPDATED a Some("Tyrex") Some("Trex")"#,
        r#"CREATED b Some("Torvo") None"#,
        r#"DELETED a None Some("Tyrex")"#,
        r#"DELETED b None Some("Torvo")"#,
    ] {
        assert_eq!(next(&mut with_previous).await, expected);
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_state_is_filtered_too() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    session
        .batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 'Trex'), ('b', 'Rex')")
        .await
        .unwrap();
    let state = |filter| WatchDinosaursRequest { send_initial_state: true, ..watch(filter) };
    let mut state_of_t = start(&hub, state("species = 'T*' AND type != DELETED")).await;
    assert_eq!(next(&mut state_of_t).await, r#"SNAPSHOT a Some("Trex") None"#);
    assert_eq!(next(&mut state_of_t).await, "BOOKMARK  None None");
    let mut none = start(&hub, state("type = CREATED")).await;
    assert_eq!(next(&mut none).await, "BOOKMARK  None None");
    session.batch_execute("UPDATE dinosaurs SET species = 'Tex' WHERE id = 'b'").await.unwrap();
    assert_eq!(next(&mut state_of_t).await, r#"CREATED b Some("Tex") None"#);
    hub.stop().await;
}

#[tokio::test]
async fn a_bad_filter_is_refused_with_its_position() {
    let hub = TestHub::start(&Database::create().await).await;
    for (filter, position) in
        [("species = \"é\" AND spcies = x", 19), ("created_at > soon", 14), ("type = GONE", 8)]
    {
        let status = hub.client().await.watch_dinosaurs(watch(filter)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            (reason(&status).as_str(), violations(&status)),
            ("INVALID_FIELD", vec!["filter".to_owned()])
        );
        let at = format!("filter: at character {position}: ");
        assert!(status.message().starts_with(&at), "{}", status.message());
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_subscribers_with_five_filters_cost_five_evaluations_an_event() {
    const EVENTS: i32 = 2000;
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let filters = [
        "species = 'T*'",
        "species = *9*",
        "id:*",
        "species = end OR created_at > 2001-01-01T00:00:00Z",
        "NOT species = 'A*'",
    ];
    let client = hub.client().await;
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..100 {
        let mut stream = client.clone().watch_dinosaurs(watch(filters[n % 5])).await.unwrap().into_inner();
        readers.spawn(async move {
            loop {
                let event =
                    timeout(*PATIENCE, stream.message()).await.expect("an event in time").unwrap().unwrap();
                if event.dinosaur.is_some_and(|row| row.species == "T9 the end") {
                    return stream;
                }
            }
        });
    }
    let session = database.connect().await;
    for batch in 0..20 {
        let insert = format!(
            "INSERT INTO dinosaurs (species) SELECT substr('ATX', 1 + n % 3, 1) || n || '-{batch}'
             FROM generate_series(1, {}) n",
            EVENTS / 20
        );
        session.batch_execute(&insert).await.unwrap();
    }
    session.batch_execute("INSERT INTO dinosaurs (species) VALUES ('T9 the end')").await.unwrap();
    let streams = readers.join_all().await;
    let evaluations = || hub.metric("hub_filter_evaluations_total", r#"kind="Dinosaur""#);
    assert_eq!(evaluations(), f64::from((EVENTS + 1) * 5));
    drop(streams);
    until("the streams are gone", || hub.metric("grpc_stream_subscribers_active", "") == 0.0).await;
    hub.stop().await;
}
