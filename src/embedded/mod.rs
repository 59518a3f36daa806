//! An embedded Postgres: a private cluster, from the server programs that the machine has.
//!
//! It listens on a socket in a private directory only. [`EmbeddedPostgres`] keeps it running until
//! [`EmbeddedPostgres::stop`]. If the process is killed before, Postgres runs on, and the next start on the
//! same data directory adopts it. [`testing::EphemeralPostgres`] is the same server without a trace.
//!
//! ```text
//! start:  lock the directory → choose account and programs → initdb, once → adopt or launch → ready
//!         → supervise
//! ```

mod account;
mod binaries;
mod datadir;
mod error;
mod guard;
mod pidfile;
mod process;
mod server;
mod socket;
mod supervisor;
pub mod testing;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::store::DatabaseError;
use tokio_postgres::error::{DbError, SqlState};

pub use datadir::default_data_dir;
pub use error::EmbeddedError;

use account::Account;
use binaries::Binaries;
use datadir::{DataDir, InitOptions};
use guard::Guard;
use process::Signal;
use server::Server;
use socket::PORT;
use supervisor::Supervisor;

/// Where the cluster lies, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In this directory, which is created if need be. It outlives us, and is written with `fsync`.
    Directory(PathBuf),
    /// In a temporary directory that is removed when this process ends, without `fsync`.
    Ephemeral,
}

/// How to run the embedded Postgres.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the cluster lies.
    pub storage: Storage,
    /// The directory of `initdb` and `postgres`. `None`: wherever the machine has them.
    pub bindir: Option<PathBuf>,
    /// Server settings, as name and value; they override the built-in ones.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A cluster in this directory.
    pub fn in_directory(data_dir: impl Into<PathBuf>) -> Self {
        Self { storage: Storage::Directory(data_dir.into()), bindir: None, settings: Vec::new() }
    }

    /// A cluster that is removed with this process.
    pub fn ephemeral() -> Self {
        Self { storage: Storage::Ephemeral, bindir: None, settings: Vec::new() }
    }
}

/// A running Postgres of our own.
///
/// Dropping it asks Postgres to stop, but does not wait; [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    server: Arc<Server>,
    adopted: bool,
    /// For a cluster in a directory, once it is up.
    supervisor: Option<Supervisor>,
    /// For an ephemeral cluster.
    guard: Option<Guard>,
}

impl EmbeddedPostgres {
    /// Brings a server up, and returns when it takes connections.
    ///
    /// A cluster in a directory is supervised by a task on the current runtime; an ephemeral one depends on
    /// none.
    pub async fn start(options: Options) -> Result<Self, EmbeddedError> {
        let mut postgres = Self::prepare(options).await?;
        postgres.adopted = postgres.server.bring_up().await?;
        if postgres.guard.is_none() {
            postgres.supervisor = Some(Supervisor::start(Arc::clone(&postgres.server)));
        }
        Ok(postgres)
    }

    async fn prepare(options: Options) -> Result<Self, EmbeddedError> {
        let (path, durable) = match options.storage {
            Storage::Directory(path) => (path, true),
            Storage::Ephemeral => (datadir::temporary(), false),
        };
        let data_dir = DataDir::open(&path)?;
        let pgdata = data_dir.pgdata();
        let account = Account::choose(&pgdata)?;
        let socket_dir = socket::socket_dir(data_dir.root(), account.uid());
        // Before anything else is made, so that it is removed even if this process ends halfway.
        let dirs: [&Path; 2] = [data_dir.root(), &socket_dir];
        let guard = (!durable).then(|| Guard::start(&pgdata, &dirs)).transpose()?;
        let group = guard.as_ref().map(Guard::process_group).transpose()?;

        account.check_reach(data_dir.root())?;
        let binaries = Binaries::find(options.bindir.as_deref(), data_dir.version(), data_dir.root())?;
        socket::ensure_private(&socket_dir, &account)?;
        data_dir.ensure_cluster(&binaries, &account, InitOptions { durable, process_group: group }).await?;

        let args = server::server_args(&pgdata, &socket_dir, durable, &options.settings);
        let (process_group, current) = (group.unwrap_or(0), Mutex::new(None));
        let server = Server { data_dir, socket_dir, account, binaries, args, process_group, current };
        Ok(Self { server: Arc::new(server), adopted: false, supervisor: None, guard })
    }

    /// A URL for tokio-postgres, psql and other clients.
    pub fn database_url(&self, database: &str) -> String {
        let (database, host) =
            (encode(database.as_bytes()), self.socket_dir().as_os_str().as_encoded_bytes());
        format!("postgresql://postgres@/{database}?host={}&port={PORT}", encode(host))
    }

    /// The same for tokio-postgres, to add to.
    pub fn config(&self, database: &str) -> tokio_postgres::Config {
        self.server.config(database)
    }

    /// The directory of the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.server.socket_dir
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.server.data_dir.root()
    }

    /// The directory of its programs, in which clients such as `psql` and `pgbench` are too.
    pub fn bindir(&self) -> &Path {
        self.server.binaries.dir()
    }

    /// The log of the server.
    pub fn log_path(&self) -> PathBuf {
        self.server.data_dir.log_path()
    }

    /// The postmaster, if it runs. It changes when Postgres was restarted.
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.server.current().filter(process::Process::is_running).map(|process| process.pid())
    }

    /// Whether the server was already running at the start, left there by a process that was killed.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Creates a database, unless there is one of this name.
    pub async fn create_database(&self, name: &str) -> Result<(), EmbeddedError> {
        let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        match server::run(&self.config("postgres"), &statement).await {
            Err(EmbeddedError::Database(error)) if is_duplicate(&error) => Ok(()),
            outcome => outcome,
        }
    }

    /// Stops Postgres and returns when it has ended; an ephemeral cluster is removed as well.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.end().await;
        }
        if let Some(guard) = self.guard.take() {
            return guard.clean_up().await;
        }
        match self.server.current() {
            Some(process) => self.server.stop(&process).await,
            None => Ok(()),
        }
    }
}

/// Starts nothing: fails if no program fits, and returns the URL of the server's `trex` database if it runs.
pub fn look(data_dir: &Path, bindir: Option<&Path>) -> Result<Option<String>, EmbeddedError> {
    let pgdata = data_dir.join("pgdata");
    let account = Account::choose(&pgdata)?;
    Binaries::find(bindir, datadir::version(&pgdata), data_dir)?;
    let root = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_path_buf());
    let socket_dir = socket::socket_dir(&root, account.uid());
    let host = encode(socket_dir.as_os_str().as_encoded_bytes());
    let runs = socket_dir.join(format!(".s.PGSQL.{PORT}")).exists();
    Ok(runs.then(|| format!("postgresql://postgres@/trex?host={host}&port={PORT}")))
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        // First, so that the server stopped below is not started again.
        self.supervisor = None;
        if let Some(process) = self.server.current()
            && let Err(error) = process.signal(Signal::Interrupt)
        {
            tracing::warn!(pid = process.pid(), %error, "Postgres stays behind");
        }
    }
}

/// Of two that create the same database at once, one may meet the unique index instead of the check.
fn is_duplicate(error: &DatabaseError) -> bool {
    let code = error.answer().map(DbError::code);
    matches!(code, Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION))
}

/// Percent-encodes all but the unreserved characters.
fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_url() {
        assert_eq!(encode(b"/tmp/run-1_x"), "%2Ftmp%2Frun-1_x");
        assert_eq!(encode("a b?ü".as_bytes()), "a%20b%3F%C3%BC");
    }
}
