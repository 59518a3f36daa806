//! Behind a pooler that keeps no session, PgBouncer in transaction mode: everything works, and nothing is
//! left on the sessions that an application gets afterwards.

use crate::{
    commands::trex,
    support::{Database, PATIENCE, TestHub, until_true},
};
use std::{
    env,
    fs::Permissions,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tokio_postgres::SimpleQueryMessage;
use tokio_util::task::AbortOnDropHandle;
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{
        CreateDinosaurRequest, GetDinosaurRequest, UpdateDinosaurRequest, WatchDinosaursRequest,
    },
    store::{Driven, Target, keeps_sessions},
};

/// The program. Debian has it where only root looks.
fn pgbouncer() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.exists())
}

/// A pooler before a database.
struct Pooler {
    url: String,
    _directory: TempDir,
    _process: Child,
}

impl Pooler {
    /// With this many sessions of the server. `None`, said aloud: there is no PgBouncer.
    async fn before(database: &Database, mode: &str, sessions: usize) -> Option<Self> {
        let Some(program) = pgbouncer() else {
            eprintln!(
                "SKIPPED: what holds behind a pooler, for there is no pgbouncer (Debian: apt install \
                 pgbouncer)"
            );
            return None;
        };
        let directory = TempDir::new().unwrap();
        // As root it runs as the server's user.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let name = database.connect().await.query_one("SELECT current_database()::text", &[]).await.unwrap();
        let name: String = name.get(0);
        let server = database.url().split_once("host=").unwrap().1;
        let (host, port) = server.split_once("&port=").unwrap_or((server, "5432"));
        let host = host.replace("%2F", "/");
        let shown = directory.path().display();
        let settings = format!(
            "[databases]\n{name} = host={host} port={port} user=postgres\n[pgbouncer]\npool_mode = {mode}\n\
             default_pool_size = {sessions}\nauth_type = any\nunix_socket_dir = {shown}\nlisten_port = 6432\n\
             max_client_conn = 200\n"
        );
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        if Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0) {
            command.args(["-u", "postgres"]);
        }
        command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.kill_on_drop(true).spawn().expect("a pooler");
        let url = format!("postgresql://postgres@/{name}?host={shown}&port=6432");
        let pooler = Self { url, _directory: directory, _process: process };
        until_true("the pooler answers", async || pooler.target().open().await.is_ok()).await;
        Some(pooler)
    }

    fn target(&self) -> Target {
        Target::parse(&self.url).unwrap()
    }

    async fn connect(&self) -> Driven {
        self.target().open().await.unwrap()
    }

    /// An application that keeps a session of the pool at work for most of the time.
    async fn busy(&self) -> AbortOnDropHandle<()> {
        let application = self.connect().await;
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                application.batch_execute("BEGIN; SELECT pg_sleep(0.002); COMMIT").await.unwrap();
            }
        }))
    }

    /// What others have left on all the sessions of the pool.
    async fn left(&self, sessions: usize) -> Vec<String> {
        let all = "SELECT 'setting ' || name FROM pg_settings WHERE source = 'session' AND name NOT IN
                     ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
                       'standard_conforming_strings')
                   UNION ALL SELECT 'search_path ' || s FROM current_setting('search_path') s
                   WHERE s <> '\"$user\", public'
                   UNION ALL SELECT 'statement_timeout ' || s FROM current_setting('statement_timeout') s
                   WHERE s <> '0'
                   UNION ALL SELECT 'statement ' || name FROM pg_prepared_statements
                     WHERE name NOT LIKE 'PGBOUNCER%' -- which it keeps for everybody, from 1.21 on
                   UNION ALL SELECT 'listens to ' || c FROM pg_listening_channels() c
                   UNION ALL SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory'
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let mut held = Vec::new();
        let mut left = Vec::new();
        for _ in 0..sessions {
            // In a transaction that stays open, so that the next one gets another session.
            let application = self.connect().await;
            application.batch_execute("BEGIN").await.unwrap();
            left.extend(application.simple_query(all).await.unwrap().into_iter().filter_map(|message| {
                match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                }
            }));
            held.push(application);
        }
        left
    }
}

async fn succeeds(arguments: &[&str]) -> String {
    let output =
        timeout(*PATIENCE, trex(arguments).stderr(Stdio::piped()).output()).await.expect("an end").unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_on_the_sessions_of_a_pool() {
    for sessions in [1, 2] {
        let database = Database::create().await;
        let Some(pooler) = Pooler::before(&database, "transaction", sessions).await else { return };
        let busy = pooler.busy().await;
        succeeds(&["migrate", "--database-url", &pooler.url]).await;
        let hub = TestHub::start_with(Settings::new(pooler.target()), Registry::of_this_program()).await;
        let mut watch =
            hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
        let application = pooler.connect().await;
        let mut revision = 0;
        let mut next = async || {
            revision += 1;
            let event = timeout(*PATIENCE, watch.message()).await.expect("in time").unwrap().unwrap();
            assert_eq!(event.revision, revision);
            event
        };
        for n in 0..20 {
            let insert = format!("INSERT INTO dinosaurs (species) VALUES ('s{n}')");
            application.batch_execute(&insert).await.unwrap();
            next().await;
        }
        assert_eq!(hub.metric("hub_doorbell_rings_total", ""), 0.0);
        let mut client = hub.client().await;
        let create = CreateDinosaurRequest { species: "by call".into() };
        let id = client.create_dinosaur(create).await.unwrap().into_inner().metadata.unwrap().id;
        assert_eq!(next().await.resource_id, id);
        let update = UpdateDinosaurRequest { id: id.clone(), species: Some("again".into()) };
        client.update_dinosaur(update).await.unwrap();
        next().await;
        let found = client.get_dinosaur(GetDinosaurRequest { id }).await.unwrap().into_inner();
        assert_eq!(found.species, "again");
        let status = succeeds(&["status", "--server", &hub.app().addresses().admin]).await;
        assert!(status.contains(", ready\n"), "{status}");
        hub.stop().await;
        if sessions > 1 {
            // Locks in one transaction, work in another.
            succeeds(&["new-epoch", "--database-url", &pooler.url]).await;
        }
        application.batch_execute("CREATE TABLE orders (id int PRIMARY KEY)").await.unwrap();
        succeeds(&["attach", "orders", "--database-url", &pooler.url]).await;
        succeeds(&["detach", "orders", "--database-url", &pooler.url]).await;
        let again = succeeds(&["migrate", "--database-url", &pooler.url]).await;
        assert!(again.contains("nothing to migrate"), "{again}");
        drop((busy, application));
        assert_eq!(pooler.left(sessions).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_named_once_with_the_remedy() {
    let database = Database::create().await;
    let Some(pooler) = Pooler::before(&database, "transaction", 2).await else { return };
    let _busy = pooler.busy().await;
    let listeners = ["grpc", "admin", "metrics", "health-check"]
        .map(|name| format!("--{name}-server-bindaddress=localhost:0"));
    let mut hub = trex(&["serve", "--log", "warn", "--database-url", &pooler.url]);
    let mut hub = hub.args(listeners).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(hub.stderr.take().unwrap()).lines();
    let line = timeout(*PATIENCE, lines.next_line()).await.expect("a line").unwrap().unwrap();
    assert!(line.contains("pooler") && line.contains("--wakeups poll"), "{line}");
    let sent = Command::new("kill").args(["-TERM", &hub.id().unwrap().to_string()]).status().await;
    assert!(sent.unwrap().success());
    timeout(*PATIENCE, hub.wait()).await.expect("an end").unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        assert!(!line.contains("pooler"), "{line}");
    }
    let doctor = trex(&["doctor", "--database-url", &pooler.url]).output().await.unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert!(text.contains("WARNING  pooler: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_told_from_a_server() {
    let database = Database::create().await;
    for _ in 0..10 {
        assert!(keeps_sessions(&database.target()).await.unwrap(), "a server");
    }
    for sessions in [1, 2, 3, 4, 20] {
        let Some(pooler) = Pooler::before(&database, "transaction", sessions).await else { return };
        assert!(!keeps_sessions(&pooler.target()).await.unwrap(), "at rest, {sessions}");
        let _busy = [pooler.busy().await, pooler.busy().await, pooler.busy().await];
        for _ in 0..5 {
            assert!(!keeps_sessions(&pooler.target()).await.unwrap(), "busy, {sessions}");
        }
    }
    let Some(pooler) = Pooler::before(&database, "session", 10).await else { return };
    assert!(keeps_sessions(&pooler.target()).await.unwrap(), "a pooler that keeps sessions");
}
