//! A client process that is stopped (SIGSTOP) for ten seconds while 100,000 events come, and a hub process
//! whose memory is measured.

use super::*;
use crate::support::{
    PATIENCE,
    history::{Event, Headers, Stream},
    until_true,
};
use std::{process::Stdio, time::Instant};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};
use trex::model::ChangeType;

const TRANSACTIONS: usize = 1000;
const STOPPED: Duration = Duration::from_secs(10);
/// What a hub may use beyond the window of its log, in bytes.
pub(super) const ALLOWANCE: u64 = 16 << 20;

/// This program, with nothing of this process's environment; it goes with its handle.
fn trex(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trex"));
    command.args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

async fn line<R: tokio::io::AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> String {
    let line = timeout(*PATIENCE, lines.next_line()).await.expect("a line in time");
    line.expect("a pipe").expect("a line before the end")
}

/// A hub in a process of its own.
pub(super) struct Hub {
    process: Child,
    grpc: String,
    metrics: String,
}

impl Hub {
    pub(super) async fn start(database: &Database, options: &[&str]) -> Self {
        let mut command =
            trex(&["serve", "--dinosaurs", "true", "--database-url", database.url(), "--log", "warn"]);
        command.args(options);
        for listener in ["grpc-server", "admin-server", "api-server", "metrics-server", "health-check-server"]
        {
            command.args([&format!("--{listener}-bindaddress"), "localhost:0"]);
        }
        let mut process = command.spawn().expect("a hub");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut address = async |name| loop {
            if let Some(rest) = line(&mut lines).await.trim().strip_prefix(name) {
                break rest
                    .trim()
                    .trim_start_matches("http://")
                    .trim_end_matches("/metrics")
                    .trim_end_matches("/readyz")
                    .to_owned();
            }
        };
        let (grpc, metrics) = (address("gRPC").await, address("metrics").await);
        let health = address("health").await;
        until_true("the hub is ready", async || get(&health, "/readyz").await.starts_with("HTTP/1.1 200"))
            .await;
        Self { process, grpc, metrics }
    }

    pub(super) async fn client(&self) -> DinosaurServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).expect("a URL");
        DinosaurServiceClient::new(endpoint.connect().await.expect("a connection"))
    }

    /// Bytes of memory, as the kernel counts them.
    pub(super) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that there ever were.
    pub(super) fn most_resident(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let id = self.process.id().expect("a running hub");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(name));
        kilobytes.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok()).expect("a number")
            * 1024
    }

    /// The sum of a metric's series.
    pub(super) async fn metric(&self, name: &str) -> f64 {
        let text = get(&self.metrics, "/metrics").await;
        let series = text.lines().filter_map(|line| line.strip_prefix(name));
        series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// An HTTP response, headers and all.
async fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("a request");
    let mut text = String::new();
    connection.read_to_string(&mut text).await.expect("an answer");
    text
}

/// `trex watch` in a process of its own.
pub(super) struct Watcher {
    process: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    stream: Stream,
}

impl Watcher {
    pub(super) async fn start(hub: &Hub, name: &str, request: WatchDinosaursRequest) -> Self {
        let server = format!("http://{}", hub.grpc);
        let mut command = trex(&["watch", "--output", "json", "--backpressure", "drop", "--server", &server]);
        for id in &request.resource_ids {
            command.args(["--id", id]);
        }
        if !request.types.is_empty() {
            assert_eq!(request.types, [i32::from(EventType::Created)]);
            command.args(["--type", "created"]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().expect("a watcher");
        let out = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut err = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let greeting = line(&mut err).await;
        let words: Vec<_> = greeting.split(' ').collect();
        let ["watching", "after", "revision", revision, "of", "epoch", epoch] = words[..] else {
            panic!("{greeting}")
        };
        let headers = Headers {
            revision: revision.parse().expect("a revision"),
            epoch: epoch.into(),
            seen: Instant::now(),
        };
        let stream = Stream {
            name: name.to_owned(),
            request,
            timeout: None,
            stalls: true,
            headers,
            state: Vec::new(),
            events: Vec::new(),
            bookmarks: Vec::new(),
            status: None,
            end: crate::support::history::End::Finished,
        };
        Self { process, out, err, stream }
    }

    pub(super) async fn signal(&self, signal: &str) {
        let id = self.process.id().expect("a running watcher").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.expect("kill").success());
    }

    /// Reads up to the sentinel.
    pub(super) async fn finish(mut self) -> Stream {
        let last =
            if self.stream.request.types.is_empty() { ChangeType::Deleted } else { ChangeType::Created };
        loop {
            let event = Event::from_json(&line(&mut self.out).await);
            let is_last = event.id == SENTINEL && event.change == last;
            self.stream.events.push(event);
            if is_last {
                break;
            }
        }
        self.process.kill().await.expect("a kill");
        let more = self.err.next_line().await.expect("a pipe");
        assert_eq!(more, None, "it stayed on one stream");
        self.stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_client_costs_the_hub_no_memory_and_nobody_else_an_event() {
    let database = Database::create().await;
    let hub = Hub::start(&database, &[]).await;
    let mut flood = Flood::new(&database).await;
    let (mut readers, mut stopped) = (Vec::new(), Vec::new());
    for (name, request) in requests(&flood.hot) {
        readers.push(Recorder::start(hub.client().await, name, request.clone()).await);
        if !request.include_previous {
            stopped.push(Watcher::start(&hub, &format!("stopped, {name}"), request).await);
        }
    }
    flood.begin().await;
    for watcher in &stopped {
        watcher.signal("-STOP").await;
    }
    let (since, before) = (Instant::now(), hub.resident());
    let mut most = before;
    for _ in 0..TRANSACTIONS / 50 {
        flood.transactions(50).await;
        most = most.max(hub.resident());
    }
    let written = since.elapsed();
    tokio::time::sleep_until((since + STOPPED).into()).await;
    readers[0]
        .until("all that was written", |progress| progress.events == (HOT + TRANSACTIONS * EVENTS) as u64)
        .await;
    until_true("something is dropped", async || hub.metric(DROPPED).await > 0.0).await;
    for watcher in &stopped {
        watcher.signal("-CONT").await;
    }
    let journal = flood.end().await;
    let mut history = History::default();
    for recorder in readers {
        history.streams.push(recorder.finish().await);
    }
    for watcher in stopped {
        history.streams.push(watcher.finish().await);
    }
    most = most.max(hub.resident());
    let window = hub.metric("hub_log_window_bytes").await as u64;
    println!("stopped: memory {before} + {} bytes, window {window}; written in {written:?}", most - before);
    for stream in history.streams.iter().filter(|stream| stream.stalls) {
        println!("{}: {} delivered, {} dropped", stream.name, stream.events.len(), stream.dropped());
    }
    let plain = history.streams.iter().find(|stream| stream.name == "stopped, plain").expect("it");
    assert!(plain.dropped() > 0, "it lost events");
    assert_eq!(
        plain.events.len() as u64 + plain.dropped(),
        (HOT + TRANSACTIONS * EVENTS + LAST) as u64,
        "delivered and dropped are all there were"
    );
    let lost: u64 = history.streams.iter().map(|stream| stream.dropped()).sum();
    assert_eq!(hub.metric(DROPPED).await as u64, lost, "the metric says what the streams say");
    validate(&history, &journal);
    assert!(
        most <= before + window + ALLOWANCE,
        "the hub grew by {} with a window of {window}",
        most - before
    );
}
