//! The processes of a measurement: a server, and a client that publishes and counts. Both end with this
//! program.

use crate::support::PATIENCE;
use crate::{
    Shape,
    contender::{Contender, Protocol},
    orders::{Order, Outcome},
    support::cpu,
};
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::{process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// What a server of this program says when it is up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// For streams.
    pub(crate) streams: String,
    /// For whoever appends.
    pub(crate) control: String,
}

/// Something that serves streams.
pub(crate) struct Server {
    pid: u32,
    /// For streams.
    pub(crate) address: String,
    /// How events come to it: see `client::Feed`.
    pub(crate) feed: String,
    /// What its clients speak.
    pub(crate) protocol: Protocol,
    child: Option<Child>,
    /// Its data, which goes with it.
    _data: Option<TempDir>,
}

impl Server {
    /// One of this program's own; `more` are its arguments.
    pub(crate) async fn of_this_program(contender: Contender, more: &[&str]) -> anyhow::Result<Self> {
        let mut child = this_program(&["serve", &contender.name()], more)?;
        let stdout = child.stdout.take().context("its output")?;
        let line = timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await??;
        let line = line.with_context(|| format!("{} has ended", contender.name()))?;
        let Addresses { streams, control } = serde_json::from_str(&line)?;
        let feed = format!("control:{control}");
        Ok(Self { feed, ..Self::of_child(child, streams, contender.protocol())? })
    }

    /// A peer's program that was started; events are published by its own protocol.
    pub(crate) fn of_peer(
        child: Child,
        address: String,
        protocol: Protocol,
        data: TempDir,
    ) -> anyhow::Result<Self> {
        Ok(Self { _data: Some(data), ..Self::of_child(child, address, protocol)? })
    }

    fn of_child(child: Child, address: String, protocol: Protocol) -> anyhow::Result<Self> {
        let pid = child.id().context("it has ended")?;
        Ok(Self { pid, address, feed: "peer".to_owned(), protocol, child: Some(child), _data: None })
    }

    /// The hub's program, which somebody else has started, on a database.
    pub(crate) fn of_hub(pid: u32, address: &str, database_url: &str) -> Self {
        // Both loopbacks have one port.
        let address = address.replace("localhost", "127.0.0.1");
        let feed = format!("postgres:{database_url}");
        Self { pid, address, feed, protocol: Protocol::Watch, child: None, _data: None }
    }

    /// Its processor time until now. By its threads, for that is counted in nanoseconds; servers keep theirs.
    pub(crate) fn cpu(&self) -> Duration {
        cpu::of_threads(self.pid, "")
    }

    /// Waits until it has nothing to do.
    pub(crate) async fn quiet(&self) {
        const WHILE: Duration = Duration::from_millis(500);
        let mut before = self.cpu();
        loop {
            tokio::time::sleep(WHILE).await;
            let now = self.cpu();
            // A hub at rest looks around now and then.
            if now.saturating_sub(before) <= WHILE / 20 {
                return;
            }
            before = now;
        }
    }

    /// Its resident memory in bytes, as the kernel sums it up.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
        let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>()?;
        Ok(kilobytes * 1024)
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }
}

fn this_program(role: &[&str], more: &[&str]) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(role).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// A client in a process of its own, with all its streams open.
pub(crate) struct Driver {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    /// Opens the streams; `more` are its arguments.
    pub(crate) async fn start(server: &Server, shape: Shape, more: &[&str]) -> anyhow::Result<Self> {
        let connections =
            if server.protocol.has_one_stream_each() { shape.streams } else { shape.connections };
        let role = [
            "drive",
            "--protocol",
            &server.protocol.name(),
            "--address",
            &server.address,
            "--feed",
            &server.feed,
            "--streams",
            &shape.streams.to_string(),
            "--connections",
            &connections.to_string(),
        ];
        let mut child = this_program(&role, more)?;
        let orders = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut driver = Self { child, orders, answers };
        ensure!(driver.answer().await? == Outcome::default(), "the client is not ready");
        Ok(driver)
    }

    /// Gives an order and waits until it is done.
    pub(crate) async fn order(&mut self, order: Order) -> anyhow::Result<Outcome> {
        self.orders.write_all(format!("{}\n", serde_json::to_string(&order)?).as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<Outcome> {
        let line = timeout(PATIENCE, self.answers.next_line()).await.context("the client says nothing")??;
        Ok(serde_json::from_str(&line.context("the client has ended")?)?)
    }

    /// Closes the streams.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
