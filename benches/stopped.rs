//! What watchers that read nothing cost writers: the latency of pgbench's transactions beside a hub, with and
//! without a hundred of them, in paired runs.
//!
//! `cargo bench --bench stopped -- --pairs 7 --seconds 5`

mod support;

use anyhow::ensure;
use clap::Parser;
use serde_json::json;
use std::{path::PathBuf, process::ExitCode};
use support::{
    cluster::Cluster,
    hub::HubProcess,
    pgbench::Load,
    report::{Report, Row},
    stats::{Pairs, median, percentile},
    wire::{WATCH, Watchers},
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use trex::proto::rh_trex::v1::{
    DinosaurWatchEvent, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
};

const DATABASE: &str = "stopped";
/// Of everything, all the time.
const READERS: usize = 10;
const INSERT: &str = "INSERT INTO dinosaurs (species) VALUES ('Tyrannosaurus');";
/// Small, so that little of what nobody reads is in flight.
const NARROW: u32 = 65_535;
/// Percentiles that are compared.
const SHARES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

#[derive(Parser)]
struct Arguments {
    /// Paired runs for each number of clients
    #[arg(long, env = "BENCH_PAIRS", default_value_t = 7)]
    pairs: usize,
    /// Seconds per run
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 5)]
    seconds: u32,
    /// Numbers of pgbench clients
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    clients: Vec<u32>,
    /// Transactions a second; without it as many as can be
    #[arg(long)]
    rate: Option<u32>,
    /// Watchers that read nothing, each on a connection of its own
    #[arg(long, default_value_t = 100)]
    stopped: usize,
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

async fn program(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = Cluster::start(arguments.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let hub = HubProcess::start(&cluster.url(DATABASE)?, &[]).await?;
    let readers = Watchers::start(&hub.grpc, WATCH, (READERS, READERS), |_| Box::new(|_| {})).await?;
    let mut rows = Vec::new();
    for &clients in &arguments.clients {
        rows.extend(compare(&cluster, &hub, &arguments, clients).await?);
    }
    drop(readers);
    hub.stop().await?;
    let mut report = Report::new("stopped");
    let Arguments { pairs, seconds, stopped, rate, .. } = arguments;
    let rate = rate.map_or("as many as can be".to_owned(), |rate| format!("{rate} a second"));
    report.table(
        &format!(
            "Milliseconds of a transaction, {rate}, without and with {stopped} stopped watchers: \
                  medians of {pairs} pairs of {seconds} s"
        ),
        &rows,
    );
    report.write()?;
    cluster.stop().await
}

async fn compare(
    cluster: &Cluster,
    hub: &HubProcess,
    arguments: &Arguments,
    clients: u32,
) -> anyhow::Result<Vec<Row>> {
    let load = Load { database: DATABASE, script: INSERT, clients, seconds: arguments.seconds };
    let mut pairs: [Pairs; 2] = Default::default();
    for pair in 0..arguments.pairs {
        let mut runs = [Vec::new(), Vec::new()];
        // Which comes first changes from pair to pair.
        for turn in [pair % 2, 1 - pair % 2] {
            let watchers = stop_watchers(&hub.grpc, arguments.stopped * turn).await?;
            let latencies = load.latencies(cluster, arguments.rate).await?;
            ensure!(watchers.len() == arguments.stopped * turn, "that many watchers");
            if let Some(run) = runs.get_mut(turn) {
                *run = latencies;
            }
        }
        let [without, with] = &runs;
        for (pairs, (_, share)) in pairs.iter_mut().zip(SHARES) {
            pairs.push(percentile(without, share), percentile(with, share));
        }
    }
    Ok(pairs.iter().zip(SHARES).map(|(pairs, (name, _))| figures(clients, name, pairs)).collect())
}

/// Watches whose clients read nothing of them; they end when this is dropped.
async fn stop_watchers(address: &str, count: usize) -> anyhow::Result<Vec<Streaming<DinosaurWatchEvent>>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(NARROW)
        .initial_connection_window_size(NARROW);
    let mut streams = Vec::new();
    for _ in 0..count {
        let channel: Channel = endpoint.connect().await?;
        let mut client = DinosaurServiceClient::new(channel);
        streams.push(client.watch_dinosaurs(WatchDinosaursRequest::default()).await?.into_inner());
    }
    Ok(streams)
}

fn figures(clients: u32, name: &str, pairs: &Pairs) -> Row {
    let ratios = pairs.ratios();
    vec![
        ("clients", json!(clients)),
        ("", json!(name)),
        ("none", json!(median(&pairs.base))),
        ("stopped", json!(median(&pairs.other))),
        ("ratio", json!(median(&ratios))),
        ("lowest", json!(percentile(&ratios, 0.0))),
        ("highest", json!(percentile(&ratios, 1.0))),
    ]
}
