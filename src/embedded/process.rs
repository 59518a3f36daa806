//! Processes that may or may not be our children: who they are, signals, and their end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::watch;

use super::error::EmbeddedError;

/// How often a process that is not our child is looked at.
const ADOPTED_POLL: Duration = Duration::from_millis(50);

/// The signals that Postgres knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    /// Fast shutdown: rolls back, writes a checkpoint.
    Interrupt,
    /// Immediate shutdown: recovery at the next start.
    Quit,
    Kill,
}

/// A running process whose end can be awaited from any runtime, or from several.
///
/// A separate thread waits for it, reaps it if it is our child, and ends with it.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pid: u32,
    status: watch::Receiver<Option<String>>,
}

impl Process {
    pub(super) fn child(mut child: Child) -> Result<Self, EmbeddedError> {
        Self::watch(child.id(), move |_| match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })
    }

    /// The postmaster of this cluster, which another process has started.
    pub(super) fn adopted(pid: u32, pgdata: &Path) -> Result<Self, EmbeddedError> {
        let pgdata = pgdata.to_path_buf();
        Self::watch(pid, move |status| {
            while holder_of(pid, &pgdata) == Holder::Postmaster && !status.is_closed() {
                std::thread::sleep(ADOPTED_POLL);
            }
            "not our child: no exit status".to_owned()
        })
    }

    fn watch(
        pid: u32,
        wait: impl FnOnce(&watch::Sender<Option<String>>) -> String + Send + 'static,
    ) -> Result<Self, EmbeddedError> {
        let (sender, status) = watch::channel(None);
        let thread = std::thread::Builder::new().name(format!("wait-{pid}"));
        let spawned = thread.spawn(move || {
            let status = wait(&sender);
            sender.send_replace(Some(status));
        });
        spawned.map_err(EmbeddedError::io("wait for", format!("process {pid}")))?;
        Ok(Self { pid, status })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn is_running(&self) -> bool {
        self.status.borrow().is_none()
    }

    /// Waits until it has ended, and says how.
    pub(super) async fn ended(&self) -> String {
        let mut status = self.status.clone();
        match status.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "its watcher is gone".to_owned(),
        }
    }

    /// Whether it has ended within `limit`.
    pub(super) async fn ends_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }

    /// Sends a signal, unless it has ended already.
    ///
    /// The `kill` of the shell: it is there even where the program of that name is not installed.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), EmbeddedError> {
        if !self.is_running() {
            return Ok(());
        }
        let name = match signal {
            Signal::Interrupt => "INT",
            Signal::Quit => "QUIT",
            Signal::Kill => "KILL",
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"kill -s "$0" "$1""#, name, &self.pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().map_err(EmbeddedError::io("run", "/bin/sh"))?;
        // It may have ended on its own in between: the caller, who waits for its end, will see.
        tracing::debug!(pid = self.pid, ?signal, delivered = status.success(), "signal to Postgres");
        Ok(())
    }
}

/// Who has the pid that a `postmaster.pid` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody, or only what is left of a process until its parent reaps it.
    Nobody,
    /// The postmaster of this very cluster.
    Postmaster,
    /// Certainly something else: the pid was reused.
    Stranger,
    /// Perhaps a postmaster of this cluster, started by hand.
    Unclear,
}

pub(super) fn holder_of(pid: u32, pgdata: &Path) -> Holder {
    command_line(pid).map_or(Holder::Nobody, |line| judge(line.trim_end(), &pgdata.to_string_lossy()))
}

/// The arguments, joined by spaces. World-readable, unlike the working directory of a process.
fn command_line(pid: u32) -> Option<String> {
    let bytes = if Path::new("/proc/self/cmdline").exists() {
        std::fs::read(format!("/proc/{pid}/cmdline")).ok()?
    } else {
        let mut command = Command::new("ps");
        command.args(["-ww", "-o", "args=", "-p", &pid.to_string()]).stdin(Stdio::null());
        command.output().ok()?.stdout
    };
    let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
    (!line.trim().is_empty()).then_some(line)
}

/// A postmaster of ours reads `/path/to/postgres -D <pgdata> -c …`; a backend has a title,
/// `postgres: checkpointer`.
fn judge(command_line: &str, pgdata: &str) -> Holder {
    let (program, args) = match command_line.split_once(" -D ") {
        Some((program, args)) => (program, Some(args)),
        None => (command_line.split(' ').next().unwrap_or_default(), None),
    };
    let name = program.rsplit('/').next().unwrap_or_default();
    if !matches!(name, "postgres" | "postmaster") {
        return Holder::Stranger;
    }
    match args.and_then(|args| args.strip_prefix(pgdata)) {
        Some(rest) if rest.is_empty() || rest.starts_with(' ') => Holder::Postmaster,
        _ if args.is_some_and(|args| args.starts_with('/')) => Holder::Stranger,
        _ => Holder::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_told_apart() {
        let judge = |line| judge(line, "/my data/pgdata");
        assert_eq!(
            judge("/usr/lib/postgresql/17/bin/postgres -D /my data/pgdata -c port=1"),
            Holder::Postmaster
        );
        assert_eq!(judge("/opt/my pg/postgres -D /my data/pgdata"), Holder::Postmaster);
        assert_eq!(judge("postgres -D /my data/pgdata2 -c port=1"), Holder::Stranger);
        assert_eq!(judge("postgres: checkpointer"), Holder::Stranger);
        assert_eq!(judge("/usr/bin/vim -D /my data/pgdata"), Holder::Stranger);
        assert_eq!(judge("postgres -D pgdata"), Holder::Unclear);
        assert_eq!(judge("postgres"), Holder::Unclear);
    }

    #[test]
    fn our_own_pid_is_a_stranger() {
        assert_eq!(holder_of(std::process::id(), Path::new("/data")), Holder::Stranger);
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_seen_and_it_is_reaped() {
        let child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let process = Process::child(child).unwrap();
        assert!(process.ended().await.contains('3'));
        assert!(!process.is_running());
        assert_eq!(holder_of(process.pid(), Path::new("/data")), Holder::Nobody);
    }

    #[tokio::test]
    async fn a_signal_arrives() {
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let process = Process::child(child).unwrap();
        assert!(!process.ends_within(Duration::from_millis(20)).await);
        process.signal(Signal::Kill).unwrap();
        assert!(process.ended().await.contains('9'));
    }
}
