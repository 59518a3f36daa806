//! The hub as a process of its own, and signals.

use std::{
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How a hub is run: with bounds small enough that a stalled watcher of a modest load exceeds them.
const OPTIONS: [&str; 21] = [
    "--grpc-server-bindaddress=localhost:0",
    "--admin-server-bindaddress=localhost:0",
    "--metrics-server-bindaddress=localhost:0",
    "--api-server-bindaddress=localhost:0",
    "--health-check-server-bindaddress=localhost:0",
    "--log=info",
    "--audit=true",
    "--log-window-bytes",
    "1048576",
    "--watch-buffer",
    "128",
    "--watch-blocked-after",
    "300ms",
    "--drain-timeout",
    "1s",
    "--inspection-interval",
    "1s",
    "--compaction-interval",
    "1s",
    "--db-pool-size",
    "4",
];

/// What a hub is run with beside these.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    pub options: &'static [&'static str],
    pub environment: Vec<(&'static str, String)>,
}

/// A running hub. It is killed when this is dropped.
pub struct HubProcess {
    child: Child,
    pub pid: u32,
    /// Where its gRPC is.
    pub address: String,
}

impl HubProcess {
    /// Starts one in a process group; `None`: it ended at once, as it does without its database.
    pub async fn start(database_url: &str, manner: &Manner, log: &PathBuf, group: i32) -> Option<Self> {
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_trex"))
            .arg("serve")
            .args(OPTIONS)
            .args(manner.options)
            .envs(manner.environment.clone())
            .env("DATABASE_URL", database_url)
            .env("TREX_DINOSAURS", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(group)
            .kill_on_drop(true)
            .spawn()
            .expect("the hub's program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(address) = line.trim().strip_prefix("gRPC ") {
                let (pid, address) = (child.id().expect("it runs"), address.trim().to_owned());
                // What it says later goes nowhere, but it must be able to say it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(Self { child, pid, address });
            }
        }
        None
    }

    /// `kill -9`; returns when it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a kill");
    }

    /// SIGTERM; returns when it has ended.
    pub async fn terminate(mut self) -> ExitStatus {
        signal("TERM", &[self.pid]);
        self.child.wait().await.expect("its end")
    }
}

/// The process group of a process: its parent and name stand before it in `stat`, the name in parentheses.
pub fn group_of(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that runs");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    rest.split(' ').nth(2).and_then(|group| group.parse().ok()).expect("a process group")
}

/// Sends a signal. Some of the processes may have ended.
pub fn signal(name: &str, pids: &[u32]) {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", r#"for pid; do kill -s "$0" "$pid"; done"#, name]);
    command.args(pids.iter().map(u32::to_string)).stderr(Stdio::null());
    command.status().expect("/bin/sh");
}

/// Processes that are stopped for as long as this lives.
pub struct Frozen(Vec<u32>);

impl Frozen {
    pub fn new(pids: Vec<u32>) -> Self {
        signal("STOP", &pids);
        Self(pids)
    }

    pub fn add(&mut self, pids: Vec<u32>) {
        signal("STOP", &pids);
        self.0.extend(pids);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}
