//! `postmaster.pid`: which server runs on a cluster, and how far it has come.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;
use super::process::{Holder, holder_of};

/// What Postgres wrote about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) phase: Phase,
}

/// The eighth line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not yet there, or still at work on recovery.
    Starting,
    /// Takes connections.
    Ready,
    /// Is shutting down.
    Stopping,
}

impl PidFile {
    /// `None` if there is none, or only the beginning of one.
    pub(super) fn read(pgdata: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(path_in(pgdata)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // Standalone backends write their pid negated: nothing that could be used as a server.
        let pid = lines.next()?.trim().parse().ok()?;
        let phase = match lines.nth(6).map(str::trim) {
            Some("ready" | "standby") => Phase::Ready,
            Some("stopping") => Phase::Stopping,
            _ => Phase::Starting,
        };
        Some(Self { pid, phase })
    }
}

/// Puts our own pid in the place of one whose holder is no postmaster of this cluster any more.
///
/// Postgres refuses to start while the pid in one of its lock files is taken, be it by another program or by
/// a dead process that nobody has reaped, unless it is the pid of its parent. The file is not removed,
/// because its line on shared memory still protects against backends that outlived their postmaster.
pub(super) fn disown_stale(lock_file: &Path, pgdata: &Path) -> Result<(), EmbeddedError> {
    let Ok(text) = std::fs::read_to_string(lock_file) else { return Ok(()) };
    let (pid, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(pid) = pid.trim().parse() else { return Ok(()) };
    match holder_of(pid, pgdata) {
        Holder::Nobody | Holder::Stranger => {
            // Written in place: it must keep belonging to the account of Postgres.
            let file = std::fs::OpenOptions::new().write(true).truncate(true).open(lock_file);
            let written = file.and_then(|mut file| write!(file, "{}\n{rest}", std::process::id()));
            written.map_err(EmbeddedError::io("rewrite", lock_file))
        }
        Holder::Postmaster | Holder::Unclear => Ok(()),
    }
}

/// Whether the server on this cluster was started with exactly these arguments.
pub(super) fn started_with(pgdata: &Path, args: &[String]) -> bool {
    let expected: String = args.iter().map(|arg| format!(" \"{arg}\"")).collect();
    std::fs::read_to_string(pgdata.join("postmaster.opts"))
        .is_ok_and(|opts| opts.trim_end().ends_with(&expected))
}

pub(super) fn path_in(pgdata: &Path) -> PathBuf {
    pgdata.join("postmaster.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/data/pgdata\n1760000000\n5432\n/data/run\n\n  19279     0\nready   \n";

    #[test]
    fn phases() {
        let file = |phase| Some(PidFile { pid: 4711, phase });
        assert_eq!(PidFile::parse(READY), file(Phase::Ready));
        assert_eq!(PidFile::parse(&READY.replace("ready   ", "stopping")), file(Phase::Stopping));
        assert_eq!(PidFile::parse(&READY.replace("ready   ", "starting")), file(Phase::Starting));
        assert_eq!(PidFile::parse("4711\n/data/pgdata\n1760000000\n"), file(Phase::Starting));
    }

    #[test]
    fn what_is_no_server_is_none() {
        for text in ["", "\n", "-4711\n/data\n", "half"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_stale_lock_file_loses_its_pid_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = path_in(dir.path());
        disown_stale(&file, dir.path()).unwrap();
        // The first process of the machine is there, and is no Postgres.
        std::fs::write(&file, READY.replace("4711", "1")).unwrap();
        disown_stale(&file, dir.path()).unwrap();
        let expected = READY.replace("4711", &std::process::id().to_string());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    }

    #[test]
    fn arguments_are_compared_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("postmaster.opts"),
            "/usr/bin/postgres \"-D\" \"/data\" \"-c\" \"a=1\"\n",
        )
        .unwrap();
        let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        assert!(started_with(dir.path(), &args(&["-D", "/data", "-c", "a=1"])));
        assert!(!started_with(dir.path(), &args(&["-D", "/data", "-c", "a=2"])));
    }
}
