//! A million rows by `trex import`, with one watcher following: how fast, with how much memory, and whether
//! every row arrives.
//!
//! `cargo bench --bench million -- --rows 1000000`

mod support;

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::json;
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};
use support::{
    cluster::Cluster,
    hub::HubProcess,
    loading::Names,
    report::Report,
    wire::{WATCH, Watchers},
};
use tokio::process::{Child, Command};

const DATABASE: &str = "million";
/// How often a process's peak is read: it is gone with the process.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Parser)]
struct Arguments {
    /// Rows: the repository's names, repeated
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Rows per transaction
    #[arg(long, default_value_t = 1_000)]
    batch: u32,
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
    let Arguments { rows, batch, .. } = arguments;
    let folder = tempfile::tempdir_in(arguments.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let file = folder.path().join("dinosaurs.ndjson");
    write_names(&file, rows)?;
    let cluster = Cluster::start(arguments.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let hub = HubProcess::start(&cluster.url(DATABASE)?, &[]).await?;
    // The default request: it could be dropped from.
    let mut watchers = Watchers::start(&hub.grpc, WATCH, (1, 1), |_| Box::new(|_| {})).await?;

    let at_rest = resident(hub.pid()?, "VmRSS").context("the hub's memory")?;
    let began = Instant::now();
    let client_peak = import(&hub, &file, batch).await?;
    let imported = began.elapsed();
    watchers.expect(rows).await?;
    let watched = began.elapsed();
    let hub_peak = resident(hub.pid()?, "VmHWM").context("the hub's memory")?;

    let dropped = hub.metrics().await?.value("grpc_stream_events_dropped_total");
    ensure!(dropped == 0.0, "{dropped} events dropped");
    let session = cluster.connect(DATABASE).await?;
    let there: i64 = session.query_one("SELECT count(*) FROM dinosaurs", &[]).await?.get(0);
    ensure!(u64::try_from(there)? == rows, "{there} rows of {rows}");

    let mut report = Report::new("million");
    let rate = |elapsed: Duration| rows as f64 / elapsed.as_secs_f64();
    let row = vec![
        ("rows in the file", json!(rows)),
        ("in the table", json!(there)),
        ("at the watcher", json!(watchers.counts().first())),
        ("seconds", json!(imported.as_secs_f64())),
        ("rows/s", json!(rate(imported))),
        ("watcher behind, s", json!((watched - imported).as_secs_f64())),
        ("hub at rest, MiB", json!(at_rest)),
        ("hub's peak, MiB", json!(hub_peak)),
        ("client's peak, MiB", json!(client_peak)),
    ];
    report.table(&format!("trex import, {batch} rows a transaction, one watcher following"), &[row]);
    report.write()?;
    drop((watchers, session));
    hub.stop().await?;
    cluster.stop().await
}

fn write_names(path: &Path, rows: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for species in Names::read()?.cycle().take(usize::try_from(rows)?) {
        serde_json::to_writer(&mut file, &json!({ "species": species }))?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(())
}

/// Runs the program to its end; its peak of resident memory in MiB.
async fn import(hub: &HubProcess, file: &Path, batch: u32) -> anyhow::Result<f64> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trex"))
        .args(["import", "--server", &hub.grpc, "--batch-size", &batch.to_string()])
        .arg(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut peak = 0.0;
    loop {
        peak = peak_of(&child).unwrap_or(peak);
        tokio::select! {
            status = child.wait() => {
                let status = status?;
                ensure!(status.success(), "trex import: {status}");
                return Ok(peak);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn peak_of(child: &Child) -> Option<f64> {
    resident(child.id()?, "VmHWM")
}

/// A figure of `/proc/PID/status`, in MiB.
fn resident(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
