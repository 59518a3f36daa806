//! pgbench, from the binaries that the supervisor found.

use super::cluster::Cluster;
use anyhow::{Context, ensure};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

/// What to run.
pub struct Load<'a> {
    /// Where.
    pub database: &'a str,
    /// One transaction.
    pub script: &'a str,
    /// Sessions at a time.
    pub clients: u32,
    /// For this long.
    pub seconds: u32,
}

/// What pgbench says.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Transactions a second, connecting left out.
    pub rate: f64,
    /// Transactions.
    pub transactions: u64,
}

impl Load<'_> {
    /// Runs it: prepared statements, nothing vacuumed. A checkpoint comes first, so that each run begins
    /// alike.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<Outcome> {
        self.run_with(cluster, &[]).await
    }

    /// The same, and how long each transaction took, in milliseconds. `rate`: this many transactions a
    /// second, and then with the time for which each came too late; else as many as can be.
    pub async fn latencies(&self, cluster: &Cluster, rate: Option<u32>) -> anyhow::Result<Vec<f64>> {
        let dir = std::env::temp_dir().join(format!("trex-bench-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let prefix = format!("--log-prefix={}", dir.join("log").display());
        let rate = rate.map(|rate| format!("--rate={rate}"));
        let options: Vec<&str> = ["-l", &prefix].into_iter().chain(rate.as_deref()).collect();
        let outcome = self.run_with(cluster, &options).await;
        let latencies = read_log(&dir);
        std::fs::remove_dir_all(&dir)?;
        ensure!(outcome?.transactions > 0, "no transaction was done");
        latencies
    }

    async fn run_with(&self, cluster: &Cluster, options: &[&str]) -> anyhow::Result<Outcome> {
        cluster.connect(self.database).await?.batch_execute("CHECKPOINT").await?;
        let script = script_file(self.script)?;
        let output = tokio::process::Command::new(cluster.program("pgbench")?)
            .args(["-n", "-M", "prepared"])
            .args(options)
            .args(["-c", &self.clients.to_string(), "-j", &self.clients.min(2).to_string()])
            .args(["-T", &self.seconds.to_string(), "-f"])
            .arg(&script)
            .arg(cluster.url(self.database)?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        std::fs::remove_file(&script)?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Outcome {
            rate: number_after(&text, "tps = ")?,
            transactions: number_after(&text, "actually processed: ")? as u64,
        })
    }
}

fn script_file(script: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("trex-bench-{}.sql", std::process::id()));
    std::fs::write(&path, script)?;
    Ok(path)
}

/// The third field of each line is the latency in microseconds.
fn read_log(dir: &Path) -> anyhow::Result<Vec<f64>> {
    let mut latencies = Vec::new();
    for file in std::fs::read_dir(dir)? {
        for line in std::fs::read_to_string(file?.path())?.lines() {
            let micros = line.split(' ').nth(2).with_context(|| format!("no latency in {line:?}"))?;
            latencies.push(micros.parse::<f64>()? / 1e3);
        }
    }
    Ok(latencies)
}

fn number_after(text: &str, key: &str) -> anyhow::Result<f64> {
    let rest = text.split_once(key).with_context(|| format!("pgbench does not say {key:?}:\n{text}"))?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Ok(rest.get(..end).unwrap_or_default().parse()?)
}
