//! One cluster and the postmaster on it: launch or adopt, wait until ready, stop.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::account::Account;
use super::binaries::Binaries;
use super::datadir::DataDir;
use super::error::EmbeddedError;
use super::pidfile::{self, Phase, PidFile, disown_stale, started_with};
use super::process::{Holder, Process, Signal, holder_of};
use super::socket::{self, PORT};

/// Long, because recovery after a crash may take minutes; the caller may give up earlier.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// `postmaster.pid` cannot be awaited.
const READY_POLL: Duration = Duration::from_millis(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Backends that outlive their postmaster end when their statement does.
const ORPHANS_LIMIT: Duration = Duration::from_secs(30);
const ORPHANS_POLL: Duration = Duration::from_millis(100);
const ORPHANS_MESSAGE: &str = "pre-existing shared memory block";
/// The stages of a stop: fast shutdown, immediate shutdown, kill.
const STOP_STAGES: [(Signal, Duration); 3] = [
    (Signal::Interrupt, Duration::from_secs(20)),
    (Signal::Quit, Duration::from_secs(10)),
    (Signal::Kill, Duration::from_secs(5)),
];

/// Everything needed to run a server on a prepared cluster.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) data_dir: DataDir,
    pub(super) socket_dir: PathBuf,
    pub(super) account: Account,
    pub(super) binaries: Binaries,
    /// The arguments of `postgres`, with the settings.
    pub(super) args: Vec<String>,
    /// The process group that Postgres joins; 0: a new one, so that Ctrl-C does not reach it.
    pub(super) process_group: i32,
    /// The postmaster last launched or adopted. Set as soon as there is a process, before it is ready:
    /// whoever stops us halfway finds it here.
    pub(super) current: Mutex<Option<Process>>,
}

impl Server {
    pub(super) fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.socket_dir).port(PORT).user("postgres").dbname(database);
        config
    }

    pub(super) fn current(&self) -> Option<Process> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(&self, process: &Process) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.clone());
    }

    /// Brings a server up on the cluster: one that runs already, or a new one. Returns whether it was
    /// adopted.
    pub(super) async fn bring_up(&self) -> Result<bool, EmbeddedError> {
        loop {
            if let Some(process) = self.left_behind()? {
                self.set_current(&process);
                if self.adopt(&process).await? {
                    return Ok(true);
                }
            }
            match self.launch().await {
                // A server that a killed hub had only just launched was faster than ours.
                Err(EmbeddedError::Exited { .. }) if self.left_behind()?.is_some() => {}
                outcome => return outcome.map(|()| false),
            }
        }
    }

    /// The postmaster that an earlier hub, which was killed, left running.
    fn left_behind(&self) -> Result<Option<Process>, EmbeddedError> {
        let pgdata = self.data_dir.pgdata();
        match PidFile::read(&pgdata) {
            Some(file) if holder_of(file.pid, &pgdata) == Holder::Postmaster => {
                Process::adopted(file.pid, &pgdata).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// False if the server is of no use to us; it has ended then.
    async fn adopt(&self, process: &Process) -> Result<bool, EmbeddedError> {
        let pgdata = self.data_dir.pgdata();
        let is_stopping = PidFile::read(&pgdata).is_some_and(|file| file.phase == Phase::Stopping);
        if is_stopping || !started_with(&pgdata, &self.args) {
            tracing::info!(
                pid = process.pid(),
                "Postgres left by an earlier run has other settings or is stopping"
            );
            self.stop(process).await?;
            return Ok(false);
        }
        match self.until_ready(process).await {
            Ok(()) => {
                tracing::info!(pid = process.pid(), "adopted the Postgres that an earlier run left");
                Ok(true)
            }
            Err(_) if !process.is_running() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn launch(&self) -> Result<(), EmbeddedError> {
        let deadline = Instant::now() + ORPHANS_LIMIT;
        loop {
            let (process, log_before) = self.spawn()?;
            let Err(error) = self.until_ready(&process).await else {
                tracing::info!(pid = process.pid(), data_dir = %self.data_dir.root().display(), "Postgres \
                    is ready");
                return Ok(());
            };
            let EmbeddedError::Exited { status, .. } = error else { return Err(error) };
            let log = self.data_dir.log_since(log_before);
            if !log.contains(ORPHANS_MESSAGE) || Instant::now() >= deadline {
                return Err(EmbeddedError::Exited { status, log });
            }
            tracing::debug!("backends of a killed Postgres still run");
            sleep(ORPHANS_POLL).await;
        }
    }

    fn spawn(&self) -> Result<(Process, u64), EmbeddedError> {
        let pgdata = self.data_dir.pgdata();
        disown_stale(&pidfile::path_in(&pgdata), &pgdata)?;
        disown_stale(&socket::lock_file(&self.socket_dir), &pgdata)?;
        let (log, log_before) = self.data_dir.open_log()?;
        let log_too = log.try_clone().map_err(EmbeddedError::io("open", self.data_dir.log_path()))?;
        let program = self.binaries.postgres();
        let mut command = self.account.command(&program);
        command.args(&self.args).stdout(log).stderr(log_too).process_group(self.process_group);
        let child = command.spawn().map_err(EmbeddedError::io("run", &program))?;
        let process = Process::child(child)?;
        self.set_current(&process);
        Ok((process, log_before))
    }

    async fn until_ready(&self, process: &Process) -> Result<(), EmbeddedError> {
        let pgdata = self.data_dir.pgdata();
        let ready = PidFile { pid: process.pid(), phase: Phase::Ready };
        let config = self.config("postgres");
        let deadline = Instant::now() + READY_LIMIT;
        let mut reason = "it has not finished its start".to_owned();
        while Instant::now() < deadline {
            if PidFile::read(&pgdata).as_ref() == Some(&ready) {
                match run(&config, "").await {
                    Ok(()) => return Ok(()),
                    Err(error) => reason = error.to_string(),
                }
            }
            tokio::select! {
                status = process.ended() => return Err(EmbeddedError::Exited { status, log: String::new() }),
                () = sleep(READY_POLL) => {}
            }
        }
        Err(EmbeddedError::NotReady { pid: process.pid(), limit: READY_LIMIT, reason })
    }

    /// Ends the process, with more force at each stage.
    pub(super) async fn stop(&self, process: &Process) -> Result<(), EmbeddedError> {
        for (signal, limit) in STOP_STAGES {
            process.signal(signal)?;
            if process.ends_within(limit).await {
                tracing::info!(pid = process.pid(), ?signal, "Postgres has stopped");
                return Ok(());
            }
            tracing::warn!(pid = process.pid(), ?signal, ?limit, "Postgres did not stop in time");
        }
        Err(EmbeddedError::NotStopped(process.pid()))
    }
}

/// The arguments of `postgres`: ours, then the caller's, of which the last wins.
///
/// `-D` comes first: by it a postmaster is told from other processes.
pub(super) fn server_args(
    pgdata: &Path,
    socket_dir: &Path,
    durable: bool,
    settings: &[(String, String)],
) -> Vec<String> {
    // A list of directories, in which quotes keep commas and spaces from being separators.
    let socket_dir = format!("\"{}\"", socket_dir.to_string_lossy().replace('"', "\"\""));
    let fsync = if durable { "on" } else { "off" };
    let ours = [
        ("listen_addresses", ""),
        ("port", &PORT.to_string()),
        ("unix_socket_directories", &socket_dir),
        ("unix_socket_permissions", "0700"),
        ("max_connections", "200"),
        ("fsync", fsync),
        ("full_page_writes", fsync),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
    ];
    let ours = ours.into_iter().map(|(name, value)| format!("{name}={value}"));
    let all = ours.chain(settings.iter().map(|(name, value)| format!("{name}={value}")));
    let start = ["-D".to_owned(), pgdata.to_string_lossy().into_owned()];
    start.into_iter().chain(all.flat_map(|setting| ["-c".to_owned(), setting])).collect()
}

/// Connects, runs one statement, and disconnects; all within the caller's task.
pub(super) async fn run(config: &tokio_postgres::Config, statement: &str) -> Result<(), EmbeddedError> {
    let connect = config.connect(tokio_postgres::NoTls);
    let (client, connection) =
        timeout(CONNECT_LIMIT, connect).await.map_err(|_| EmbeddedError::NoConnection(CONNECT_LIMIT))??;
    // The client is dropped at the end of its half, which ends the connection's.
    let work = async move { client.batch_execute(statement).await };
    let (result, _) = tokio::join!(work, connection);
    Ok(result?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_settings_come_last() {
        let settings = [("max_connections".to_owned(), "20".to_owned())];
        let args = server_args(Path::new("/data/pgdata"), Path::new("/data/run"), true, &settings);
        assert_eq!(args[..2], ["-D", "/data/pgdata"]);
        assert_eq!(args.last().map(String::as_str), Some("max_connections=20"));
        assert!(args.contains(&"unix_socket_directories=\"/data/run\"".to_owned()));
        assert!(args.contains(&"fsync=on".to_owned()));
    }
}
