//! Everything that is said to Postgres. SQL text lives here and in the `.sql` files, and nowhere else.

mod connection;
mod hub;
mod lease;
mod migrate;
mod rows;

pub use connection::{Driven, Target};
pub use hub::{
    Bell, BellConnection, HubConnection, ReadPosition, SealError, Sealed, SealedRow, TransactionId,
};
pub use migrate::{MigrateError, Migration, Scope, migrate};
pub use rows::{Columns, Page, Table};

use crate::error::Error;
use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolConfig, RecyclingMethod, Runtime, Timeouts,
};
use lease::Lease;
use std::time::Duration;
use tokio_postgres::{NoTls, Row, types::ToSql};

/// A statement on a pooled connection may take so long.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A pool of connections for short statements.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

impl Store {
    /// A pool of at most `size` connections; none is made before it is needed.
    pub fn new(target: &Target, size: usize) -> Result<Self, deadpool_postgres::BuildError> {
        let manager = Manager::from_config(
            target.config().clone(),
            NoTls,
            // The driver tells a closed connection without asking the server.
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
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    let statement = format!("SET statement_timeout = {}", STATEMENT_TIMEOUT.as_millis());
                    client.batch_execute(&statement).await.map_err(HookError::Backend)
                })
            }))
            .build()?;
        Ok(Self { pool })
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

    /// What is wrong with the capture of a kind; nothing, if all is well.
    pub async fn capture_faults(&self, kind: &str) -> Result<Vec<String>, Error> {
        let rows = self.run("capture_faults", "SELECT fault FROM hub.capture_faults($1)", &[&kind]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// The age of the oldest open transaction that has written, as far as this role may see it.
    pub async fn oldest_open_transaction(&self) -> Result<Duration, Error> {
        let sql = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
                   FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()";
        let rows = self.run("oldest_open_transaction", sql, &[]).await?;
        let seconds: f64 = rows.first().map_or(Ok(0.0), |row| row.try_get(0))?;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    async fn connection(&self) -> Result<Object, Error> {
        Ok(self.pool.get().await?)
    }

    /// Runs one statement, prepared once per connection, in a transaction of its own.
    async fn run(
        &self,
        name: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let connection = self.connection().await?;
        let started = std::time::Instant::now();
        let rows = Lease::new(connection).query(sql, parameters).await?;
        tracing::debug!(statement = name, elapsed = ?started.elapsed(), rows = rows.len(), "statement");
        Ok(rows)
    }
}
