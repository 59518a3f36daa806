//! Many watchers, ten of which are stopped processes (SIGSTOP). `TREX_WATCHERS=1000` is the full size.

use super::list;
use crate::support::{Database, PATIENCE, TestHub, until, until_ok, wire::RawWatch};
use std::{
    collections::HashSet,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use trex::{
    app::Settings,
    faces::Registry,
    proto::{
        hub::v1::{GetStatusRequest, ListSubscriptionsRequest, SubscriptionState},
        rh_trex::v1::WatchDinosaursRequest,
    },
};

const STOPPED: usize = 10;
const EVENTS: u64 = 4_000;
/// Events that the stopped may fall behind.
const BUFFER: u64 = 500;
/// Bytes of a row: together more than the connection of a stopped client holds (2 MiB).
const ROW: usize = 1_000;

/// How many watchers there are in all.
fn watchers() -> usize {
    std::env::var("TREX_WATCHERS").map_or(200, |text| text.parse().expect("TREX_WATCHERS: a number"))
}

/// `trex watch` in its own process.
struct Process {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(hub: &TestHub) -> Self {
        let server = hub.app().addresses().grpc.clone().expect("gRPC is served");
        let mut child = Command::new(env!("CARGO_BIN_EXE_trex"))
            .args(["watch", "--output", "json", "--backpressure", "drop", "--server", &server])
            .env_clear()
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a watcher");
        let mut greeting = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let line = timeout(*PATIENCE, greeting.next_line()).await.expect("in time").expect("a pipe");
        assert!(line.expect("a line").starts_with("watching after revision 0 "));
        let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, out }
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a running watcher").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.expect("kill").success());
    }

    /// How many events it got, and how many were reported as lost.
    async fn account(&mut self) -> (u64, u64) {
        let (mut given, mut lost) = (0, 0);
        while given + lost < EVENTS {
            let line = timeout(*PATIENCE, self.out.next_line()).await.expect("in time").expect("a pipe");
            let event: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
            given += 1;
            lost += event["dropped_before"].as_u64().expect("a number");
        }
        (given, lost)
    }
}

/// Reads as fast as it can, and stays.
async fn read(hub: &TestHub) -> tokio::task::JoinHandle<RawWatch> {
    // However slow this machine is, it loses nothing.
    let request = WatchDinosaursRequest { buffer: 100_000, ..Default::default() };
    let mut watch = RawWatch::start(hub, &request).await;
    tokio::spawn(async move {
        for _ in 0..EVENTS {
            watch.next().await.expect("an event");
        }
        watch
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stopped_stand_out_among_many_and_the_figures_agree() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.default_buffer = BUFFER;
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let (mut readers, mut stopped) = (Vec::new(), Vec::new());
    for _ in 0..watchers() - STOPPED {
        readers.push(read(&hub).await);
    }
    for _ in 0..STOPPED {
        stopped.push(Process::start(&hub).await);
    }
    for process in &stopped {
        process.signal("-STOP").await;
    }
    let session = database.connect().await;
    for n in 0..EVENTS / 100 {
        let sql = format!(
            "INSERT INTO dinosaurs (id, species) SELECT '{n}-' || r, repeat('s', {ROW})
             FROM generate_series(1, 100) r"
        );
        session.batch_execute(&sql).await.unwrap();
    }
    let mut reading = HashSet::new();
    let mut watches = Vec::new();
    for reader in readers {
        let watch = timeout(*PATIENCE, reader).await.expect("all events in time").expect("a watch");
        reading.insert(watch.address.to_string());
        watches.push(watch);
    }
    // The stopped lose events once they have been blocked for 5 s and the sweep has come.
    let half = BUFFER / 2;
    let blocked = ListSubscriptionsRequest {
        states: vec![SubscriptionState::Blocked.into()],
        min_lag_events: half,
        ..Default::default()
    };
    until_ok("the stopped lose events", async || {
        let listed = list(&hub, blocked.clone()).await;
        let losing = listed.subscriptions.iter().filter(|open| open.dropped > 0).count();
        if losing == STOPPED { Ok(()) } else { Err(listed) }
    })
    .await;

    let first =
        list(&hub, ListSubscriptionsRequest { page_size: STOPPED as u32, ..Default::default() }).await;
    assert_eq!((first.total_size as usize, first.subscriptions.len()), (watchers(), STOPPED));
    for open in &first.subscriptions {
        assert_eq!(open.state(), SubscriptionState::Blocked, "{open:?}");
        assert!(!reading.contains(&open.peer), "{open:?}");
        assert!(super::span(open.blocked_for) > Duration::from_secs(2), "{open:?}");
        assert!(open.lag_events >= half && open.lag.is_some(), "{open:?}");
        assert_eq!(open.sent + open.dropped + open.lag_events, EVENTS, "{open:?}");
    }
    let started = Instant::now();
    let all = list(&hub, ListSubscriptionsRequest { page_size: 10_000, ..Default::default() }).await;
    println!("{} listed in {:?}", all.subscriptions.len(), started.elapsed());
    for open in &all.subscriptions[STOPPED..] {
        assert!(reading.contains(&open.peer), "{open:?}");
        assert_eq!((open.state(), open.lag_events, open.lag), (SubscriptionState::Live, 0, None));
        // What its client has counted.
        assert_eq!((open.sent, open.dropped, open.revision), (EVENTS, 0, EVENTS));
    }
    let sum = |figure: fn(&trex::proto::hub::v1::Subscription) -> u64| {
        all.subscriptions.iter().map(figure).sum::<u64>()
    };
    assert_eq!(sum(|open| open.sent), hub.metric("grpc_stream_events_sent_total", "") as u64);
    assert_eq!(sum(|open| open.dropped), hub.metric("grpc_stream_events_dropped_total", "") as u64);
    // As the last sweep found it.
    until("the metric of the slowest", || hub.metric("hub_subscriber_lag_events", "") as u64 == half).await;
    assert_eq!(all.subscriptions[0].lag_events, half);
    let status = hub.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.kinds[0].subscriptions as usize, watchers());
    assert_eq!(hub.metric("grpc_stream_subscribers_active", "") as usize, watchers());

    for process in &stopped {
        process.signal("-CONT").await;
    }
    let mut counted = Vec::new();
    for process in &mut stopped {
        counted.push(process.account().await);
    }
    let all = list(&hub, ListSubscriptionsRequest { page_size: 10_000, ..Default::default() }).await;
    let theirs = all.subscriptions.iter().filter(|open| !reading.contains(&open.peer));
    let mut told: Vec<_> = theirs.map(|open| (open.sent, open.dropped)).collect();
    told.sort_unstable();
    counted.sort_unstable();
    println!("given and lost, as the stopped counted: {counted:?}");
    assert_eq!(told, counted);
    assert!(
        all.subscriptions.iter().all(|open| open.lag_events == 0 && open.state() == SubscriptionState::Live)
    );
    drop((watches, stopped));
    hub.stop().await;
}
