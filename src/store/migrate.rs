//! Brings a database to the schema of this program: numbered files, each in a transaction of its own, under one advisory lock.

use super::{Driven, Target};
use sha2::{Digest, Sha256};
use std::{fmt::Write, time::Duration};
use tokio::time::timeout;

/// CREATE OR REPLACE TRIGGER, idle_session_timeout.
const OLDEST_SERVER: i32 = 140_000;
/// A server that has not taken a connection within this is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One numbered file. Once released it never changes.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// From 1, without gaps.
    pub version: i32,
    /// For people.
    pub name: &'static str,
    /// Statements.
    pub sql: &'static str,
}

/// The hub's schema, or a kind's tables: each numbers its own migrations.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// `hub`, or the kind.
    pub name: &'static str,
    /// In order.
    pub migrations: &'static [Migration],
    /// For a kind: the table to watch, with its schema.
    pub table: Option<&'static str>,
}

/// The hub's own schema.
pub(super) const HUB: Scope = Scope {
    name: "hub",
    migrations: &[
        Migration { version: 1, name: "log", sql: include_str!("migrations/0001_log.sql") },
        Migration { version: 2, name: "capture", sql: include_str!("migrations/0002_capture.sql") },
        Migration { version: 3, name: "seal", sql: include_str!("migrations/0003_seal.sql") },
        Migration { version: 4, name: "head", sql: include_str!("migrations/0004_head.sql") },
        Migration { version: 5, name: "retention", sql: include_str!("migrations/0005_retention.sql") },
        Migration { version: 6, name: "epoch", sql: include_str!("migrations/0006_epoch.sql") },
        Migration { version: 7, name: "imports", sql: include_str!("migrations/0007_imports.sql") },
        Migration { version: 8, name: "controllers", sql: include_str!("migrations/0008_controllers.sql") },
        Migration { version: 9, name: "one epoch", sql: include_str!("migrations/0009_one_epoch.sql") },
        Migration {
            version: 10,
            name: "seal by range",
            sql: include_str!("migrations/0010_seal_by_range.sql"),
        },
        Migration {
            version: 11,
            name: "capture order",
            sql: include_str!("migrations/0011_capture_order.sql"),
        },
        Migration {
            version: 12,
            name: "names and plans",
            sql: include_str!("migrations/0012_names_and_plans.sql"),
        },
    ],
    table: None,
};

/// Why a database cannot be brought to this program's schema.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer program was here.
    #[error(
        "the database has {scope} migration {found}, this program knows only up to {known}: run a newer trex"
    )]
    Newer {
        /// Whose migration.
        scope: &'static str,
        /// The newest in the database.
        found: i32,
        /// The newest of this program.
        known: i32,
    },
    /// A migration is not what it was when it was applied.
    #[error(
        "{scope} migration {version} was applied with another text: this program is not a later version of the one that made the schema"
    )]
    Changed {
        /// Whose migration.
        scope: &'static str,
        /// Which.
        version: i32,
    },
    /// A statement failed.
    #[error("{scope} migration {version} ({name})")]
    Statement {
        /// Whose migration.
        scope: &'static str,
        /// Which.
        version: i32,
        /// Its name.
        name: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// A table cannot be watched.
    #[error("cannot watch {table}")]
    Watch {
        /// The table.
        table: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// The server is too old.
    #[error("the server is Postgres {0}; trex needs 14 or newer")]
    OldServer(String),
    /// The server takes the connection and says nothing.
    #[error("the server does not answer within {CONNECT_LIMIT:?}")]
    Silent,
    /// The connection failed.
    #[error("the database")]
    Database(#[from] tokio_postgres::Error),
}

/// Applies what is missing and mends the capture of every kind. Returns how many migrations were applied.
pub async fn migrate(target: &Target, kinds: &[Scope]) -> Result<usize, MigrateError> {
    let client = timeout(CONNECT_LIMIT, target.open()).await.map_err(|_| MigrateError::Silent)??;
    // Never queue behind a long transaction for a lock on a user's table: every writer would queue behind us.
    client.batch_execute("SET client_min_messages = warning; SET default_transaction_isolation = 'read committed'; SET lock_timeout = '10s'; SELECT pg_advisory_lock(1953654136, 4)").await?;
    let server = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int",
            &[],
        )
        .await?;
    if server.try_get::<_, i32>(1)? < OLDEST_SERVER {
        return Err(MigrateError::OldServer(server.try_get(0)?));
    }
    prepare(&client).await?;
    let mut applied = 0;
    for scope in std::iter::once(&HUB).chain(kinds) {
        applied += apply(&client, scope).await?;
    }
    for Scope { name, table, .. } in kinds {
        if let Some(table) = table {
            let watched = client.execute("SELECT hub.watch($1, $2::text::regclass)", &[name, table]).await;
            watched.map_err(|source| MigrateError::Watch { table, source })?;
        }
    }
    client.batch_execute("SELECT pg_advisory_unlock(1953654136, 4)").await?;
    Ok(applied)
}

/// Asks before it creates: a role without CREATE on the database may find its schema made for it.
async fn prepare(client: &Driven) -> Result<(), MigrateError> {
    if client.query_opt("SELECT FROM pg_namespace WHERE nspname = 'hub'", &[]).await?.is_none() {
        client.batch_execute("CREATE SCHEMA hub").await?;
    }
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS hub.migration (scope text, version int, name text NOT NULL, checksum text NOT NULL,
               applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (scope, version))",
        )
        .await?;
    Ok(())
}

async fn apply(client: &Driven, scope: &Scope) -> Result<usize, MigrateError> {
    let rows = client
        .query(
            "SELECT version, checksum FROM hub.migration WHERE scope = $1 ORDER BY version",
            &[&scope.name],
        )
        .await?;
    let known = scope.migrations.last().map_or(0, |newest| newest.version);
    let mut present = 0;
    for row in &rows {
        let (version, checksum): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let Some(migration) = scope.migrations.iter().find(|migration| migration.version == version) else {
            return Err(MigrateError::Newer { scope: scope.name, found: version, known });
        };
        if checksum != digest(migration.sql) {
            return Err(MigrateError::Changed { scope: scope.name, version });
        }
        present = version;
    }
    let missing = scope.migrations.iter().filter(|migration| migration.version > present);
    let mut applied = 0;
    for migration in missing {
        run(client, scope.name, migration).await.map_err(|source| MigrateError::Statement {
            scope: scope.name,
            version: migration.version,
            name: migration.name,
            source,
        })?;
        applied += 1;
    }
    Ok(applied)
}

/// One transaction: the statements, and the note that they ran.
async fn run(client: &Driven, scope: &str, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let result = async {
        client.batch_execute(migration.sql).await?;
        let note = "INSERT INTO hub.migration (scope, version, name, checksum) VALUES ($1, $2, $3, $4)";
        client.execute(note, &[&scope, &migration.version, &migration.name, &digest(migration.sql)]).await?;
        client.batch_execute("COMMIT").await
    }
    .await;
    if result.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    result
}

fn digest(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
