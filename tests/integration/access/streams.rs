//! Streams whose callers' credentials end.

use super::{Issuer, dinosaurs, now, reason, token};
use crate::support::{Database, PATIENCE, TestHub};
use serde_json::json;
use std::{collections::BTreeMap, fs, time::Duration};
use tokio::time::timeout;
use tonic::Code;
use trex::{
    app::Settings,
    client::{Access, Hub, Notice, Token, Watch, WatchOptions, WatchStart},
    faces::Registry,
    proto::rh_trex::v1::{BackpressurePolicy, WatchDinosaursRequest},
};

/// How long a token of these tests lives, in seconds.
const LIFE: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_says_where_it_stands() {
    let (database, issuer) = (Database::create().await, Issuer::new());
    let hub = TestHub::start_with(issuer.settings(&database), Registry::of_this_program()).await;
    let mut client = dinosaurs(&hub, Some(&token("alice", json!({"exp": now() + LIFE})))).await;
    let mut stream = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    let sql = "INSERT INTO dinosaurs (species) VALUES ('x')";
    database.connect().await.batch_execute(sql).await.unwrap();
    let event = timeout(*PATIENCE, stream.message()).await.expect("an event").unwrap().unwrap();
    let ended = timeout(*PATIENCE, stream.message()).await.expect("its end").unwrap_err();
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unauthenticated, "TOKEN_EXPIRED"));
    let revision = ended.metadata().get("hub-revision").unwrap().to_str().unwrap();
    assert_eq!(revision, event.revision.to_string());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_with_new_tokens_and_has_every_event_once() {
    const EVENTS: usize = 300;
    let (database, issuer) = (Database::create().await, Issuer::new());
    let hub = TestHub::start_with(issuer.settings(&database), Registry::of_this_program()).await;
    let file = issuer.file("token");
    let renewed = file.clone();
    let renew = move || {
        // By a rename, so that no half of it is read.
        let fresh = renewed.with_extension("new");
        fs::write(&fresh, token("alice", json!({"exp": now() + LIFE}))).unwrap();
        fs::rename(&fresh, &renewed).unwrap();
    };
    renew();
    let renewing = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            renew();
        }
    });
    let access = Access { token: Token::File(file.as_path().into()), ..Access::default() };
    let address = hub.app().addresses().grpc.clone().unwrap();
    let options = WatchOptions {
        types: vec![],
        resource_ids: vec![],
        filter: String::new(),
        start: WatchStart::State,
        backpressure: BackpressurePolicy::CatchUp,
    };
    let mut watch = Watch::new(Hub::new(&address, &access).unwrap(), options);
    let session = database.connect().await;
    let writing = tokio::spawn(async move {
        for number in 0..EVENTS {
            let sql = "INSERT INTO dinosaurs (species) VALUES ($1)";
            session.execute(sql, &[&number.to_string()]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (mut seen, mut ends, mut last) = (BTreeMap::<String, u32>::new(), 0, 0);
    while seen.len() < EVENTS {
        match timeout(*PATIENCE, watch.next()).await.expect("a notice").unwrap() {
            Notice::Event(event) => {
                assert!(event.revision == 0 || event.revision > last, "{} after {last}", event.revision);
                last = last.max(event.revision);
                *seen.entry(event.dinosaur.unwrap().species).or_default() += 1;
            }
            Notice::Disconnected { why, .. } => {
                assert!(why.starts_with("Unauthenticated"), "{why}");
                ends += 1;
            }
            Notice::Connected { .. } | Notice::Complete { .. } => {}
        }
    }
    writing.await.unwrap();
    renewing.abort();
    assert!(ends >= 2, "{ends} ends in six seconds");
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_old_enough_ends_with_where_its_streams_stand() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.connections.max_age = Some(Duration::from_millis(700));
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut client = hub.client().await;
    let mut stream = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    let ended = timeout(*PATIENCE, stream.message()).await.expect("its end").unwrap_err();
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unavailable, "UNAVAILABLE"));
    assert!(ended.metadata().contains_key("hub-revision"), "{ended:?}");
    let options = WatchOptions {
        types: vec![],
        resource_ids: vec![],
        filter: String::new(),
        start: WatchStart::Now,
        backpressure: BackpressurePolicy::CatchUp,
    };
    let address = hub.app().addresses().grpc.clone().unwrap();
    let mut watch = Watch::new(Hub::new(&address, &Access::default()).unwrap(), options);
    assert!(matches!(watch.next().await.unwrap(), Notice::Connected { .. }));
    let session = database.connect().await;
    let (mut seen, mut ends) = (0, 0);
    while ends < 3 {
        let sql = format!("INSERT INTO dinosaurs (species) VALUES ('{seen}')");
        session.batch_execute(&sql).await.unwrap();
        let event = loop {
            match timeout(*PATIENCE, watch.next()).await.expect("a notice").unwrap() {
                Notice::Event(event) => break event,
                Notice::Disconnected { .. } => ends += 1,
                Notice::Connected { .. } | Notice::Complete { .. } => {}
            }
        };
        assert_eq!(event.dinosaur.unwrap().species, seen.to_string());
        seen += 1;
    }
    hub.stop().await;
}
