//! Histories that changed: copies, backups, other timelines, and new epochs by the operator. Streams are
//! told, clients list again, and no revision ever means two things.

mod slow;

use crate::support::{
    Database, PATIENCE, TestHub,
    follower::Follower,
    history::Stream,
    recorder::Recorder,
    until, until_sql,
    wire::{RawWatch, metadata, reason},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tonic::Code;
use trex::{
    client::WatchStart,
    embedded::testing::EphemeralPostgres,
    model::Epoch,
    proto::rh_trex::v1::{CreateDinosaurRequest, EventType, WatchDinosaursRequest},
    store::{Doubt, Driven, HubConnection, begin_epoch},
};

fn run(program: impl AsRef<Path>, arguments: &[&str]) {
    let program = program.as_ref();
    let output = Command::new(program).args(arguments).output().expect("a program of this machine");
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}

/// One event for each.
async fn create(session: &Driven, prefix: &str, count: u32) {
    let sql = format!(
        "INSERT INTO dinosaurs (id, species) SELECT '{prefix}' || n, 's' FROM generate_series(1, {count}) n"
    );
    session.batch_execute(&sql).await.expect("rows");
}

async fn plain(hub: &TestHub) -> Recorder {
    Recorder::start(hub.client().await, "plain", WatchDinosaursRequest::default()).await
}

fn after(revision: u64, epoch: &str) -> WatchDinosaursRequest {
    WatchDinosaursRequest { after_revision: Some(revision), epoch: epoch.to_owned(), ..Default::default() }
}

async fn refused(hub: &TestHub, request: WatchDinosaursRequest) -> tonic::Status {
    Recorder::try_start(hub.client().await, "refused", request, None).await.err().expect("a refusal")
}

/// The stream was ended because its history is no more. Returns the one that is.
fn told(stream: &Stream) -> String {
    let status = stream.status.clone().expect("a status");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "EPOCH_CHANGED"));
    let epoch = metadata(&status, "epoch");
    assert_ne!(epoch, stream.headers.epoch);
    epoch
}

async fn until_head(hub: &TestHub, head: u64) {
    until("it is published", || hub.metric("hub_head_revision", "") as u64 == head).await;
}

enum Copied {
    ByDump,
    ByTemplate,
}

async fn a_copy_has_its_own_history(how: Copied) {
    let cluster = EphemeralPostgres::start(vec![]).await.unwrap();
    cluster.create_database("origin").await.unwrap();
    let origin = Database::of(&cluster, "origin");
    let hub = TestHub::start(&origin).await;
    let epoch = plain(&hub).await.leave().await.headers.epoch;
    let session = origin.connect().await;
    create(&session, "o", 30).await;
    until_head(&hub, 30).await;
    hub.stop().await;
    // Captured, and numbered by nobody.
    create(&session, "unsealed", 10).await;
    session.batch_execute("DELETE FROM dinosaurs WHERE id = 'o1'").await.unwrap();
    drop(session);
    match how {
        Copied::ByDump => {
            cluster.create_database("copy").await.unwrap();
            let file = cluster.data_dir().join("dump.sql");
            let file = file.to_str().unwrap();
            run(cluster.bindir().join("pg_dump"), &["-f", file, "-d", origin.url()]);
            let copy = cluster.database_url("copy");
            run(cluster.bindir().join("psql"), &["-qX", "-v", "ON_ERROR_STOP=1", "-f", file, "-d", &copy]);
        }
        Copied::ByTemplate => {
            let admin = Database::of(&cluster, "postgres").connect().await;
            let users = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'origin'";
            while admin.query_one(users, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
            admin.batch_execute("CREATE DATABASE copy TEMPLATE origin").await.unwrap();
        }
    }
    let copy = Database::of(&cluster, "copy");
    let hub = TestHub::start(&copy).await;
    let status = refused(&hub, after(30, &epoch)).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "EPOCH_CHANGED"));
    let now = metadata(&status, "epoch");
    assert_ne!(now, epoch);
    // Everything is in the state, and numbering goes on.
    let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let mut watch = RawWatch::start(&hub, &request).await;
    for _ in 0..39 {
        assert_eq!(watch.event().await.unwrap().r#type(), EventType::Snapshot);
    }
    let head = watch.event().await.unwrap();
    assert_eq!((head.r#type(), head.revision), (EventType::Bookmark, 30));
    let session = copy.connect().await;
    create(&session, "c", 3).await;
    for revision in 31..=33 {
        assert_eq!(watch.event().await.unwrap().revision, revision);
    }
    let follower = Follower::start(&hub, WatchStart::State).await;
    follower.until_exact(&copy).await;
    assert_eq!(follower.now().epoch, now);
    hub.stop().await;

    // The original goes on with its own.
    let hub = TestHub::start(&origin).await;
    let mut watch = RawWatch::start(&hub, &after(30, &epoch)).await;
    for revision in 31..=41 {
        assert_eq!(watch.event().await.unwrap().revision, revision);
    }
    hub.stop().await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_has_its_own_history() {
    a_copy_has_its_own_history(Copied::ByDump).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_made_from_another_has_its_own_history() {
    a_copy_has_its_own_history(Copied::ByTemplate).await;
}

/// A cluster whose files can be copied and brought back.
struct Files {
    cluster: EphemeralPostgres,
    database: Database,
}

impl Files {
    async fn new() -> Self {
        let restore_command = ("restore_command".to_owned(), "false".to_owned());
        let cluster = EphemeralPostgres::start(vec![restore_command]).await.unwrap();
        let database = Database::create_on(&cluster).await;
        Self { cluster, database }
    }

    fn data(&self) -> PathBuf {
        self.cluster.data_dir().join("pgdata")
    }

    fn backup(&self) -> PathBuf {
        self.cluster.data_dir().join("backup")
    }

    async fn back_up(&self) {
        self.cluster.halt().await.unwrap();
        run("cp", &["-a", self.data().to_str().unwrap(), self.backup().to_str().unwrap()]);
        self.cluster.restart().await.unwrap();
    }

    /// The files, and not yet the server.
    async fn bring_back(&self) {
        self.cluster.halt().await.unwrap();
        run("rm", &["-rf", self.data().to_str().unwrap()]);
        run("cp", &["-a", self.backup().to_str().unwrap(), self.data().to_str().unwrap()]);
    }

    async fn restore(&self) {
        self.bring_back().await;
        self.cluster.restart().await.unwrap();
    }
}

async fn ready(hub: &TestHub) {
    until("the hub is ready", || hub.app().health().reasons().is_empty()).await;
}

/// An older backup comes back under a running hub, and is written to at once. `fresh`: that hub has seen no
/// event, only the head.
async fn an_older_backup(fresh: bool, later: u32) {
    let files = Files::new().await;
    let mut hub = TestHub::start(&files.database).await;
    create(&files.database.connect().await, "before", 20).await;
    until_head(&hub, 20).await;
    files.back_up().await;
    ready(&hub).await;
    let session = files.database.connect().await;
    create(&session, "lost", 14).await;
    session.batch_execute("DELETE FROM dinosaurs WHERE id = 'before1'").await.unwrap();
    until_head(&hub, 35).await;
    if fresh {
        hub.stop().await;
        hub = TestHub::start(&files.database).await;
    }
    let follower = Follower::start(&hub, WatchStart::State).await;
    follower.until_exact(&files.database).await;
    let stream = plain(&hub).await;
    let epoch = stream.headers.epoch.clone();
    files.restore().await;
    // Perhaps before the hub is back: then its number is one that meant something else.
    let session = files.database.connect().await;
    create(&session, "after", later).await;
    let stream = stream.ended().await;
    assert!(stream.events.is_empty(), "{:?} of another history", stream.events);
    let now = told(&stream);
    let status = refused(&hub, after(35, &epoch)).await;
    assert_eq!((reason(&status).as_str(), metadata(&status, "epoch")), ("EPOCH_CHANGED", now.clone()));
    ready(&hub).await;
    create(&session, "later", 5).await;
    follower.until_exact(&files.database).await;
    let followed = follower.now();
    assert_eq!((followed.epoch, followed.states), (now, 2));
    hub.stop().await;
    files.cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_under_a_hub_with_events() {
    an_older_backup(false, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_under_a_hub_without_events() {
    an_older_backup(true, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_that_is_soon_ahead_of_the_hub() {
    an_older_backup(true, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_under_two_hubs() {
    let files = Files::new().await;
    let hubs = [TestHub::start(&files.database).await, TestHub::start(&files.database).await];
    create(&files.database.connect().await, "before", 20).await;
    files.back_up().await;
    create(&files.database.connect().await, "lost", 15).await;
    let (mut followers, mut streams) = (Vec::new(), Vec::new());
    for hub in &hubs {
        until_head(hub, 35).await;
        ready(hub).await;
        followers.push(Follower::start(hub, WatchStart::State).await);
        streams.push(plain(hub).await);
    }
    files.restore().await;
    let session = files.database.connect().await;
    create(&session, "after", 30).await;
    let mut epochs = Vec::new();
    for stream in streams {
        epochs.push(told(&stream.ended().await));
    }
    create(&session, "later", 5).await;
    for follower in &followers {
        follower.until_exact(&files.database).await;
    }
    let (one, other) = (followers[0].now(), followers[1].now());
    println!("two hubs: {} and {} states", one.states, other.states);
    assert_eq!((&one.epoch, one.complete), (&other.epoch, other.complete), "both hubs say the same");
    assert_eq!(epochs, [one.epoch.clone(), one.epoch], "there was one new epoch");
    for hub in hubs {
        hub.stop().await;
    }
    files.cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_timeline_is_another_epoch_of_the_same_numbers() {
    let files = Files::new().await;
    let hub = TestHub::start(&files.database).await;
    create(&files.database.connect().await, "before", 20).await;
    until_head(&hub, 20).await;
    let follower = Follower::start(&hub, WatchStart::State).await;
    let stream = plain(&hub).await;
    // A failover, on one set of files: the server comes back as a standby, and is promoted.
    files.cluster.halt().await.unwrap();
    std::fs::write(files.data().join("standby.signal"), "").unwrap();
    files.cluster.restart().await.unwrap();
    let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let status = refused(&hub, request).await;
    assert_eq!(status.code(), Code::Unavailable, "never seal on a standby: {status:?}");
    let created = hub.client().await.create_dinosaur(CreateDinosaurRequest { species: "s".into() }).await;
    assert_eq!(created.unwrap_err().code(), Code::Unavailable);
    assert_eq!(hub.app().health().reasons(), ["the database is not in sight"]);
    let session = files.database.connect().await;
    session.batch_execute("SELECT pg_promote()").await.unwrap();
    let timeline: String = session.query_one("SELECT hub.timeline()", &[]).await.unwrap().get(0);
    assert_eq!(timeline, "00000002");
    create(&session, "after", 5).await;
    let epoch = told(&stream.ended().await);
    follower.until_exact(&files.database).await;
    assert_eq!(follower.now().epoch, epoch);
    ready(&hub).await;
    // Nothing was lost but the name.
    let mut watch = RawWatch::start(&hub, &after(10, &epoch)).await;
    for revision in 11..=25 {
        assert_eq!(watch.event().await.unwrap().revision, revision);
    }
    hub.stop().await;
    files.cluster.stop().await.unwrap();
}

/// The standby that is promoted has not seen the last commits. What it has keeps its numbers, in an epoch of
/// its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_commits_keeps_what_the_server_has() {
    let files = Files::new().await;
    let hub = TestHub::start(&files.database).await;
    create(&files.database.connect().await, "before", 20).await;
    until_head(&hub, 20).await;
    files.back_up().await;
    ready(&hub).await;
    create(&files.database.connect().await, "lost", 10).await;
    until_head(&hub, 30).await;
    let follower = Follower::start(&hub, WatchStart::State).await;
    follower.until_exact(&files.database).await;
    let stream = plain(&hub).await;
    let old = stream.headers.epoch.clone();
    files.bring_back().await;
    std::fs::write(files.data().join("standby.signal"), "").unwrap();
    files.cluster.restart().await.unwrap();
    let session = files.database.connect().await;
    session.batch_execute("SELECT pg_promote()").await.unwrap();
    // Soon ahead of what was published.
    create(&session, "after", 15).await;
    let stream = stream.ended().await;
    assert!(stream.events.is_empty(), "{:?} of another history", stream.events);
    let epoch = told(&stream);
    ready(&hub).await;
    assert_eq!(reason(&refused(&hub, after(20, &old)).await), "EPOCH_CHANGED");
    let mut watch = RawWatch::start(&hub, &after(10, &epoch)).await;
    for revision in 11..=35 {
        let event = watch.event().await.unwrap();
        let of = if revision <= 20 { "before" } else { "after" };
        assert!(event.revision == revision && event.resource_id.starts_with(of), "{event:?}");
    }
    follower.until_exact(&files.database).await;
    assert_eq!((follower.now().epoch, follower.now().states), (epoch, 2));
    hub.stop().await;
    files.cluster.stop().await.unwrap();
}

/// Two hubs, watches on both, and something that makes their history another.
async fn a_new_epoch(make: impl AsyncFnOnce(&Database)) {
    let database = Database::create().await;
    let hubs = [TestHub::start(&database).await, TestHub::start(&database).await];
    let session = database.connect().await;
    create(&session, "before", 20).await;
    let (mut followers, mut streams) = (Vec::new(), Vec::new());
    for hub in &hubs {
        until_head(hub, 20).await;
        followers.push(Follower::start(hub, WatchStart::State).await);
        streams.push(plain(hub).await);
    }
    let old = streams[0].headers.epoch.clone();
    make(&database).await;
    create(&session, "after", 5).await;
    let mut epochs = Vec::new();
    for stream in streams {
        epochs.push(told(&stream.ended().await));
    }
    for (hub, follower) in hubs.iter().zip(&followers) {
        follower.until_exact(&database).await;
        ready(hub).await;
        let status = refused(hub, after(1, &old)).await;
        assert_eq!(reason(&status), "EPOCH_CHANGED");
    }
    create(&session, "later", 5).await;
    for follower in &followers {
        follower.until_exact(&database).await;
    }
    let (one, other) = (followers[0].now(), followers[1].now());
    assert_eq!((&one.epoch, one.complete), (&other.epoch, other.complete), "both hubs say the same");
    assert_eq!(epochs, [one.epoch.clone(), one.epoch], "there was one new epoch");
    for hub in hubs {
        hub.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_begins_a_new_epoch_under_running_hubs() {
    a_new_epoch(async |database: &Database| {
        let connection = HubConnection::open(&database.target()).await.unwrap();
        begin_epoch(&database.target(), Doubt::Told).await.unwrap();
        assert_eq!(connection.seal().await.unwrap().revision.get(), 20, "numbering goes on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_waits_for_retention() {
    a_new_epoch(async |database: &Database| {
        let (retention, looker) = (database.connect().await, database.connect().await);
        retention.batch_execute("SELECT hub.raise_floor('0', 0, 100)").await.unwrap();
        retention.batch_execute("BEGIN; SELECT hub.delete_below_floor(5)").await.unwrap();
        let target = database.target();
        let begins = begin_epoch(&target, Doubt::Told);
        let waits = async {
            until_one_waits(&looker).await;
            retention.batch_execute("COMMIT").await.unwrap();
        };
        tokio::join!(begins, waits).0.unwrap();
    })
    .await;
}

async fn until_one_waits(looker: &Driven) {
    let sql = "SELECT count(*) > 0 FROM pg_stat_activity
               WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until_sql(looker, "one waits", sql, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_head_is_a_new_epoch() {
    a_new_epoch(async |database: &Database| {
        database.connect().await.batch_execute("DELETE FROM hub.head").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_incarnation_is_a_new_epoch() {
    a_new_epoch(async |database: &Database| {
        database.connect().await.batch_execute("DELETE FROM hub.incarnation").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_that_miss_the_same_history_begin_one_epoch() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let served = plain(&hub).await.leave().await.headers.epoch;
    hub.stop().await;
    let served = Epoch::new(&served);
    let forgotten = async |epoch: &Epoch| {
        begin_epoch(&database.target(), Doubt::Forgotten(epoch)).await.unwrap();
        let connection = HubConnection::open(&database.target()).await.unwrap();
        connection.seal().await.unwrap().epoch
    };
    let (one, other) = tokio::join!(forgotten(&served), forgotten(&served));
    assert_eq!(one, other);
    assert_ne!(one, served);
    assert_eq!(forgotten(&served).await, one, "a hub that comes late");
    assert_ne!(forgotten(&one).await, one, "it is missed itself");
}
