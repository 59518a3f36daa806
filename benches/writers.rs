//! What capture costs writers: pgbench on a captured table against the identical table and statement without
//! a trigger, in turn, on a durable Postgres; with a hub that ten watchers listen to, and with none.
//!
//! `cargo bench --bench writers -- --pairs 5 --seconds 5`

mod support;

use anyhow::ensure;
use clap::Parser;
use serde_json::json;
use std::{path::PathBuf, process::ExitCode, time::Duration};
use support::{
    cluster::Cluster,
    cpu,
    hub::HubProcess,
    pgbench::Load,
    report::{Report, Row},
    stats::{Pairs, median, percentile},
    wire::{WATCH, Watchers},
};

const DATABASE: &str = "writers";
const WATCHERS: usize = 10;
const CAPTURED: &str = "INSERT INTO dinosaurs (species) VALUES ('Tyrannosaurus');";
const PLAIN: &str = "INSERT INTO plain_dinosaurs (species) VALUES ('Tyrannosaurus');";

#[derive(Parser)]
struct Arguments {
    /// Paired runs for each number of clients
    #[arg(long, env = "BENCH_PAIRS", default_value_t = 5)]
    pairs: usize,
    /// Seconds per run
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 5)]
    seconds: u32,
    /// Numbers of pgbench clients
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    clients: Vec<u32>,
    /// A directory on the disk to write to
    #[arg(long, env = "BENCH_DIR")]
    dir: Option<PathBuf>,
    /// Leave out the runs without a hub
    #[arg(long)]
    hub_only: bool,
    /// SQL to run on the database first: a variant of the capture, say
    #[arg(long)]
    prepare: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::run(program(Arguments::parse()))
}

async fn program(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = Cluster::start(arguments.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let session = cluster.connect(DATABASE).await?;
    session.batch_execute("CREATE TABLE plain_dinosaurs (LIKE dinosaurs INCLUDING ALL)").await?;
    if let Some(path) = &arguments.prepare {
        session.batch_execute(&std::fs::read_to_string(path)?).await?;
    }
    let mut report = Report::new("writers");
    let mut bench = Bench { cluster: &cluster, arguments: &arguments, delivered: 0 };
    for hubs in [true, false] {
        if !hubs && arguments.hub_only {
            continue;
        }
        let mut rows = Vec::new();
        for &clients in &arguments.clients {
            rows.push(if hubs { bench.with_hub(clients).await? } else { bench.without_hub(clients).await? });
        }
        let how = if hubs { "a hub and ten watchers of everything" } else { "no hub" };
        let (pairs, seconds) = (arguments.pairs, arguments.seconds);
        report.table(
            &format!("Transactions a second, {how}: medians of {pairs} pairs of {seconds} s in turn"),
            &rows,
        );
    }
    report.write()?;
    drop(session);
    cluster.stop().await
}

struct Bench<'a> {
    cluster: &'a Cluster,
    arguments: &'a Arguments,
    /// Events that the watchers of the present hub have had.
    delivered: u64,
}

/// What the hub did in the captured runs of one number of clients.
#[derive(Default)]
struct HubWork {
    transactions: u64,
    sealed_to_sent: Vec<f64>,
    captured_to_sealed: Vec<f64>,
    seals: f64,
    hub: Duration,
    backends: Duration,
}

impl Bench<'_> {
    async fn without_hub(&mut self, clients: u32) -> anyhow::Result<Row> {
        let mut pairs = Pairs::default();
        for pair in 0..self.arguments.pairs {
            let (plain, captured) = self.pair(pair, clients, None).await?;
            pairs.push(plain, captured);
        }
        Ok(figures(clients, &pairs))
    }

    async fn with_hub(&mut self, clients: u32) -> anyhow::Result<Row> {
        let hub = HubProcess::start(&self.cluster.url(DATABASE)?, &[]).await?;
        let watchers = Watchers::start(&hub.grpc, WATCH, (WATCHERS, WATCHERS), |_| Box::new(|_| {})).await?;
        let mut watched = Watched { hub, watchers, work: HubWork::default() };
        self.delivered = 0;
        let mut pairs = Pairs::default();
        for pair in 0..self.arguments.pairs {
            let (plain, captured) = self.pair(pair, clients, Some(&mut watched)).await?;
            pairs.push(plain, captured);
        }
        let Watched { hub, watchers, work } = watched;
        drop(watchers);
        hub.stop().await?;
        let mut row = figures(clients, &pairs);
        let per_event = |time: Duration| time.as_secs_f64() * 1e6 / work.transactions as f64;
        row.extend([
            ("sealed→sent p99 ms ≤", json!(median(&work.sealed_to_sent) * 1e3)),
            ("captured→sealed p50 ms ≤", json!(median(&work.captured_to_sealed) * 1e3)),
            ("events per seal", json!(work.transactions as f64 / work.seals)),
            ("hub CPU µs/event", json!(per_event(work.hub))),
            ("its backends CPU µs/event", json!(per_event(work.backends))),
        ]);
        Ok(row)
    }

    /// A run of each table; which comes first changes from pair to pair.
    async fn pair(
        &mut self,
        pair: usize,
        clients: u32,
        mut watched: Option<&mut Watched>,
    ) -> anyhow::Result<(f64, f64)> {
        let mut rates = [0.0; 2];
        for turn in [pair % 2, 1 - pair % 2] {
            let rate = if turn == 0 {
                self.load(PLAIN, clients).run(self.cluster).await?.rate
            } else {
                match watched.as_deref_mut() {
                    Some(watched) => self.watched(clients, watched).await?,
                    None => self.load(CAPTURED, clients).run(self.cluster).await?.rate,
                }
            };
            if let Some(slot) = rates.get_mut(turn) {
                *slot = rate;
            }
        }
        Ok((rates[0], rates[1]))
    }

    fn load(&self, script: &'static str, clients: u32) -> Load<'static> {
        Load { database: DATABASE, script, clients, seconds: self.arguments.seconds }
    }

    /// A captured run, every row of which must reach every watcher.
    async fn watched(&mut self, clients: u32, watched: &mut Watched) -> anyhow::Result<f64> {
        let backends = self.cluster.hub_backends(DATABASE).await?;
        let backends_cpu = || backends.iter().map(|&pid| cpu::of_process(pid)).sum::<Duration>();
        let pid = watched.hub.pid()?;
        let before = watched.hub.metrics().await?;
        let (hub_before, backends_before) = (cpu::of_process(pid), backends_cpu());
        let outcome = self.load(CAPTURED, clients).run(self.cluster).await?;
        self.delivered += outcome.transactions;
        watched.watchers.expect(self.delivered).await?;
        let after = watched.hub.metrics().await?;
        let work = &mut watched.work;
        work.hub += cpu::of_process(pid) - hub_before;
        work.backends += backends_cpu() - backends_before;
        work.transactions += outcome.transactions;
        work.seals += after.value("hub_seals_total") - before.value("hub_seals_total");
        work.sealed_to_sent.push(after.quantile_since(&before, "hub_sealed_to_sent_seconds", 0.99));
        work.captured_to_sealed.push(after.quantile_since(&before, "hub_captured_to_sealed_seconds", 0.5));
        let dropped = after.value("grpc_stream_events_dropped_total");
        ensure!(dropped == 0.0, "{dropped} events dropped");
        Ok(outcome.rate)
    }
}

/// A hub with its watchers.
struct Watched {
    hub: HubProcess,
    watchers: Watchers,
    work: HubWork,
}

fn figures(clients: u32, pairs: &Pairs) -> Row {
    let ratios = pairs.ratios();
    vec![
        ("clients", json!(clients)),
        ("plain/s", json!(median(&pairs.base))),
        ("captured/s", json!(median(&pairs.other))),
        ("ratio", json!(median(&ratios))),
        ("lowest", json!(percentile(&ratios, 0.0))),
        ("highest", json!(percentile(&ratios, 1.0))),
    ]
}
