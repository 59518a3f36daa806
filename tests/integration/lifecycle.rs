//! Starts and stops of the hub and of its database: what calls and streams notice.

use crate::support::{Database, PATIENCE, TestHub, until, wire::reason};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, time::timeout};
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use trex::{
    app::Settings,
    controller::Controllers,
    embedded::testing::EphemeralPostgres,
    faces::Registry,
    feed::Wakeups,
    proto::rh_trex::v1::{
        CreateDinosaurRequest, DinosaurWatchEvent, GetDinosaurRequest, ListDinosaursRequest,
        UpdateDinosaurRequest, WatchDinosaursRequest,
    },
    store::{DatabaseError, Driven, Store, Target},
};

async fn next(watch: &mut Streaming<DinosaurWatchEvent>) -> DinosaurWatchEvent {
    let event = timeout(*PATIENCE, watch.message()).await.expect("an event in time");
    event.expect("a stream").expect("no end")
}

async fn watch(hub: &TestHub) -> Streaming<DinosaurWatchEvent> {
    let request = WatchDinosaursRequest::default();
    hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner()
}

async fn insert(session: &Driven, species: &str) {
    session.execute("INSERT INTO dinosaurs (species) VALUES ($1)", &[&species]).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_watches_with_what_they_need_to_resume() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut watches = [watch(&hub).await, watch(&hub).await];
    insert(&database.connect().await, "last").await;
    for watch in &mut watches {
        assert_eq!(next(watch).await.revision, 1);
    }
    let stopping = tokio::spawn(hub.stop());
    for mut watch in watches {
        let status = timeout(*PATIENCE, watch.message()).await.unwrap().unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        let trailer = |name| status.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!((trailer("hub-revision").as_str(), trailer("hub-dropped").as_str()), ("1", "0"));
    }
    timeout(*PATIENCE, stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_watch_that_waits_for_its_state() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs").await.unwrap();
    let mut client = hub.client().await;
    let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let opening = tokio::spawn(async move { client.watch_dinosaurs(request).await });
    let waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'public.dinosaurs'::regclass";
    let watched = async { while session.query(waits, &[]).await.unwrap().is_empty() {} };
    timeout(*PATIENCE, watched).await.expect("it waits for the table");
    timeout(*PATIENCE, hub.stop()).await.unwrap();
    let refused = timeout(*PATIENCE, opening).await.unwrap().unwrap().err().unwrap();
    // Not what it is told when the database took too long.
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "the hub is shutting down"));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    session.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_calls_under_way() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    session.batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 'old')").await.unwrap();
    session.batch_execute("BEGIN; SELECT FROM dinosaurs FOR UPDATE").await.unwrap();
    let mut client = hub.client().await;
    let update = UpdateDinosaurRequest { id: "a".into(), species: Some("new".into()) };
    let call = tokio::spawn(async move { client.update_dinosaur(update).await });
    until_one_waits(&database.connect().await).await;
    let (health, mut stream) = (hub.app().health().clone(), watch(&hub).await);
    let stopping = tokio::spawn(hub.stop());
    // The watch has ended, so the drain is under way; the call is not cut off by it.
    assert_eq!(timeout(*PATIENCE, stream.message()).await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(health.reasons().contains(&"shutting down".to_owned()));
    assert!(!call.is_finished());
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(timeout(*PATIENCE, call).await.unwrap().unwrap().unwrap().into_inner().species, "new");
    timeout(*PATIENCE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_of_the_pool_outlives_the_lane_that_opened_it() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    let store = Store::new(&database.target(), 1).unwrap();
    let ((opened, opens), (end, ends)) = (oneshot::channel(), oneshot::channel::<()>());
    let opener = store.clone();
    let lane = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            opened.send(opener.head().await).unwrap();
            let _ = ends.await;
        });
    });
    timeout(*PATIENCE, opens).await.unwrap().unwrap().unwrap();

    let (session, observer) = (database.connect().await, database.connect().await);
    session.batch_execute("BEGIN; LOCK TABLE hub.head IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let call = tokio::spawn(async move { store.head().await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'hub.head'::regclass
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waits = async || observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1;
    timeout(*PATIENCE, async { while !waits().await {} }).await.expect("the call waits for the lock");
    drop(end);
    lane.await.unwrap();
    session.batch_execute("COMMIT").await.unwrap();
    timeout(*PATIENCE, call).await.unwrap().unwrap().expect("an answer on the same connection");
}

#[tokio::test]
async fn a_database_that_goes_and_comes_is_a_pause_and_no_loss() {
    let cluster = EphemeralPostgres::start(vec![]).await.unwrap();
    let database = Database::create_on(&cluster).await;
    let hub = TestHub::start(&database).await;
    let service = "rh_trex.v1.DinosaurService".to_owned();
    let mut health = HealthClient::new(hub.channel().await);
    let mut states =
        health.watch(HealthCheckRequest { service: service.clone() }).await.unwrap().into_inner();
    let mut serving = async || {
        let state = timeout(*PATIENCE, states.message()).await.expect("a state in time").unwrap().unwrap();
        state.status()
    };
    assert_eq!(serving().await, ServingStatus::Serving);
    let mut stream = watch(&hub).await;
    insert(&database.connect().await, "before").await;
    assert_eq!(next(&mut stream).await.revision, 1);

    for round in 0..2 {
        cluster.halt().await.unwrap();
        assert_eq!(serving().await, ServingStatus::NotServing);
        assert_eq!(hub.app().health().reasons(), ["the database is not in sight"]);
        let refused =
            hub.client().await.get_dinosaur(GetDinosaurRequest { id: "x".into() }).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UNAVAILABLE"));
        assert!(refused.get_details_retry_info().is_some());
        let all = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(all.status(), ServingStatus::NotServing);
        cluster.restart().await.unwrap();
        // Perhaps before the hub is back.
        insert(&database.connect().await, "meanwhile").await;
        assert_eq!(next(&mut stream).await.revision, 2 + 2 * round);
        assert_eq!(serving().await, ServingStatus::Serving);
        insert(&database.connect().await, "after").await;
        assert_eq!(next(&mut stream).await.revision, 3 + 2 * round);
    }
    drop(stream);
    hub.stop().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_hub_may_start_before_its_database() {
    let cluster = EphemeralPostgres::start(vec![]).await.unwrap();
    let database = Database::create_on(&cluster).await;
    TestHub::start(&database).await.stop().await;
    cluster.halt().await.unwrap();
    let mut settings = Settings::new(database.target());
    settings.migrate = false;
    let hub = TestHub::launch(settings, Registry::of_this_program()).await;
    assert_eq!(hub.app().health().reasons(), ["the database is not in sight"]);
    let request = WatchDinosaursRequest::default();
    let refused = hub.client().await.watch_dinosaurs(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    cluster.restart().await.unwrap();
    until("the hub is ready", || hub.app().health().reasons().is_empty()).await;
    let mut stream = watch(&hub).await;
    insert(&database.connect().await, "first").await;
    assert_eq!(next(&mut stream).await.revision, 1);
    drop(stream);
    hub.stop().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_polling_hub_delivers_everything() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.capture.wakeups = Wakeups::Poll;
    settings.capture.poll = Duration::from_millis(5);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut stream = watch(&hub).await;
    let session = database.connect().await;
    for n in 1..=200 {
        insert(&session, &format!("s{n}")).await;
        if n % 50 == 0 {
            session.batch_execute("UPDATE dinosaurs SET species = species || '!'").await.unwrap();
        }
    }
    for revision in 1..=200 + 50 + 100 + 150 + 200 {
        assert_eq!(next(&mut stream).await.revision, revision);
    }
    assert_eq!(hub.metric("hub_doorbell_rings_total", ""), 0.0);
    let listens = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 3
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(session.query_one(listens, &[]).await.unwrap().get::<_, i64>(0), 0, "as through a pooler");
    drop(stream);
    hub.stop().await;
}

/// The default isolation of a database is for its writers: the hub's sessions set their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_defaults_to_repeatable_read_is_served() {
    for wakeups in [Wakeups::Listen, Wakeups::Poll] {
        let database = Database::create().await;
        let session = database.connect().await;
        let name: String = session.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
        let default = "default_transaction_isolation = 'repeatable read'";
        session.batch_execute(&format!("ALTER DATABASE {name} SET {default}; SET {default}")).await.unwrap();
        let mut settings = Settings::new(database.target());
        settings.capture.wakeups = wakeups;
        settings.controllers = Controllers::of_this_program(Some(Duration::from_secs(3600)));
        let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
        session.batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 'old')").await.unwrap();
        let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
        let mut stream = hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner();
        assert_eq!(next(&mut stream).await.resource_id, "a");
        assert_eq!(next(&mut stream).await.revision, 1);
        insert(&session, "next").await;
        assert_eq!(next(&mut stream).await.revision, 2);
        let audited = || hub.metric("hub_controller_position", "audit") as u64;
        until("both are in the trail", || audited() == 2).await;
        // Behind a pooler a session keeps no settings.
        if wakeups == Wakeups::Listen {
            session.batch_execute("BEGIN; UPDATE dinosaurs SET species = 'first'").await.unwrap();
            let mut client = hub.client().await;
            let update = UpdateDinosaurRequest { id: "a".into(), species: Some("second".into()) };
            let call = tokio::spawn(async move { client.update_dinosaur(update).await });
            until_one_waits(&database.connect().await).await;
            session.batch_execute("COMMIT").await.unwrap();
            let answer = timeout(*PATIENCE, call).await.unwrap().unwrap().unwrap();
            assert_eq!(answer.into_inner().species, "second");
        }
        drop(stream);
        hub.stop().await;
    }
}

async fn until_one_waits(observer: &Driven) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                 AND datname = current_database()";
    let deadline = Instant::now() + *PATIENCE;
    while observer.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "nobody waits");
    }
}

#[tokio::test]
async fn two_hubs_deliver_the_same() {
    let database = Database::create().await;
    let hubs = [TestHub::start(&database).await, TestHub::start(&database).await];
    let mut streams = [watch(&hubs[0]).await, watch(&hubs[1]).await];
    let writers = (0..4).map(|writer| {
        let target = database.target();
        tokio::spawn(async move {
            let session = target.open().await.unwrap();
            for n in 0..100 {
                insert(&session, &format!("{writer}-{n}")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut told = Vec::new();
    for stream in &mut streams {
        let mut events = BTreeMap::new();
        for revision in 1..=400 {
            let event = next(stream).await;
            assert_eq!(event.revision, revision);
            events.insert(revision, (event.resource_id, event.dinosaur.unwrap().species));
        }
        told.push(events);
    }
    assert_eq!(told[0], told[1]);
    let sealed: f64 = hubs.iter().map(|hub| hub.metric("hub_sealed_events_total", "")).sum();
    assert_eq!(sealed, 400.0, "each event was numbered by one of them");
    let [first, second] = hubs;
    first.stop().await;
    insert(&database.connect().await, "for the other").await;
    assert_eq!(next(&mut streams[1]).await.revision, 401);
    drop(streams);
    second.stop().await;
}

#[tokio::test]
async fn what_one_hub_answers_another_can_resume() {
    let database = Database::create().await;
    let hubs = [TestHub::start(&database).await, TestHub::start(&database).await];
    let mut clients = [hubs[0].client().await, hubs[1].client().await];
    let mut resumed = 0;
    for n in 0..100 {
        let request = CreateDinosaurRequest { species: format!("s{n}") };
        clients[0].create_dinosaur(request).await.unwrap();
        let list = clients[0].list_dinosaurs(ListDinosaursRequest::default()).await.unwrap().into_inner();
        let after_revision = Some(list.metadata.unwrap().revision);
        let request = WatchDinosaursRequest { after_revision, ..Default::default() };
        resumed += usize::from(clients[1].watch_dinosaurs(request).await.is_ok());
    }
    assert_eq!(resumed, 100, "a revision that one hub has given is known to all");
    drop(clients);
    for hub in hubs {
        hub.stop().await;
    }
}

#[tokio::test]
async fn what_the_server_says_is_what_is_told() {
    let database = Database::create().await;
    let name = database.url().split_once("@/").unwrap().1.split_once('?').unwrap().0.to_owned();
    let nowhere = Target::parse(&database.url().replacen(&name, "nowhere", 1)).unwrap();
    let refused = nowhere.open().await.map(drop).unwrap_err();
    let told = DatabaseError::from(refused).to_string();
    assert!(told.contains("\"nowhere\" does not exist (SQLSTATE 3D000)"), "{told}");
    let session = database.connect().await;
    let raise =
        "DO $$ BEGIN RAISE 'no more' USING ERRCODE = '53300', HINT = 'wait', DETAIL = 'secret'; END $$";
    let told = DatabaseError::from(session.batch_execute(raise).await.unwrap_err()).to_string();
    assert_eq!(told, "no more (SQLSTATE 53300); hint: wait");
}
