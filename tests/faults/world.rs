//! What faults happen to: a Postgres, two hubs on one database of it, and proxies on every way between them
//! and their clients.

use crate::{
    clocks::Clock,
    disk::Disk,
    process::{HubProcess, Manner, group_of},
    proxy::{Proxy, Upstream},
    support::{
        history::{Journal, Outcome, Row, Transaction},
        writer::{MARKS, Open, Verb, session},
    },
    watcher::BEACON,
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, time::sleep};
use tokio_postgres::{Client, error::SqlState, types::ToSql};
use trex::embedded::testing::EphemeralPostgres;

const DATABASE: &str = "faults";
/// Nobody watches it, and nothing of it is compressed away.
const BALLAST: &str = "CREATE TABLE ballast (data text); ALTER TABLE ballast ALTER data SET STORAGE EXTERNAL";
/// Between looks at what cannot be awaited.
const LOOK: Duration = Duration::from_millis(10);

/// A hub, whether it runs or not, and the ways to and from it.
pub struct Hub {
    /// Its database user too, so that its sessions are known.
    pub name: &'static str,
    pub process: Mutex<Option<HubProcess>>,
    /// To Postgres.
    pub database: Proxy,
    /// From clients that faults happen to.
    pub clients: Proxy,
    /// From clients that lose the hub, and never the way.
    pub plain: Proxy,
    manner: Manner,
    log: PathBuf,
    /// The process group that goes when this process does.
    group: i32,
}

impl Hub {
    async fn new(name: &'static str, socket: Upstream, manner: Manner, log: PathBuf, group: i32) -> Self {
        let process = Mutex::new(None);
        let (clients, plain) = (Proxy::start(Upstream::Nowhere).await, Proxy::start(Upstream::Nowhere).await);
        Self { name, process, database: Proxy::start(socket).await, clients, plain, manner, log, group }
    }

    /// Starts it again and again, as a supervisor does, until it runs.
    pub async fn start(&self) {
        let url = url(self.name, &self.database);
        let process = loop {
            match HubProcess::start(&url, &self.manner, &self.log, self.group).await {
                Some(process) => break process,
                None => sleep(LOOK).await,
            }
        };
        for proxy in [&self.clients, &self.plain] {
            proxy.lead_to(Upstream::Tcp(process.address.clone()));
        }
        *self.process.lock().await = Some(process);
    }

    /// The process, to be ended.
    pub async fn take(&self) -> HubProcess {
        for proxy in [&self.clients, &self.plain] {
            proxy.lead_to(Upstream::Nowhere);
        }
        self.process.lock().await.take().expect("a hub that runs")
    }

    pub async fn pid(&self) -> u32 {
        self.process.lock().await.as_ref().expect("a hub that runs").pid
    }
}

fn url(user: &str, proxy: &Proxy) -> String {
    format!("postgresql://{user}@{}/{DATABASE}", proxy.address)
}

/// All of it.
pub struct World {
    pub cluster: EphemeralPostgres,
    pub hubs: [Hub; 2],
    /// Of writers that faults happen to.
    pub writers: Proxy,
    /// Where the database lies, if this user may mount one.
    pub disk: Option<Disk>,
    /// Where the write-ahead log lies, if that is a place of its own.
    pub wal: Option<Disk>,
    /// Those of hub a, hub b and Postgres, if they can be stepped.
    pub clocks: Option<[Clock; 3]>,
    pub control: Mutex<Control>,
}

impl World {
    /// Starts everything. The hubs' logs go to files of this name.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, Manner::default()).await
    }

    /// The same, with hubs that are run in another manner.
    pub async fn start_with(name: &str, manner: Manner) -> Self {
        let cluster = EphemeralPostgres::start(Vec::new()).await.expect("a cluster");
        Self::start_on(cluster, name, [manner.clone(), manner]).await
    }

    /// The same, on a Postgres of the caller's.
    pub async fn start_on(cluster: EphemeralPostgres, name: &str, [of_a, of_b]: [Manner; 2]) -> Self {
        let disk = Disk::mount(&cluster.data_dir().join("pgdata"));
        let admin = session(&cluster.database_url("postgres")).await.expect("a session");
        for user in ["hub_a", "hub_b"] {
            admin.batch_execute(&format!("CREATE ROLE {user} SUPERUSER LOGIN")).await.expect("a role");
        }
        let place = match &disk {
            Some(disk) => {
                let path = disk.path.display();
                admin
                    .batch_execute(&format!("CREATE TABLESPACE small LOCATION '{path}'"))
                    .await
                    .expect("a place");
                "TABLESPACE small"
            }
            None => "",
        };
        admin.batch_execute(&format!("CREATE DATABASE {DATABASE} {place}")).await.expect("a database");
        let socket = Upstream::Unix(cluster.socket_dir().join(".s.PGSQL.5432"));
        let log = |hub: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{name}-{hub}.log"));
        let group = group_of(cluster.postmaster_pid().expect("it has just started"));
        let hubs = [
            Hub::new("hub_a", socket.clone(), of_a, log("hub_a"), group).await,
            Hub::new("hub_b", socket.clone(), of_b, log("hub_b"), group).await,
        ];
        for hub in &hubs {
            let _ = std::fs::remove_file(&hub.log);
            hub.start().await;
        }
        let control = Mutex::new(Control::new(cluster.database_url(DATABASE)).await);
        Self { writers: Proxy::start(socket).await, cluster, hubs, disk, wal: None, clocks: None, control }
    }

    /// For writers that no fault of the network happens to.
    pub fn url(&self) -> String {
        self.cluster.database_url(DATABASE)
    }

    /// For the others.
    pub fn writers_url(&self) -> String {
        url("postgres", &self.writers)
    }

    /// Commits a beacon, however long the database takes to come back. Returns its number, and when it was
    /// committed.
    pub async fn beacon(&self) -> (u64, Instant) {
        self.control.lock().await.beacon().await
    }

    /// Which hub holds one of the hubs' flags and locks, if one does; `idle`: between two statements.
    pub async fn holder(&self, lock: i32, idle: bool) -> Option<&Hub> {
        let sql = "SELECT usename::text FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE locktype = 'advisory' AND classid = 1953654136 AND objid::int4 = $1
                   AND mode = 'ExclusiveLock' AND granted
                     AND (state LIKE 'idle%' OR NOT $2)";
        let mut control = self.control.lock().await;
        let row = control.client().await.query_opt(sql, &[&lock, &idle]).await.expect("locks")?;
        self.hubs.iter().find(|hub| hub.name == row.get::<_, &str>(0))
    }

    /// Stops the hubs in order and the rest at once.
    pub async fn stop(self) {
        for hub in &self.hubs {
            let status = hub.take().await.terminate().await;
            assert!(status.success(), "{}: {status} after SIGTERM", hub.name);
        }
        self.cluster.stop().await.expect("a stop");
    }
}

/// The session of the test itself.
pub struct Control {
    url: String,
    client: Client,
    beacons: u64,
    pub journal: Vec<Transaction>,
}

impl Control {
    async fn new(url: String) -> Self {
        let client = session(&url).await.expect("a session");
        client.batch_execute(MARKS).await.expect("a table");
        client.batch_execute(BALLAST).await.expect("a table");
        Self { url, client, beacons: 0, journal: Vec::new() }
    }

    /// A session that works, as soon as there can be one.
    pub async fn client(&mut self) -> &Client {
        while self.client.batch_execute("").await.is_err() {
            match session(&self.url).await {
                Ok(client) => self.client = client,
                Err(_) => sleep(LOOK).await,
            }
        }
        &self.client
    }

    /// One transaction; whether it was acknowledged.
    pub async fn write(&mut self, name: &str, statements: &[(Verb, &[String])]) -> bool {
        let client = self.client().await;
        let Ok(mut open) = Open::begin(client, name.to_owned()).await else { return false };
        for (verb, ids) in statements {
            if open.run(*verb, ids).await.is_err() {
                // Not committed, for COMMIT is never sent; the next asks for another session.
                drop(open);
                let _ = self.client.batch_execute("ROLLBACK").await;
                return false;
            }
        }
        let transaction = open.commit().await;
        let acknowledged = transaction.acknowledged().is_some();
        self.journal.push(transaction);
        acknowledged
    }

    async fn beacon(&mut self) -> (u64, Instant) {
        loop {
            self.beacons += 1;
            let id = format!("{BEACON}{}", self.beacons);
            if self.write(&id, &[(Verb::Insert, std::slice::from_ref(&id))]).await {
                return (self.beacons, Instant::now());
            }
            sleep(LOOK).await;
        }
    }

    pub async fn numbers(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<u32> {
        let rows = self.client().await.query(sql, parameters).await.expect("numbers");
        rows.iter().map(|row| u32::try_from(row.get::<_, i32>(0)).expect("a process")).collect()
    }

    /// Until the server has ended this session.
    pub async fn until_lost(&self) {
        while self.client.batch_execute("SELECT pg_sleep(0.001)").await.is_ok() {}
    }

    /// Until the database itself has noticed that its disk is full: what was left to it is used up.
    pub async fn until_full(&mut self) {
        let sql = "INSERT INTO ballast SELECT repeat('ballast', 1000) FROM generate_series(1, 100)";
        loop {
            match self.client().await.batch_execute(sql).await {
                Ok(()) => {}
                Err(error) if error.code() == Some(&SqlState::DISK_FULL) => return,
                Err(error) => panic!("filling the disk: {error:?}"),
            }
        }
    }

    /// Until the server has given up: it cannot go on without its log.
    pub async fn until_fallen(&mut self) {
        let sql = "INSERT INTO ballast SELECT repeat('ballast', 1000) FROM generate_series(1, 100)";
        let client = self.client().await;
        while !client.is_closed() {
            let _ = client.batch_execute(sql).await;
        }
    }

    /// Until no writer's session has a transaction, whoever may have lost sight of it.
    pub async fn until_writers_are_done(&mut self) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'writer'
                   AND xact_start IS NOT NULL
                     AND pid <> pg_backend_pid()";
        while self.client().await.query_one(sql, &[]).await.expect("sessions").get::<_, i64>(0) > 0 {
            sleep(LOOK).await;
        }
    }

    /// The journals of all, with the outcomes that they could not know and the table as it is.
    pub async fn resolve(&mut self, transactions: Vec<Transaction>) -> (Journal, usize) {
        let mut journal = Journal { transactions, ..Journal::default() };
        journal.transactions.append(&mut self.journal);
        let unknown =
            journal.transactions.iter().filter(|transaction| transaction.outcome == Outcome::Unknown).count();
        let marks = self.client().await.query("SELECT mark FROM marks", &[]).await.expect("marks");
        journal.resolve(&marks.iter().map(|row| row.get(0)).collect::<HashSet<String>>());
        let table = "SELECT id, species, (extract(epoch FROM updated_at) * 1000000)::bigint FROM dinosaurs";
        let rows = self.client().await.query(table, &[]).await.expect("rows");
        journal.table =
            rows.iter().map(|row| (row.get(0), Row::new(row.get::<_, String>(1), row.get(2)))).collect();
        (journal, unknown)
    }
}
