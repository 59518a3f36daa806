//! The data directory: what lies where, who may use it, and how the cluster in it comes to be.
//!
//! ```text
//! <data_dir>/trex.lock     held by the running supervisor; also the mark that the directory is ours
//!            pgdata/       the cluster
//!            pgdata.init-* a cluster in the making; renamed to pgdata when it is complete
//!            run/          the socket, if its path is short enough
//!            server.log    what Postgres and initdb say
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::account::{Account, is_root};
use super::binaries::{Binaries, parse_pg_version};
use super::error::{EmbeddedError, gist};

const LOCK_FILE: &str = "trex.lock";
const INIT_PREFIX: &str = "pgdata.init-";
/// A log above this size is set aside at the next start.
const LOG_LIMIT: u64 = 16 << 20;
/// Enough for the last lines of a log.
const LOG_TAIL: u64 = 16 << 10;

/// The data directory that the current user can reach: `/var/lib/trex/postgres` for root, else
/// `trex/postgres` under `$XDG_DATA_HOME` or `~/.local/share`.
pub fn default_data_dir() -> Result<PathBuf, EmbeddedError> {
    if is_root()? {
        return Ok(PathBuf::from("/var/lib/trex/postgres"));
    }
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let share = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    Ok(share.ok_or(EmbeddedError::NoHome)?.join("trex/postgres"))
}

/// The major version of this cluster, if it is one.
pub(super) fn version(pgdata: &Path) -> Option<u32> {
    parse_pg_version(&std::fs::read_to_string(pgdata.join("PG_VERSION")).ok()?)
}

/// A name for a directory that nobody else has.
pub(super) fn temporary() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    std::env::temp_dir().join(format!("trex-ephemeral-{}-{count}-{nanos:x}", std::process::id()))
}

/// A data directory that is ours for as long as this value lives.
#[derive(Debug)]
pub(super) struct DataDir {
    root: PathBuf,
    /// The lock goes with the open file, so also when this process is killed.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let path = std::path::absolute(path).map_err(EmbeddedError::io("resolve", path))?;
        create_dir_all(&path)?;
        // One spelling for one directory: the socket directory may derive from it.
        let root = path.canonicalize().map_err(EmbeddedError::io("resolve", &path))?;
        if root.to_str().is_none() {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8");
            return Err(EmbeddedError::Io { action: "use", path: root, source });
        }
        if !root.join(LOCK_FILE).exists() && !is_vacant(&root)? {
            return Err(EmbeddedError::ForeignDirectory(root));
        }
        let lock = lock(&root)?;
        Ok(Self { root, _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn pgdata(&self) -> PathBuf {
        self.root.join("pgdata")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The major version of the cluster, if there is one.
    pub(super) fn version(&self) -> Option<u32> {
        version(&self.pgdata())
    }

    /// The log, to append to, and its length before.
    pub(super) fn open_log(&self) -> Result<(File, u64), EmbeddedError> {
        let path = self.log_path();
        let length = || std::fs::metadata(&path).map_or(0, |meta| meta.len());
        if length() > LOG_LIMIT {
            std::fs::rename(&path, path.with_extension("log.old"))
                .map_err(EmbeddedError::io("rename", &path))?;
        }
        let before = length();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        Ok((file.map_err(EmbeddedError::io("open", &path))?, before))
    }

    /// What went wrong, according to what was added to the log since it was `before` bytes long.
    pub(super) fn log_since(&self, before: u64) -> String {
        let mut bytes = Vec::new();
        let read = File::open(self.log_path()).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(before.max(length.saturating_sub(LOG_TAIL))))?;
            file.take(LOG_TAIL).read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => gist(&String::from_utf8_lossy(&bytes)),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }

    /// Makes the cluster unless there is one.
    ///
    /// It is made next to its place and moved there when complete, so that a crash leaves no half-made
    /// cluster. The name contains our process id, because the `initdb` of a killed hub may still be writing.
    pub(super) async fn ensure_cluster(
        &self,
        binaries: &Binaries,
        account: &Account,
        options: InitOptions,
    ) -> Result<(), EmbeddedError> {
        if self.pgdata().exists() {
            return Ok(());
        }
        self.sweep_unfinished();
        let fresh = self.root.join(format!("{INIT_PREFIX}{}", std::process::id()));
        create_private(&fresh)?;
        account.take(&fresh)?;

        let mut command = account.command(&binaries.initdb());
        command.args([
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--data-checksums",
        ]);
        if !options.durable {
            command.arg("--no-sync");
        }
        command.arg("-D").arg(&fresh).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(group) = options.process_group {
            std::os::unix::process::CommandExt::process_group(&mut command, group);
        }
        let mut command = tokio::process::Command::from(command);
        let output = command.kill_on_drop(true).output().await;
        let output = output.map_err(EmbeddedError::io("run", binaries.initdb()))?;
        if !output.status.success() {
            let said = gist(&String::from_utf8_lossy(&output.stderr));
            return Err(EmbeddedError::InitDb(format!("{said} ({})", output.status)));
        }

        std::fs::rename(&fresh, self.pgdata()).map_err(EmbeddedError::io("rename", &fresh))?;
        // Without this a power cut could undo the rename, and the next start would delete the cluster.
        let root = File::open(&self.root).and_then(|dir| dir.sync_all());
        root.map_err(EmbeddedError::io("sync", &self.root))
    }

    fn sweep_unfinished(&self) {
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(INIT_PREFIX)
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "an unfinished cluster stays behind");
            }
        }
    }
}

/// How a cluster is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct InitOptions {
    /// Whether its files are to be on disk before it is used.
    pub(super) durable: bool,
    /// The process group that `initdb` is to join.
    pub(super) process_group: Option<i32>,
}

/// Creates a directory for its owner alone.
pub(super) fn create_private(path: &Path) -> Result<(), EmbeddedError> {
    DirBuilder::new().mode(0o700).create(path).map_err(EmbeddedError::io("create", path))
}

/// For root the directories are open, because the account that Postgres runs as must pass through them.
fn create_dir_all(path: &Path) -> Result<(), EmbeddedError> {
    let mode = if is_root()? { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(EmbeddedError::io("create", path))
}

/// Empty, or as empty as the root of a fresh volume is.
fn is_vacant(dir: &Path) -> Result<bool, EmbeddedError> {
    let mut entries = std::fs::read_dir(dir).map_err(EmbeddedError::io("read", dir))?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn lock(root: &Path) -> Result<File, EmbeddedError> {
    let path = root.join(LOCK_FILE);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = file.map_err(EmbeddedError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(EmbeddedError::io("read", &path))?;
            // Empty for the moment between the lock and the line below.
            let pid = if pid.trim().is_empty() { "not yet known" } else { pid.trim() }.to_owned();
            return Err(EmbeddedError::InUse { data_dir: root.to_path_buf(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(EmbeddedError::io("lock", &path)(error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(EmbeddedError::io("write", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let second = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(second.starts_with("another trex runs on the data directory"), "{second}");
        assert!(second.ends_with(&format!("(pid {})", std::process::id())), "{second}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let refused = DataDir::open(dir.path());
        assert!(matches!(refused, Err(EmbeddedError::ForeignDirectory(_))), "{refused:?}");
        std::fs::remove_file(dir.path().join("letter.txt")).unwrap();
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn log_since_reads_only_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(dir.path()).unwrap();
        std::fs::write(data_dir.log_path(), "old\n").unwrap();
        let (mut log, before) = data_dir.open_log().unwrap();
        writeln!(log, "FATAL: new").unwrap();
        assert_eq!(data_dir.log_since(before), "FATAL: new");
    }
}
