//! Everything that is sent to Postgres. SQL text lives here and in the `.sql` files, and nowhere else.

mod api_keys;
mod attached;
mod audit;
mod bulk;
mod condition;
mod connection;
mod controller;
mod doctor;
mod fault;
mod hub;
mod lease;
mod letters;
mod lock;
mod migrate;
mod parameters;
mod passfile;
mod pooler;
mod rows;
mod schema;
mod search;
mod snapshot;
mod status;
mod tls;
mod transaction;
mod values;

pub use api_keys::{ApiKeyRow, NewApiKey};
pub use attached::{AttachChoice, Candidate};
pub use audit::{AuditFilter, AuditPlace, AuditRecord};
pub use bulk::{Batch, BulkTable, Failure, Import, NewRow, NotWritten, Written};
pub use connection::{Driven, Target};
pub use controller::{ControllerConnection, ControllerStatus, Parameters, Standing, Turn};
pub use doctor::{Examination, OldTransaction, SchemaState, WatchedTable, examine, known_migrations};
pub use fault::{DatabaseError, Fault};
pub use hub::{
    Bell, BellConnection, Doubt, HubConnection, LogPosition, LogState, PageBound, SealError, Sealed,
    SealedRow, Span, Touched, TransactionId, begin_epoch,
};
pub use letters::{DeadLetters, DueLetter, Letter, Which};
pub use migrate::migrate;
pub use pooler::keeps_sessions;
pub use rows::{Choice, Columns, LARGEST_PAGE, ListRows, Page, RowPage, RowTable, TableRow, Visible};
pub use schema::{MigrateError, Migration, Scope};
pub use snapshot::{SnapshotRow, TableSnapshot};
pub use status::{DatabaseStatus, OpenTransaction};

use crate::{
    call::Call,
    error::Error,
    model::{KindName, Revision},
};
use connection::OnRuntime;
use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, PoolConfig, RecyclingMethod, Runtime, Timeouts,
};
use lease::Lease;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// A statement on a pooled connection may take this long.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A pool of connections for short statements.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    tls: tls::Connector,
    /// Whether a server session is a connection's own.
    session: bool,
}

impl Store {
    /// A pool of at most `size` connections; none is made before it is needed. Its connections end with the
    /// runtime that this is called in.
    pub fn new(target: &Target, size: usize) -> Result<Self, deadpool_postgres::BuildError> {
        let session = target.keeps_session();
        let manager = Manager::from_connect(
            target.config().clone(),
            OnRuntime { runtime: Handle::current(), target: target.clone() },
            // The driver recognises a closed connection without asking the server.
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let timeouts = Timeouts {
            wait: Some(Duration::from_secs(5)),
            create: Some(Duration::from_secs(5)),
            recycle: Some(Duration::from_secs(5)),
        };
        let pool = Pool::builder(manager)
            .config(PoolConfig { max_size: size, timeouts, ..PoolConfig::default() })
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    if !session {
                        return Ok(());
                    }
                    // Whatever the database's default: a statement that waited for another writer goes on
                    // with what that one left.
                    let settings = format!(
                        "SET statement_timeout = {}; SET default_transaction_isolation = 'read committed'",
                        STATEMENT_TIMEOUT.as_millis()
                    );
                    client.batch_execute(&settings).await.map_err(HookError::Backend)
                })
            }))
            .build()?;
        Ok(Self { pool, tls: target.tls(), session })
    }

    /// Connections in use, and idle ones.
    pub fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size.saturating_sub(status.available), status.available)
    }

    /// Closes the idle connections and hands out no more.
    pub fn close(&self) {
        self.pool.close();
    }

    /// What is wrong with the capture of a kind on this table; empty if nothing is.
    pub async fn capture_faults(&self, kind: &str, table: Option<&str>) -> Result<Vec<String>, Error> {
        let sql = "SELECT fault FROM hub.capture_faults($1, $2)";
        let rows = self.run("capture_faults", sql, &[&kind, &table]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Takes off what other tools have put on the hub's own tables: triggers, which would run within each
    /// captured statement, and row security. Returns what; what is locked or not this role's to change stays.
    pub async fn shield(&self) -> Result<Vec<String>, Error> {
        let rows = self.run("shield", "SELECT hub.shield()", &[]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Everything up to here may be gone.
    pub async fn compacted(&self) -> Result<Revision, Error> {
        one_revision(&self.run("compacted", "SELECT compacted FROM hub.retention", &[]).await?)
            .map(Option::unwrap_or_default)
    }

    /// The newest sealed revision.
    pub async fn head(&self) -> Result<Revision, Error> {
        one_revision(&self.run("head", "SELECT revision FROM hub.head", &[]).await?)
            .map(Option::unwrap_or_default)
    }

    /// Raises the floor past at most `step` transactions that are too old or too many. Returns the floor;
    /// `None`: another hub is doing it.
    pub async fn raise_floor(
        &self,
        age: Duration,
        events: u64,
        step: i32,
    ) -> Result<Option<Revision>, Error> {
        let (age, events) = (age.as_secs_f64(), i64::try_from(events).unwrap_or(i64::MAX));
        let sql = "SELECT hub.raise_floor(make_interval(secs => $1), $2, $3)";
        one_revision(&self.run("raise_floor", sql, &[&age, &events, &step]).await?)
    }

    /// Deletes at most about `step` rows below the floor. Returns how many; 0: none is left, or another hub
    /// is doing it.
    pub async fn delete_below_floor(&self, step: i32) -> Result<i64, Error> {
        let rows = self.run("delete_below_floor", "SELECT hub.delete_below_floor($1)", &[&step]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
    }

    /// The age of the oldest open transaction that has written, as far as this role may see it.
    pub async fn oldest_open_transaction(&self) -> Result<Duration, Error> {
        let sql = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
                   FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()";
        let rows = self.run("oldest_open_transaction", sql, &[]).await?;
        let seconds: f64 = rows.first().map_or(Ok(0.0), |row| row.try_get(0))?;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    async fn lease(&self) -> Result<Lease, Error> {
        Ok(Lease::new(self.pool.get().await?, &self.tls, self.session))
    }

    /// Runs one statement that writes a row of this kind, which the database may refuse. What it changes is
    /// recorded under the name of the call's actor.
    async fn write(
        &self,
        call: &Call,
        kind: &KindName,
        name: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let lease = self.lease().await?;
        let started = std::time::Instant::now();
        let rows = if call.is_attributed() {
            lease.query_for(call, sql, parameters).await
        } else {
            lease.query(sql, parameters).await
        };
        let rows = rows.map_err(|error| DatabaseError::from(error).of_a_row(kind))?;
        let (elapsed, returned) = (started.elapsed(), rows.len());
        tracing::debug!(statement = name, ?elapsed, rows = returned, "statement that writes");
        Ok(rows)
    }

    /// Runs one statement, prepared once per connection, in its own transaction.
    async fn run(
        &self,
        name: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let lease = self.lease().await?;
        let started = std::time::Instant::now();
        let rows = lease.query(sql, parameters).await?;
        tracing::debug!(statement = name, elapsed = ?started.elapsed(), rows = rows.len(), "statement");
        Ok(rows)
    }

    /// The same for a statement whose text varies: it is not prepared, so that connections do not collect
    /// such statements.
    async fn run_once(
        &self,
        name: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let lease = self.lease().await?;
        let started = std::time::Instant::now();
        let rows = lease.query_once(sql, parameters).await?;
        tracing::debug!(statement = name, elapsed = ?started.elapsed(), rows = rows.len(), "statement");
        Ok(rows)
    }
}

fn one_revision(rows: &[Row]) -> Result<Option<Revision>, Error> {
    let number: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(number.map(Revision::from_sql))
}
