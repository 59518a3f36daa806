//! What `trex doctor` asks a database. It changes nothing, and needs no privilege except to connect.

use super::{Driven, Migration, Scope, Store, Target, keeps_sessions, lock::HubLock, schema};
use crate::error::chain;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_postgres::{Row, types::Type};

/// A server that does not answer within this counts as down.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a database says of itself.
#[derive(Debug, Clone, Default)]
pub struct Examination {
    /// The server, for people.
    pub version: String,
    /// Such as 170004.
    pub version_number: i32,
    /// Whether it only follows another server.
    pub standby: bool,
    /// The encoding of the database.
    pub encoding: String,
    /// Whether transactions are read-only by default.
    pub read_only: bool,
    /// The default isolation of transactions.
    pub isolation: String,
    /// Whether commits survive a crash.
    pub fsync: bool,
    /// More than 0 forbids NOTIFY in the capture triggers' transactions.
    pub max_prepared_transactions: i32,
    /// Time limits of sessions that the hub does not override, as name and value.
    pub limits: Vec<(String, String)>,
    /// From 0 to 1.
    pub notification_queue: f64,
    /// Seconds by which the server's clock is ahead of this machine's.
    pub clock_ahead: f64,
    /// Whether connections have no session of their own: a pooler stands between.
    pub shared_session: bool,
    /// The connections that this role can still open; those of hubs count as free.
    pub free_connections: i64,
    /// The role that asked.
    pub role: String,
    /// Whether it may create a schema in this database.
    pub may_create_schema: bool,
    /// Event triggers that are switched on.
    pub event_triggers: Vec<String>,
    /// Open transactions that have written, of at least the age that was asked for; the oldest first.
    pub old_transactions: Vec<OldTransaction>,
    /// The hub's schema, if it is there.
    pub schema: Option<SchemaState>,
    /// The tables that are to be watched.
    pub tables: Vec<WatchedTable>,
}

/// A transaction that holds back its own events, and vacuum.
#[derive(Debug, Clone)]
pub struct OldTransaction {
    /// Its session; `None`: it is prepared.
    pub pid: Option<i32>,
    /// The application name of its session, or the name that it was prepared under.
    pub name: String,
    /// How long it has been open.
    pub age: Duration,
}

/// The state of schema `hub`.
#[derive(Debug, Clone, Default)]
pub struct SchemaState {
    /// Whether the role may use the schema at all; if not, nothing else here is known.
    pub usable: bool,
    /// `relation PRIVILEGE`, for each that is missing.
    pub missing_rights: Vec<(String, String)>,
    /// The newest migration that was applied, per scope.
    pub applied: Vec<(String, i32)>,
    /// Events between the floor and the head.
    pub retained: i64,
    /// Hubs that listen for wake-ups.
    pub hubs: i64,
}

/// A table that is to be watched.
#[derive(Debug, Clone, Default)]
pub struct WatchedTable {
    /// Its kind.
    pub kind: String,
    /// With its schema.
    pub table: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether the role owns it, itself or as a member.
    pub owned: bool,
    /// Whether the role may read it.
    pub readable: bool,
    /// Whether row-level security hides rows from the role.
    pub rows_hidden: bool,
    /// What is wrong with its capture.
    pub faults: Vec<String>,
}

/// The newest migration that this program knows, per scope.
pub fn known_migrations(kinds: &[Scope]) -> Vec<(String, i32)> {
    let newest = |migrations: &[Migration]| migrations.last().map_or(0, |migration| migration.version);
    let own = (schema::SCOPE.to_owned(), newest(schema::TABLES));
    std::iter::once(own)
        .chain(kinds.iter().map(|kind| (kind.name.to_owned(), newest(kind.migrations))))
        .collect()
}

/// Examines the database. `old`: the age from which an open transaction is listed. Fails with one sentence if
/// the database cannot be asked at all.
pub async fn examine(target: &Target, kinds: &[Scope], old: Duration) -> Result<Examination, String> {
    let asked = async {
        let client = target.open().await?;
        let mut examination = server(&client).await?;
        examination.shared_session = !keeps_sessions(target).await?;
        examination.event_triggers = names(&client, EVENT_TRIGGERS).await?;
        examination.old_transactions = old_transactions(&client, old).await?;
        if exists(&client, "SELECT FROM pg_namespace WHERE nspname = 'hub'").await? {
            examination.schema = Some(schema(&client).await?);
        }
        for kind in kinds {
            examination.tables.extend(table(&client, kind).await?);
        }
        if examination.schema.as_ref().is_some_and(|schema| schema.usable) {
            capture(target, &mut examination.tables).await;
        }
        Ok::<_, tokio_postgres::Error>(examination)
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(result) => result.map_err(|error| chain(&error)),
        Err(_) => Err(format!("the server does not answer within {PATIENCE:?}")),
    }
}

/// Without a prepared statement, which a pooler may lose between two messages.
async fn rows(client: &Driven, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
    client.query_typed(sql, &[]).await
}

async fn exists(client: &Driven, sql: &str) -> Result<bool, tokio_postgres::Error> {
    Ok(!rows(client, sql).await?.is_empty())
}

async fn names(client: &Driven, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    rows(client, sql).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Of others: the hub's own run its own functions. Looked up by name, for the role may not use the schema.
const EVENT_TRIGGERS: &str = "SELECT evtname::text
    FROM pg_event_trigger JOIN pg_proc f ON f.oid = evtfoid JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE evtenabled <> 'D' AND n.nspname <> 'hub' ORDER BY 1";

/// `trex` is the application name of hubs: a hub that is stopped to make room for this one gives its
/// connections back.
const SERVER: &str = "
    SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
      pg_encoding_to_char(d.encoding)::text, current_setting('default_transaction_read_only') = 'on',
      current_setting('default_transaction_isolation'), current_setting('fsync') = 'on',
      current_setting('max_prepared_transactions')::int, pg_notification_queue_usage(),
      extract(epoch FROM clock_timestamp())::float8, current_user::text,
      has_database_privilege(current_database(), 'CREATE'),
      least(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
          - (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL
            AND application_name IS DISTINCT FROM 'trex'),
        nullif(r.rolconnlimit, -1)
          - (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid
            AND application_name IS DISTINCT FROM 'trex'),
        nullif(d.datconnlimit, -1)
          - (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid
            AND application_name IS DISTINCT FROM 'trex'))
    FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user";

const LIMITS: &str = "
    SELECT name, setting || coalesce(unit, '') FROM pg_settings
    WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0' ORDER BY name";

async fn server(client: &Driven) -> Result<Examination, tokio_postgres::Error> {
    let before = SystemTime::now();
    let found = rows(client, SERVER).await?;
    let waited = before.elapsed().unwrap_or_default();
    let Some(row) = found.first() else { return Ok(Examination::default()) };
    let here = (before + waited / 2).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    // The time for the answer can lie on either side of the server's clock reading.
    let (ahead, doubt) = (row.try_get::<_, f64>(9)? - here, waited.as_secs_f64() / 2.0);
    let limits = rows(client, LIMITS).await?;
    Ok(Examination {
        version: row.try_get(0)?,
        version_number: row.try_get(1)?,
        standby: row.try_get(2)?,
        encoding: row.try_get(3)?,
        read_only: row.try_get(4)?,
        isolation: row.try_get(5)?,
        fsync: row.try_get(6)?,
        max_prepared_transactions: row.try_get(7)?,
        notification_queue: row.try_get(8)?,
        clock_ahead: ahead.signum() * (ahead.abs() - doubt).max(0.0),
        role: row.try_get(10)?,
        may_create_schema: row.try_get(11)?,
        free_connections: row.try_get(12)?,
        limits: limits.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, _>>()?,
        ..Examination::default()
    })
}

async fn old_transactions(
    client: &Driven,
    old: Duration,
) -> Result<Vec<OldTransaction>, tokio_postgres::Error> {
    let sql = "SELECT pid, name, age FROM (
          SELECT pid, application_name::text AS name,
          extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age
            FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()
          UNION ALL
          SELECT NULL, gid, extract(epoch FROM clock_timestamp() - prepared)::float8
            FROM pg_prepared_xacts WHERE database = current_database()) t
        WHERE age >= $1 ORDER BY age DESC";
    let found = client.query_typed(sql, &[(&old.as_secs_f64(), Type::FLOAT8)]).await?;
    let transaction = |row: &Row| {
        let age = Duration::try_from_secs_f64(row.try_get(2)?).unwrap_or_default();
        let name: Option<String> = row.try_get(1)?;
        Ok(OldTransaction { pid: row.try_get(0)?, name: name.unwrap_or_default(), age })
    };
    found.iter().map(transaction).collect()
}

/// The privileges of docs/privileges.md. A relation that this schema does not have is not required.
const RIGHTS: &str = "
    SELECT relation, privilege FROM (VALUES
      ('hub.log', 'INSERT'), ('hub.head', 'UPDATE'), ('hub.head', 'INSERT'), ('hub.incarnation', 'INSERT'),
      ('hub.incarnation', 'DELETE'), ('hub.retention', 'UPDATE'), ('hub.change', 'DELETE'),
      ('hub.log', 'DELETE'),
      ('hub.import', 'INSERT'), ('hub.import', 'UPDATE'), ('hub.import', 'DELETE'),
      ('hub.import_failure', 'INSERT'),
      ('hub.import_failure', 'DELETE')) v(relation, privilege)
    WHERE to_regclass(relation) IS NOT NULL AND NOT has_table_privilege(to_regclass(relation), privilege)
    UNION ALL
    SELECT 'hub.' || relname, 'SELECT' FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'hub') AND relkind IN ('r', 'p')
      AND NOT has_table_privilege(oid, 'SELECT')";

async fn schema(client: &Driven) -> Result<SchemaState, tokio_postgres::Error> {
    let mut state = SchemaState::default();
    if !exists(client, "SELECT WHERE has_schema_privilege('hub', 'USAGE')").await? {
        return Ok(state);
    }
    state.usable = true;
    for row in rows(client, RIGHTS).await? {
        state.missing_rights.push((row.try_get(0)?, row.try_get(1)?));
    }
    let readable = |table: &str| {
        format!(
            "SELECT WHERE to_regclass('{table}') IS NOT NULL
             AND has_table_privilege(to_regclass('{table}'), 'SELECT')"
        )
    };
    if exists(client, &readable("hub.migration")).await? {
        for row in rows(client, "SELECT scope, max(version) FROM hub.migration GROUP BY scope").await? {
            state.applied.push((row.try_get(0)?, row.try_get(1)?));
        }
    }
    if exists(client, &readable("hub.head")).await? && exists(client, &readable("hub.retention")).await? {
        let sql = "SELECT (SELECT revision FROM hub.head) - (SELECT compacted FROM hub.retention)";
        let retained = rows(client, sql).await?;
        state.retained = retained.first().map_or(Ok(None), |row| row.try_get(0))?.unwrap_or(0);
    }
    let hubs = format!(
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
         AND classid = {} AND objid = {} AND database = (SELECT oid FROM pg_database
           WHERE datname = current_database())",
        HubLock::CLASS,
        HubLock::Present as i32
    );
    state.hubs = rows(client, &hubs).await?.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(state)
}

async fn table(client: &Driven, kind: &Scope) -> Result<Option<WatchedTable>, tokio_postgres::Error> {
    let Some(name) = kind.table else { return Ok(None) };
    let sql =
        "SELECT pg_has_role(relowner, 'MEMBER'), has_table_privilege(oid, 'SELECT'), row_security_active(oid)
               FROM pg_class WHERE oid = to_regclass($1)";
    let found = client.query_typed(sql, &[(&name, Type::TEXT)]).await?;
    let table =
        WatchedTable { kind: kind.name.to_owned(), table: name.to_owned(), ..WatchedTable::default() };
    let Some(row) = found.first() else { return Ok(Some(table)) };
    let (owned, readable, rows_hidden) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Some(WatchedTable { exists: true, owned, readable, rows_hidden, ..table }))
}

/// A schema that is too old or too new to ask has other faults, which are listed before these.
async fn capture(target: &Target, tables: &mut [WatchedTable]) {
    let Ok(store) = Store::new(&target.clone().pooled(), 1) else { return };
    for table in tables.iter_mut().filter(|table| table.exists) {
        table.faults = store.capture_faults(&table.kind, Some(&table.table)).await.unwrap_or_default();
    }
}
