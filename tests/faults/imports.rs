//! An import whose client, hub and Postgres are killed at random moments, each a process of its own: when it
//! has been resumed often enough and ended, every item is there exactly once, and every failure was told
//! exactly once.
//!
//! `TREX_IMPORT_ROUNDS`: how many kills.

use crate::{
    ONE_AT_A_TIME, number,
    process::{HubProcess, Manner, group_of},
    proxy::{Proxy, Upstream},
    suite::say,
    support::PATIENCE,
    support::writer::session,
};
use fastrand::Rng;
use std::{
    collections::HashSet,
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_postgres::Client;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, transport::Channel};
use trex::{
    embedded::testing::EphemeralPostgres,
    proto::{
        codec::Streamed,
        rh_trex::v1::{
            CreateDinosaurRequest, ImportDinosaursItem, ImportDinosaursRequest, ImportDinosaursStart,
            dinosaur_service_client::DinosaurServiceClient, import_dinosaurs_request::Message,
        },
    },
};

const IMPORT: &str = "killed";
const DATABASE: &str = "imports";
/// Between looks at what cannot be awaited.
const LOOK: Duration = Duration::from_millis(5);
/// The client's variables: where the hub is, and where it keeps what it knows.
const ADDRESS: &str = "TREX_IMPORT_ADDRESS";
const FOLDER: &str = "TREX_IMPORT_FOLDER";

/// One in a hundred fails.
fn species(n: u64) -> String {
    if n % 100 == 13 { String::new() } else { n.to_string() }
}

/// What the client leaves behind, whatever becomes of it.
struct Notes(PathBuf);

impl Notes {
    /// A line per acknowledgement: the position, and the failures before it.
    fn acknowledged(&self) -> (u64, Vec<u64>) {
        let text = fs::read_to_string(self.0.join("acknowledged")).unwrap_or_default();
        let (mut position, mut failures) = (0, Vec::new());
        for line in text.lines() {
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
            position = numbers.next().expect("a position");
            failures.extend(numbers);
        }
        (position, failures)
    }

    /// In one write: a kill leaves whole lines.
    fn acknowledge(&self, position: u64, failures: impl Iterator<Item = u64>) {
        let mut line = position.to_string();
        failures.for_each(|failure| line += &format!(" {failure}"));
        let mut file =
            fs::File::options().append(true).create(true).open(self.0.join("acknowledged")).expect("a file");
        file.write_all((line + "\n").as_bytes()).expect("a line");
    }

    /// How many items were handed to the stream; its client overwrites eight bytes.
    fn sent(&self) -> u64 {
        fs::read(self.0.join("sent"))
            .ok()
            .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
            .unwrap_or(0)
    }

    fn enough(&self) -> PathBuf {
        self.0.join("enough")
    }
}

/// The client, as a process of its own: imports until it is told that it is enough, over all ends of its hub.
#[tokio::test]
#[ignore = "the test of imports starts it"]
async fn client() {
    let (Ok(address), Ok(folder)) = (std::env::var(ADDRESS), std::env::var(FOLDER)) else { return };
    let notes = Notes(folder.into());
    loop {
        match stream(&address, &notes).await {
            Ok(()) => return,
            Err(status) => assert!(
                // A connection that breaks in the middle has no better code.
                [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled].contains(&status.code()),
                "{status:?}"
            ),
        }
        sleep(LOOK).await;
    }
}

/// One stream of it.
async fn stream(address: &str, notes: &Notes) -> Result<(), Status> {
    let endpoint = Channel::from_shared(address.to_owned()).expect("a URL");
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut hub = DinosaurServiceClient::new(channel);
    let (requests, items) = mpsc::channel::<Streamed<_>>(256);
    let (acknowledged, _) = notes.acknowledged();
    // Small batches: each moment is within one.
    let start = ImportDinosaursStart { import_id: IMPORT.into(), batch_size: 20, acknowledged };
    let start = ImportDinosaursRequest { message: Some(Message::Start(start)) };
    requests.send(start.into()).await.expect("an open stream");
    let mut responses = hub.import_dinosaurs(ReceiverStream::new(items)).await?.into_inner();
    let first = responses.message().await?.ok_or_else(|| Status::unavailable("no answer"))?;
    let told = |errors: &[trex::proto::rh_trex::v1::Error]| -> Vec<u64> {
        errors.iter().map(|error| u64::try_from(error.index.expect("an index")).expect("an index")).collect()
    };
    assert_eq!(first.errors_omitted, 0);
    notes.acknowledge(first.next_index, told(&first.errors).into_iter());
    let enough = notes.enough();
    let note = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(notes.0.join("sent"))
        .expect("a file");
    let mut last = first.next_index;
    let send = async {
        let mut n = first.next_index;
        while n % 50 != 0 || !enough.exists() {
            let item = ImportDinosaursItem { id: String::new(), species: species(n) };
            let item = ImportDinosaursRequest { message: Some(Message::Item(item)) };
            if requests.send(item.into()).await.is_err() {
                break;
            }
            n += 1;
            note.write_all_at(&n.to_le_bytes(), 0).expect("a note");
        }
        drop(requests);
        n
    };
    let receive = async {
        while let Some(response) = responses.message().await? {
            notes.acknowledge(response.next_index, told(&response.errors).into_iter());
            last = response.next_index;
        }
        Ok::<_, Status>(())
    };
    let (sent, received) = tokio::join!(send, receive);
    received?;
    assert_eq!(sent, last, "the hub ended the stream with OK before it had all");
    Ok(())
}

/// Everything that can be killed.
struct World {
    cluster: EphemeralPostgres,
    hub: Option<HubProcess>,
    way: Proxy,
    client: Option<Child>,
    notes: Notes,
    log: PathBuf,
    group: i32,
}

impl World {
    /// Without a client. What it leaves behind goes to a folder of this name.
    async fn start(name: &str) -> Self {
        let cluster = EphemeralPostgres::start(Vec::new()).await.expect("a cluster");
        cluster.create_database(DATABASE).await.expect("a database");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("a folder");
        let log = place.join("hub.log");
        let group = group_of(cluster.postmaster_pid().expect("it has just started"));
        let way = Proxy::start(Upstream::Nowhere).await;
        let mut world = Self { cluster, hub: None, way, client: None, notes: Notes(place), log, group };
        world.start_hub().await;
        world
    }

    async fn start_hub(&mut self) {
        let url = self.cluster.database_url(DATABASE);
        let hub = loop {
            match HubProcess::start(&url, &Manner::default(), &self.log, self.group).await {
                Some(hub) => break hub,
                None => sleep(LOOK).await,
            }
        };
        self.way.lead_to(Upstream::Tcp(hub.address.clone()));
        self.hub = Some(hub);
    }

    fn start_client(&mut self) {
        let client = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "imports::client", "--ignored", "--nocapture"])
            .env(ADDRESS, format!("http://{}", self.way.address))
            .env(FOLDER, &self.notes.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(self.group)
            .kill_on_drop(true)
            .spawn()
            .expect("this program again");
        self.client = Some(client);
    }

    async fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Client => self.client.as_mut().expect("a client").kill().await.expect("a kill"),
            Victim::Hub => {
                self.hub.take().expect("a hub").kill().await;
                self.way.lead_to(Upstream::Nowhere);
            }
            Victim::Postgres => self.cluster.kill().await.expect("a kill"),
        }
    }

    async fn bring_back(&mut self, victim: Victim) {
        match victim {
            Victim::Client => self.start_client(),
            Victim::Hub => self.start_hub().await,
            Victim::Postgres => {
                // Not before the last backend of the dead one has noticed.
                let restart = async {
                    while let Err(error) = self.cluster.restart().await {
                        println!("{error}");
                        sleep(LOOK).await;
                    }
                };
                timeout(*PATIENCE, restart).await.expect("a restart");
            }
        }
    }

    async fn stop(mut self) {
        self.hub.take().expect("a hub").terminate().await;
        self.cluster.stop().await.expect("a stop");
        let _ = fs::remove_dir_all(&self.notes.0);
    }

    async fn session(&self) -> Client {
        loop {
            match session(&self.cluster.database_url(DATABASE)).await {
                Ok(session) => return session,
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Where the import stands in the database.
    async fn position(&self) -> u64 {
        let sql = "SELECT coalesce(max(next_index), 0) FROM hub.import";
        let row = self.session().await.query_one(sql, &[]).await.expect("a position");
        u64::try_from(row.get::<_, i64>(0)).expect("a position")
    }

    /// Until the client has had some more acknowledgements.
    async fn until_going(&self) {
        let before = self.notes.acknowledged().0;
        let going = async {
            while self.notes.acknowledged().0 < before + 1000 {
                sleep(LOOK).await
            }
        };
        timeout(*PATIENCE, going).await.expect("the import goes on");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Client,
    Hub,
    Postgres,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_outlives_kills_and_every_item_is_there_once() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rounds, seed) = (number("TREX_IMPORT_ROUNDS", 9), number("TREX_SEED", 1) as u64);
    let mut random = Rng::with_seed(seed);
    let started = Instant::now();
    let mut world = World::start("imports").await;
    world.start_client();
    let (mut unacknowledged, mut committed) = (0, 0);
    for round in 0..rounds {
        world.until_going().await;
        sleep(Duration::from_micros(random.u64(0..50_000))).await;
        let victim = [Victim::Client, Victim::Hub, Victim::Postgres][round % 3];
        world.kill(victim).await;
        let (acknowledged, sent) = (world.notes.acknowledged().0, world.notes.sent());
        unacknowledged += usize::from(sent > acknowledged);
        if victim == Victim::Client {
            // What its hub still does ends, one way or the other, before anybody asks.
            committed += usize::from(world.position().await > acknowledged);
        }
        println!("{victim:?}: {sent} sent, {acknowledged} acknowledged");
        world.bring_back(victim).await;
    }
    world.until_going().await;
    fs::write(world.notes.enough(), "").expect("a file");
    let mut client = world.client.take().expect("a client");
    let status = timeout(*PATIENCE, client.wait()).await.expect("it ends").expect("its status");
    assert!(status.success(), "{status}");
    let items = check(&world).await;
    assert!(rounds < 30 || unacknowledged >= 20, "{unacknowledged} of {rounds} rounds within a batch");
    say(&format!(
        "imports: {rounds} kills (TREX_SEED={seed}), {unacknowledged} while items were unacknowledged, \
         {committed} of the client's after a commit \
         that it never heard of; {items} items, each exactly once; {:.0} s",
        started.elapsed().as_secs_f32()
    ));
    world.stop().await;
}

/// The table, and what the client was told, against what it sent. Returns how many items that was.
async fn check(world: &World) -> u64 {
    let (position, failures) = world.notes.acknowledged();
    assert_eq!(position, world.position().await);
    let rows = world.session().await.query("SELECT species FROM dinosaurs", &[]).await.expect("rows");
    let all = rows.len();
    let there: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let wanted: HashSet<String> = (0..position).map(species).filter(|species| !species.is_empty()).collect();
    assert_eq!(there.len(), all, "items that are there twice");
    assert_eq!(wanted.difference(&there).count(), 0, "items that are missing");
    assert_eq!(there.difference(&wanted).count(), 0, "items that nobody sent");
    let failed: Vec<u64> = (0..position).filter(|&n| species(n).is_empty()).collect();
    assert_eq!(failures, failed, "every failure was told, and once");
    position
}

/// A line of a process' `status`, in KiB.
fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that runs");
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB"));
    found.expect("a line").trim().parse().expect("a number")
}

/// Clients that never end and are faster than the database: the hub holds them back, and does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn endless_streams_do_not_make_a_hub_grow() {
    const STREAMS: u64 = 8;
    const GROWTH: u64 = 32 << 10; // KiB; what they send would be far more
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::start("endless").await;
    let hub = world.hub.as_ref().expect("a hub");
    let before = memory(hub.pid, "VmRSS:");
    let (bytes, ended) = (Arc::new(AtomicU64::new(0)), Instant::now() + Duration::from_secs(4));
    let streams = (0..STREAMS).map(|_| {
        let (address, bytes) = (format!("http://{}", hub.address), bytes.clone());
        tokio::spawn(async move {
            let channel =
                Channel::from_shared(address).expect("a URL").connect().await.expect("a connection");
            // Most of them fail, and cost the database nothing: as fast as it goes.
            let item = |n: u64| CreateDinosaurRequest {
                species: "x".repeat(if n.is_multiple_of(50) { 255 } else { 2000 }),
            };
            let items = (0..).map(item).inspect(move |item| {
                bytes.fetch_add(item.species.len() as u64, Ordering::Relaxed);
            });
            let mut request = Request::new(tokio_stream::iter(items.map(Streamed::from)));
            request.set_timeout(ended - Instant::now());
            DinosaurServiceClient::new(channel).bulk_create_dinosaurs(request).await.expect_err("a deadline")
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        let status = stream.await.expect("a stream");
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");
    }
    let (grown, sent) = (memory(hub.pid, "VmHWM:") - before, bytes.load(Ordering::Relaxed) >> 10);
    say(&format!("imports: {STREAMS} endless streams sent {sent} KiB, and the hub grew by {grown} KiB"));
    assert!(sent > 2 * GROWTH, "{sent} KiB are too little to show anything");
    assert!(grown < GROWTH, "the hub grew by {grown} KiB");
    world.stop().await;
}
