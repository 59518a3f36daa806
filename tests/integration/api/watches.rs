//! Watches from the outside: nothing is missed, and nothing stays behind.

use crate::support::{Database, PATIENCE, TestHub, until};
use futures_util::{future::join_all, poll};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    pin::pin,
    sync::Arc,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::Streaming;
use trex::{
    auth::PolicyCell,
    broker::{EventBroker, Fetch, History, Interest, Limits, Page, Policy, SchemaInterest},
    call::Call,
    catalog::Catalog,
    faces::Registry,
    feed::{self, Feed, SealedFeed, reader::LogReader, snapshot::Snapshots},
    log::Parts,
    model::{Epoch, KindId, Revision, Selector, Start},
    proto::rh_trex::v1::{
        CreateDinosaurRequest, DeleteDinosaurRequest, DinosaurWatchEvent, EventType, GetDinosaurRequest,
        ListDinosaursRequest, WatchDinosaursRequest,
    },
    service::{
        Door, Means, UseCases, WatchRequest,
        import::{self, Bulk},
    },
    store::Store,
    wire::Rendition,
};

async fn next(watch: &mut Streaming<DinosaurWatchEvent>) -> DinosaurWatchEvent {
    let event = timeout(*PATIENCE, watch.message()).await.expect("an event in time");
    event.expect("a stream").expect("no end")
}

#[tokio::test]
async fn deleting_what_is_not_there_makes_no_event() {
    let hub = TestHub::start(&Database::create().await).await;
    let mut client = hub.client().await;
    let mut watch = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    client.delete_dinosaur(DeleteDinosaurRequest { id: "nothing".into() }).await.unwrap_err();
    client.create_dinosaur(CreateDinosaurRequest { species: "s".into() }).await.unwrap();
    let event = next(&mut watch).await;
    assert_eq!((event.revision, event.r#type()), (1, EventType::Created));
    hub.stop().await;
}

#[tokio::test]
async fn a_watch_after_a_list_misses_nothing() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut client = hub.client().await;
    let session = database.connect().await;
    let writer = tokio::spawn(async move {
        for n in 0..300 {
            let insert = format!("INSERT INTO dinosaurs (species) VALUES ('s{n}')");
            session.batch_execute(&insert).await.unwrap();
        }
    });
    for _ in 0..20 {
        let request = ListDinosaursRequest { size: 500, ..Default::default() };
        let listed = client.list_dinosaurs(request).await.unwrap().into_inner();
        let mut seen: BTreeSet<_> = listed.items.into_iter().map(|item| item.species).collect();
        let after_revision = Some(listed.metadata.unwrap().revision);
        let request = WatchDinosaursRequest { after_revision, ..Default::default() };
        let mut watch = client.watch_dinosaurs(request).await.unwrap().into_inner();
        while seen.len() < 300 {
            seen.insert(next(&mut watch).await.dinosaur.unwrap().species);
        }
    }
    writer.await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_thousand_watches_come_and_go_without_a_trace() {
    let hub = TestHub::start(&Database::create().await).await;
    let client = hub.client().await;
    let topic = hub.app().broker().era().unwrap().topic("Dinosaur").unwrap();
    // The first call makes the connection's own tasks.
    client.clone().get_dinosaur(GetDinosaurRequest { id: "x".into() }).await.unwrap_err();
    let runtime = tokio::runtime::Handle::current().metrics();
    let tasks = runtime.num_alive_tasks();
    for round in 1..=2 {
        let watches = (0..1000).map(|_| {
            let mut client = client.clone();
            async move {
                let request = WatchDinosaursRequest::default();
                client.watch_dinosaurs(request).await.unwrap().into_inner()
            }
        });
        let mut watches = join_all(watches).await;
        assert_eq!(hub.metric("grpc_stream_subscribers_active", r#"kind="Dinosaur""#), 1000.0);
        assert_eq!(topic.subscribers(), 1000);
        let species = format!("round {round}");
        client.clone().create_dinosaur(CreateDinosaurRequest { species }).await.unwrap();
        for event in join_all(watches.iter_mut().map(next)).await {
            assert_eq!(event.revision, round);
        }
        drop(watches);
        until("the gauge is back", || hub.metric("grpc_stream_subscribers_active", "") == 0.0).await;
        assert_eq!((topic.subscribers(), topic.sleepers()), (0, 0));
        until("the tasks are gone", || runtime.num_alive_tasks() <= tasks).await;
    }
    drop(client);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_real_name_is_seen_exactly_once() {
    let file =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dinosaurs.ndjson")).unwrap();
    let name =
        |line: &str| serde_json::from_str::<BTreeMap<String, String>>(line).unwrap()["species"].clone();
    let names: Vec<String> = file.lines().map(name).collect();
    assert!(names.len() > 1000);
    let hub = TestHub::start(&Database::create().await).await;
    let client = hub.client().await;
    let request = WatchDinosaursRequest::default();
    let mut watch = client.clone().watch_dinosaurs(request).await.unwrap().into_inner();
    let mut writers = JoinSet::new();
    for chunk in names.chunks(names.len().div_ceil(16)) {
        let (chunk, mut client) = (chunk.to_vec(), client.clone());
        writers.spawn(async move {
            let mut created = Vec::new();
            for species in chunk {
                let request = CreateDinosaurRequest { species: species.clone() };
                let dinosaur = client.create_dinosaur(request).await.unwrap().into_inner();
                created.push((dinosaur.metadata.unwrap().id, species));
            }
            created
        });
    }
    let mut seen = BTreeMap::new();
    for revision in 1..=names.len() as u64 {
        let event = next(&mut watch).await;
        assert_eq!((event.revision, event.r#type()), (revision, EventType::Created));
        let twice = seen.insert(event.resource_id, event.dinosaur.unwrap().species);
        assert_eq!(twice, None);
    }
    let created: BTreeMap<_, _> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(seen, created);
    let mut species: Vec<_> = seen.into_values().collect();
    let mut names = names;
    species.sort();
    names.sort();
    assert_eq!(species, names);
    hub.stop().await;
}

struct NoHistory;

impl History for NoHistory {
    fn cached(&self, _: &KindId, _: Revision, _: Revision) -> Option<Arc<Page>> {
        None
    }

    fn fetch(&self, _: &KindId, _: Revision, _: Revision, _: Parts) -> Fetch {
        Box::pin(pending())
    }

    fn oldest(&self) -> Revision {
        Revision::ZERO
    }
}

#[tokio::test]
async fn a_watch_that_waited_for_the_hub_and_finds_no_place_is_told_that() {
    const KIND: &str = "Dinosaur";
    let database = Database::create().await;
    let other = TestHub::start(&database).await;
    let species = "s".to_owned();
    other.client().await.create_dinosaur(CreateDinosaurRequest { species }).await.unwrap();
    until("the database knows it", || other.metric("hub_head_revision", "") == 1.0).await;
    // A hub that publishes when it is told to.
    let metrics = other.app().metrics();
    let catalog = Catalog::new(Registry::of_this_program().kinds());
    let limits = Limits { max_subscribers: 1, ..Limits::default() };
    let broker = Arc::new(EventBroker::new(catalog.clone(), limits, metrics.clone()));
    let era = broker.begin(Epoch::new("e"), Revision::ZERO, &(Arc::new(NoHistory) as Arc<dyn History>));
    let store = Store::new(&database.target(), 1).unwrap();
    let capture = feed::Settings::default();
    let feed = Arc::new(SealedFeed::new(database.target(), capture, metrics.clone(), Default::default()));
    let door = Door::new(PolicyCell::default(), catalog.clone());
    let means = Means {
        bulk: Bulk::new(store.clone(), 1, import::Limits::default(), metrics),
        store,
        broker: broker.clone(),
        snapshots: Snapshots::new(feed.clone(), catalog.clone(), u64::MAX),
        reader: LogReader::new(feed.replay().clone()),
        catalog: catalog.clone(),
        metrics: metrics.clone(),
        keeps_audit: false,
    };
    let cases = UseCases::new(means, door);
    let request = WatchRequest { after: Some(Revision::new(1)), ..WatchRequest::default() };
    let (call, kinds) = (Call::default(), catalog.kinds());
    let mut watch = pin!(cases.watch(&call, kinds.get(KIND).unwrap(), request));
    assert!(poll!(&mut watch).is_pending(), "it is ahead of the hub");
    let policy = Policy::Drop;
    let interest = Interest {
        selector: Selector::ALL,
        filter: None,
        sight: trex::model::filter::Sight::Whole,
        rendition: Rendition::Grpc,
        composer: None,
        schema: SchemaInterest::NONE,
        include_previous: false,
        buffer: 1,
        policy,
    };
    let _last = era.topic(KIND).unwrap().subscribe(Start::Now, interest).unwrap();
    broker.publish(&era, &[KIND.into()], HashMap::new(), Revision::new(1));
    let refused = timeout(*PATIENCE, watch).await.unwrap().err().unwrap();
    assert_eq!(refused.row().reason, "TOO_MANY");
    other.stop().await;
}
