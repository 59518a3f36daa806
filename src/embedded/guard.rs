//! Removes an ephemeral cluster when the process that owns it is gone, however it ended.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use super::error::EmbeddedError;
use super::process::{Process, Signal};

/// Waits for the end of its input, which comes when the owner closes it or dies. Then ends everything in its
/// process group, which `initdb` and `postgres` have joined, and removes the directories.
///
/// Arguments: the file `postmaster.pid`, then the directories. The loops are bounded, so that whatever
/// happens no guard stays for ever.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
while read -r _; do :; done
kill -s QUIT 0
pidfile=$1 tries=0
shift
while read -r pid <"$pidfile" && kill -0 "$pid" && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
until rm -rf "$@" || [ "$tries" -ge 200 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// How long an immediate shutdown and the removal of some files may take; the script gives up before.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);

/// A shell that outlives us by as long as it takes to clean up.
#[derive(Debug)]
pub(super) struct Guard {
    process: Process,
    /// Never written to: what counts is that it closes with us. No other program inherits it.
    _lifeline: Option<ChildStdin>,
}

impl Guard {
    /// From now on `dirs` are removed when this process ends.
    pub(super) fn start(pgdata: &Path, dirs: &[&Path]) -> Result<Self, EmbeddedError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "sh"]).arg(pgdata.join("postmaster.pid")).args(dirs);
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(EmbeddedError::io("run", "/bin/sh"))?;
        let lifeline = child.stdin.take();
        Ok(Self { process: Process::child(child)?, _lifeline: lifeline })
    }

    /// The process group whose members end with us.
    pub(super) fn process_group(&self) -> Result<i32, EmbeddedError> {
        let pid = self.process.pid();
        i32::try_from(pid)
            .map_err(|error| EmbeddedError::io("join", "process group")(std::io::Error::other(error)))
    }

    /// Stops the cluster, removes it, and returns when that is done.
    pub(super) async fn clean_up(self) -> Result<(), EmbeddedError> {
        let process = self.process.clone();
        drop(self);
        if process.ends_within(CLEANUP_LIMIT).await {
            return Ok(());
        }
        process.signal(Signal::Kill)?;
        Err(EmbeddedError::NotStopped(process.pid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn directories_go_with_the_guard() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("with space");
        std::fs::create_dir_all(dir.join("pgdata")).unwrap();
        let guard = Guard::start(&dir.join("pgdata"), &[&dir]).unwrap();
        assert!(!guard.process.ends_within(Duration::from_millis(50)).await);
        assert!(dir.exists());
        guard.clean_up().await.unwrap();
        assert!(!dir.exists());
    }
}
