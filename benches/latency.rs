//! From COMMIT to the client, at a gentle rate: what the hub adds to the two things that nobody can leave
//! out, a notification through LISTEN and one `hub.seal()`. All in turn on one durable Postgres.
//!
//! `cargo bench --bench latency -- --rounds 5 --seconds 5`

mod support;

use anyhow::{Context, ensure};
use clap::Parser;
use parking_lot::Mutex;
use serde_json::json;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use support::{
    PATIENCE,
    cluster::Cluster,
    hub::HubProcess,
    report::{Report, Row},
    stats::{median, percentile, percentile_of_sum},
    wire::{Observer, WATCH, Watchers},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_postgres::{AsyncMessage, NoTls};
use trex::store::{Driven, HubConnection};

/// The hub's database, and one without a hub for what it is compared with.
const WATCHED: &str = "watched";
const BARE: &str = "bare";

#[derive(Parser)]
struct Arguments {
    /// Rounds, each of every measurement in turn
    #[arg(long, env = "BENCH_PAIRS", default_value_t = 5)]
    rounds: usize,
    /// Seconds per measurement
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 5)]
    seconds: u64,
    /// Transactions a second
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// A directory on the disk to write to
    #[arg(long, env = "BENCH_DIR")]
    dir: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::run(program(Arguments::parse()))
}

/// What is measured, in milliseconds per transaction.
#[derive(Default)]
struct Samples {
    listen: Vec<f64>,
    seal: Vec<f64>,
    one: Vec<f64>,
    last_of_many: Vec<f64>,
    /// Per round: the median with one watcher, and with many, against the sum of the medians of LISTEN and
    /// seal.
    ratios: [Vec<f64>; 2],
}

async fn program(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = Cluster::start(arguments.dir.as_deref()).await?;
    cluster.create_database(WATCHED).await?;
    cluster.create_database(BARE).await?;
    cluster
        .connect(BARE)
        .await?
        .batch_execute("CREATE TABLE plain_dinosaurs (LIKE dinosaurs INCLUDING ALL)")
        .await?;
    let hub = HubProcess::start(&cluster.url(WATCHED)?, &[]).await?;
    let bench = Bench { cluster: &cluster, hub: &hub, arguments: &arguments };
    let mut samples = Samples::default();
    for _ in 0..arguments.rounds {
        let listen = bench.listen().await?;
        let seal = bench.seal().await?;
        let one = bench.watch(1, 1).await?;
        let many = bench.watch(100, 10).await?;
        let sum = median(&listen) + median(&seal);
        samples.ratios[0].push(median(&one) / sum);
        samples.ratios[1].push(median(&many) / sum);
        samples.listen.extend(listen);
        samples.seal.extend(seal);
        samples.one.extend(one);
        samples.last_of_many.extend(many);
    }
    report(&arguments, &samples)?;
    hub.stop().await?;
    cluster.stop().await
}

fn report(arguments: &Arguments, samples: &Samples) -> anyhow::Result<()> {
    let Samples { listen, seal, one, last_of_many, ratios } = samples;
    let of_sum = |share| percentile_of_sum(listen, seal, share);
    let (sum, sum_p99) = (median(listen) + median(seal), of_sum(0.99));
    let row = |what: &str, values: &[f64], ratio: Option<&Vec<f64>>| -> Row {
        let dash = || json!("-");
        vec![
            ("milliseconds", json!(what)),
            ("p50", json!(median(values))),
            ("p90", json!(percentile(values, 0.9))),
            ("p99", json!(percentile(values, 0.99))),
            ("p50 ÷ sum, median of rounds", ratio.map_or_else(dash, |ratios| json!(median(ratios)))),
            ("p99 ÷ sum's p99", ratio.map_or_else(dash, |_| json!(percentile(values, 0.99) / sum_p99))),
        ]
    };
    let sums: Row = vec![
        ("milliseconds", json!("sum of the two")),
        ("p50", json!(sum)),
        ("p90", json!(of_sum(0.9))),
        ("p99", json!(sum_p99)),
        ("p50 ÷ sum, median of rounds", json!(1)),
        ("p99 ÷ sum's p99", json!(1)),
    ];
    let rows = [
        row("COMMIT → LISTEN", listen, None),
        row("hub.seal()", seal, None),
        sums,
        row("COMMIT → one watcher", one, Some(&ratios[0])),
        row("COMMIT → last of 100", last_of_many, Some(&ratios[1])),
    ];
    let mut report = Report::new("latency");
    let Arguments { rate, rounds, seconds, .. } = arguments;
    report.table(
        &format!("At {rate} transactions a second, {rounds} rounds of {seconds} s each in turn"),
        &rows,
    );
    report.write()
}

struct Bench<'a> {
    cluster: &'a Cluster,
    hub: &'a HubProcess,
    arguments: &'a Arguments,
}

impl Bench<'_> {
    fn transactions(&self) -> u64 {
        self.arguments.seconds * self.arguments.rate
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks =
            interval(Duration::from_secs(1) / u32::try_from(self.arguments.rate).unwrap_or(u32::MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// The commit of an insert that notifies, into a table without a trigger, until a listener hears it.
    async fn listen(&self) -> anyhow::Result<Vec<f64>> {
        let (listener, mut connection) = self.config(BARE)?.connect(NoTls).await?;
        let (heard, mut hears) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(_) = message {
                    let _ = heard.send(Instant::now());
                }
            }
        });
        listener.batch_execute("LISTEN bench").await?;
        let writer = self.cluster.connect(BARE).await?;
        let insert = writer.prepare("INSERT INTO plain_dinosaurs (species) VALUES ('Tyrannosaurus')").await?;
        let notify = writer.prepare("SELECT pg_notify('bench', '')").await?;
        let mut ticks = self.ticks();
        let mut samples = Vec::new();
        for _ in 0..self.transactions() {
            ticks.tick().await;
            writer.batch_execute("BEGIN").await?;
            writer.execute(&insert, &[]).await?;
            writer.query(&notify, &[]).await?;
            let sent = Instant::now();
            writer.batch_execute("COMMIT").await?;
            let at = timeout(PATIENCE, hears.recv()).await?.context("the listener has ended")?;
            samples.push(millis(at - sent));
        }
        drop(listener);
        driver.abort();
        Ok(samples)
    }

    fn config(&self, database: &str) -> anyhow::Result<tokio_postgres::Config> {
        Ok(self.cluster.url(database)?.parse()?)
    }

    /// One seal of one new event, as the hub asks for it, where no hub runs.
    async fn seal(&self) -> anyhow::Result<Vec<f64>> {
        let sealer = HubConnection::open(&self.cluster.target(BARE)?).await?;
        let writer = self.cluster.connect(BARE).await?;
        let insert = writer.prepare("INSERT INTO dinosaurs (species) VALUES ('Tyrannosaurus')").await?;
        sealer.seal().await?;
        let mut ticks = self.ticks();
        let mut samples = Vec::new();
        for _ in 0..self.transactions() {
            ticks.tick().await;
            writer.execute(&insert, &[]).await?;
            let asked = Instant::now();
            let sealed = sealer.seal().await?;
            samples.push(millis(asked.elapsed()));
            ensure!(sealed.events == 1, "sealed {} events", sealed.events);
        }
        Ok(samples)
    }

    /// From the commit of a captured insert until the last of this many watchers has it.
    async fn watch(&self, streams: usize, connections: usize) -> anyhow::Result<Vec<f64>> {
        // One writer: the n-th event of every stream is its n-th transaction.
        let received: Vec<Arc<Mutex<Vec<Instant>>>> = (0..streams).map(|_| Arc::default()).collect();
        let observer = |n: usize| -> Observer {
            let log = received.get(n).cloned().unwrap_or_default();
            Box::new(move |_| log.lock().push(Instant::now()))
        };
        let mut watchers = Watchers::start(&self.hub.grpc, WATCH, (streams, connections), observer).await?;
        let writer = self.cluster.connect(WATCHED).await?;
        let sent = self.write(&writer).await?;
        watchers.expect(self.transactions()).await?;
        drop(watchers);
        let last = |n: usize| received.iter().filter_map(|log| log.lock().get(n).copied()).max();
        sent.iter()
            .enumerate()
            .map(|(n, sent)| Ok(millis(last(n).context("an event")?.saturating_duration_since(*sent))))
            .collect()
    }

    async fn write(&self, writer: &Driven) -> anyhow::Result<Vec<Instant>> {
        let insert = writer.prepare("INSERT INTO dinosaurs (species) VALUES ('Tyrannosaurus')").await?;
        let mut ticks = self.ticks();
        let mut sent = Vec::new();
        for _ in 0..self.transactions() {
            ticks.tick().await;
            writer.batch_execute("BEGIN").await?;
            writer.execute(&insert, &[]).await?;
            sent.push(Instant::now());
            writer.batch_execute("COMMIT").await?;
        }
        Ok(sent)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
