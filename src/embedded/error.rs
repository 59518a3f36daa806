use crate::store::DatabaseError;
use std::path::{Path, PathBuf};

/// Why the embedded Postgres could not be started, used or stopped. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// This machine has no Postgres server.
    #[error(
        "no Postgres server found on this machine: install one (Debian, Ubuntu: apt install postgresql; \
         macOS: brew install postgresql), name its directory in PG_BINDIR, or pass --database-url"
    )]
    NoBinaries,

    /// The directory that was named for the binaries does not hold them.
    #[error("{} does not hold the Postgres programs initdb and postgres", .0.display())]
    NotABinaryDir(PathBuf),

    /// The cluster was made by another major version than any server found here.
    #[error("the data in {} is of Postgres {wanted}, but this machine has only Postgres \
             {found}", .data_dir.display())]
    VersionMismatch {
        /// The data directory.
        data_dir: PathBuf,
        /// The major version that the data needs.
        wanted: u32,
        /// The major versions of the binaries that were found.
        found: String,
    },

    /// There is no home directory from which a default data directory could be derived.
    #[error("no default data directory: neither XDG_DATA_HOME nor HOME is set; pass --data-dir")]
    NoHome,

    /// Running as root, and there is no other account to run Postgres as.
    #[error("Postgres refuses to run as root, and there is neither a user `postgres` nor a user `nobody`")]
    NoAccount,

    /// The account that Postgres runs as cannot reach the data directory.
    #[error("user {user} cannot enter {}: choose a data directory that it can reach", .dir.display())]
    Unreachable {
        /// The first directory on the path that is closed.
        dir: PathBuf,
        /// The account.
        user: String,
    },

    /// The data directory holds something that this program did not put there.
    #[error("{} is not empty and is no data directory of trex: choose another", .0.display())]
    ForeignDirectory(PathBuf),

    /// The socket directory belongs to somebody else, or is open to others.
    #[error("the socket directory {} is not a private directory of user {user}: remove it", .dir.display())]
    UnsafeSocketDir {
        /// The socket directory.
        dir: PathBuf,
        /// The account that should own it.
        user: String,
    },

    /// Another hub runs on the same data directory.
    #[error("another trex runs on the data directory {} (pid {pid})", .data_dir.display())]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The other process, as it wrote itself into the lock file.
        pid: String,
    },

    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    InitDb(String),

    /// Postgres ended while it was being started.
    #[error("Postgres did not start ({status}): {log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },

    /// Postgres runs, but accepts no connection.
    #[error("Postgres (pid {pid}) was not ready within {limit:?}: {reason}")]
    NotReady {
        /// The postmaster.
        pid: u32,
        /// How long it was waited for.
        limit: std::time::Duration,
        /// What the last attempt to connect said.
        reason: String,
    },

    /// Postgres outlived even SIGKILL.
    #[error("Postgres (pid {0}) does not stop")]
    NotStopped(u32),

    /// An operation of the file system or on a process failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },

    /// A statement or connection failed.
    #[error("embedded Postgres: {0}")]
    Database(#[from] DatabaseError),

    /// Postgres did not answer.
    #[error("embedded Postgres: no connection within {0:?}")]
    NoConnection(std::time::Duration),
}

impl From<tokio_postgres::Error> for EmbeddedError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl EmbeddedError {
    /// For `map_err`: says what was being done to which path.
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// What went wrong according to a log or an error output, in one line.
///
/// The server's error messages, without time and process; if there are none, the last lines.
pub(super) fn gist(text: &str) -> String {
    const WEIGHTY: [&str; 5] = ["PANIC: ", "FATAL: ", "ERROR: ", "DETAIL: ", "HINT: "];
    let message = |line| WEIGHTY.iter().find_map(|label| Some(&line[str::find(line, label)?..]));
    let mut lines: Vec<&str> = text.lines().filter_map(message).collect();
    if lines.is_empty() {
        lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    }
    lines[lines.len().saturating_sub(GIST_LINES)..].join("; ")
}

const GIST_LINES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_binaries_is_one_line_that_says_what_to_do() {
        let message = EmbeddedError::NoBinaries.to_string();
        assert_eq!(message.lines().count(), 1);
        for hint in ["apt install postgresql", "brew install postgresql", "--database-url"] {
            assert!(message.contains(hint), "{message}");
        }
    }

    #[test]
    fn gist_is_the_weighty_part_of_a_log() {
        let log = "2026-01-01 [7] LOG:  starting\n2026-01-01 [7] FATAL:  no\n2026-01-01 [7] HINT:  try\n[7] \
                   LOG:  down\n";
        assert_eq!(gist(log), "FATAL:  no; HINT:  try");
        assert_eq!(gist("one\n\n two \n"), "one; two");
        assert_eq!(gist("1\n2\n3\n4\n5\n"), "2; 3; 4; 5");
        assert_eq!(gist(""), "");
    }
}
