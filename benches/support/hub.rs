//! The release binary in a process of its own, so that its processor time is its own.

use super::PATIENCE;
use anyhow::{Context, bail, ensure};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// A running hub.
pub struct HubProcess {
    child: Child,
    /// Where gRPC is.
    pub grpc: String,
    metrics: String,
    health: String,
}

impl HubProcess {
    /// Starts it on a database; returns when it is ready.
    pub async fn start(database_url: &str, more: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_trex"))
            .args(["serve", "--dinosaurs", "--database-url", database_url, "--log", "warn"])
            .args(["--grpc-server-bindaddress", "localhost:0"])
            .args(["--admin-server-bindaddress", "localhost:0"])
            .args(["--metrics-server-bindaddress", "localhost:0"])
            .args(["--api-server-bindaddress", "localhost:0"])
            .args(["--health-check-server-bindaddress", "localhost:0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        let mut hub = Self { child, grpc: String::new(), metrics: String::new(), health: String::new() };
        timeout(PATIENCE, hub.learn_addresses(stdout)).await.context("the hub does not start")??;
        timeout(PATIENCE, hub.ready()).await.context("the hub does not become ready")?;
        Ok(hub)
    }

    async fn learn_addresses(&mut self, stdout: tokio::process::ChildStdout) -> anyhow::Result<()> {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            let mut words = line.split_whitespace();
            let host = |url: &str| {
                let rest = url.trim_start_matches("http://");
                rest.split_once('/').map_or(rest, |(host, _)| host).to_owned()
            };
            match (words.next(), words.next()) {
                (Some("gRPC"), Some(address)) => self.grpc = address.to_owned(),
                (Some("metrics"), Some(url)) => self.metrics = host(url),
                (Some("health"), Some(url)) => self.health = host(url),
                _ => {}
            }
            if !self.health.is_empty() {
                // What it says later must not fill the pipe.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(());
            }
        }
        bail!("the hub has ended")
    }

    async fn ready(&self) {
        while !get(&self.health, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the hub has ended")
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let text = get(&self.metrics, "/metrics").await?;
        ensure!(text.starts_with("HTTP/1.1 200"), "no metrics: {text}");
        Ok(Metrics(text))
    }

    /// Ends it as an operator does.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid()?.to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await?;
        timeout(PATIENCE, self.child.wait()).await.context("the hub does not end")??;
        Ok(())
    }
}

async fn get(host: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(host).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The metrics of one moment.
pub struct Metrics(String);

impl Metrics {
    /// The sum of a metric's series.
    pub fn value(&self, name: &str) -> f64 {
        self.series(name).map(|(_, value)| value).sum()
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let rest = self.0.lines().filter_map(move |line| line.strip_prefix(name));
        let rest = rest.filter(|rest| rest.starts_with([' ', '{']));
        rest.filter_map(|rest| {
            rest.rsplit_once(' ').and_then(|(labels, value)| Some((labels, value.parse().ok()?)))
        })
    }

    /// A quantile of what a histogram saw since `before`: the upper edge of the bucket that it lies in.
    pub fn quantile_since(&self, before: &Self, name: &str, share: f64) -> f64 {
        let buckets = format!("{name}_bucket");
        let edge = |labels: &str| labels.split('"').nth(1).and_then(|edge| edge.parse::<f64>().ok());
        let earlier: Vec<f64> = before.series(&buckets).map(|(_, count)| count).collect();
        let counts: Vec<(f64, f64)> = self
            .series(&buckets)
            .enumerate()
            .map(|(n, (labels, count))| {
                (edge(labels).unwrap_or(f64::INFINITY), count - earlier.get(n).copied().unwrap_or(0.0))
            })
            .collect();
        let all = counts.last().map_or(0.0, |(_, count)| *count);
        counts.iter().find(|(_, count)| *count >= all * share).map_or(0.0, |(edge, _)| *edge)
    }
}
