//! `trex import` and `trex export`, as separate processes, against a hub in this process.

mod export;
mod formats;
mod rejects;
mod resume;

use crate::support::{Database, PATIENCE, TestHub};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::timeout,
};
use trex::store::Driven;

/// A hub, and a folder to run the program in.
struct World {
    hub: TestHub,
    database: Database,
    session: Driven,
    folder: TempDir,
}

/// What a run of the program came to.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl World {
    async fn new() -> Self {
        Self::on(Database::create().await).await
    }

    async fn on(database: Database) -> Self {
        let hub = TestHub::start(&database).await;
        let session = database.connect().await;
        Self { hub, database, session, folder: tempfile::tempdir().unwrap() }
    }

    fn address(&self) -> String {
        self.hub.app().addresses().grpc.clone().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trex"));
        command
            .args(arguments)
            .env("TREX_SERVER", self.address())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.start(arguments)).await
    }

    /// Runs it with this on its standard input, through a pipe.
    async fn pipe(&self, arguments: &[&str], content: &[u8]) -> Outcome {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let content = content.to_vec();
        let writer = tokio::spawn(async move { stdin.write_all(&content).await });
        let outcome = outcome(child).await;
        writer.await.unwrap().unwrap();
        outcome
    }

    /// The species in the table, sorted.
    async fn species(&self) -> Vec<String> {
        let rows = self.session.query("SELECT species FROM dinosaurs", &[]).await.unwrap();
        let mut species: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        species.sort();
        species
    }
}

async fn outcome(child: Child) -> Outcome {
    let output = timeout(*PATIENCE, child.wait_with_output()).await.expect("its end in time").unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Outcome {
    /// Its exit code, or all that it said.
    #[track_caller]
    fn ended_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    fn said(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "not said: {text:?}: {self:?}");
        self
    }
}

/// This many dinosaurs as NDJSON, each with its own species.
fn herd(count: usize) -> String {
    (0..count).map(|n| format!("{{\"species\":\"{}\"}}\n", name(n))).collect()
}

fn name(n: usize) -> String {
    format!("species {n:06}")
}

fn names(indices: impl IntoIterator<Item = usize>) -> Vec<String> {
    indices.into_iter().map(name).collect()
}

/// Line, index, code and raw line of every reject in a list.
fn listed(path: &Path) -> Vec<(u64, Option<u64>, String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let fields = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        (line["line"].as_u64().unwrap(), line["index"].as_u64(), text("code"), text("raw"))
    };
    text.lines().map(fields).collect()
}
