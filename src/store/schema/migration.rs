//! Numbered files of statements, and what keeps them from being run.

use super::digest;
use crate::store::Driven;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// A server that has not taken a connection within this is not there.
pub(in crate::store) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A step that found its table locked for this long is given up.
pub(in crate::store) const STEP_LIMIT: Duration = Duration::from_secs(60);

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

/// A kind's tables: each kind numbers its own migrations.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// The kind.
    pub name: &'static str,
    /// In order.
    pub migrations: &'static [Migration],
    /// The table to watch, with its schema.
    pub table: Option<&'static str>,
}

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
        "{scope} migration {version} was applied with another text: this program is not a later version of \
         the one that made the schema"
    )]
    Changed {
        /// Whose migration.
        scope: &'static str,
        /// Which.
        version: i32,
    },
    /// The schema was made by a build from before the baseline.
    #[error(
        "schema hub was made by a trex from before its first release, which this program cannot carry over: \
         run DROP SCHEMA hub CASCADE and start again; the watched tables keep their rows, and the history \
         begins anew"
    )]
    Earlier,
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
    /// A function of the hub cannot be made.
    #[error("function hub.{name}")]
    Function {
        /// Its name.
        name: String,
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
    /// A table of this name is there, and is not what this program would make.
    #[error("table {table} is there already and cannot be watched as {kind}: {difference}")]
    Misfit {
        /// The table.
        table: &'static str,
        /// What it was to be.
        kind: &'static str,
        /// What is different.
        difference: String,
    },
    /// Somebody holds a lock on a table.
    #[error(
        "{what} is locked by a transaction that has not ended within {STEP_LIMIT:?}; its triggers could not \
         be changed"
    )]
    Locked {
        /// The table, or the schema.
        what: &'static str,
    },
    /// The server is too old.
    #[error("the server is Postgres {0}; trex needs 14 or newer")]
    OldServer(String),
    /// Not all of what the database can hold can be sent.
    #[error(
        "the database has the encoding {0}, of which not every character can be written in UTF-8; trex \
         needs a database made with ENCODING 'UTF8', or a complete one such as LATIN1 or LATIN9"
    )]
    Encoding(String),
    /// The server takes the connection and says nothing.
    #[error("the server does not answer within {CONNECT_LIMIT:?}")]
    Silent,
    /// The connection failed.
    #[error("the database")]
    Database(#[from] tokio_postgres::Error),
}

impl MigrateError {
    /// Whether a lock was not to be had in time.
    pub(in crate::store) fn is_lock(&self) -> bool {
        let (Self::Database(source)
        | Self::Statement { source, .. }
        | Self::Watch { source, .. }
        | Self::Function { source, .. }) = self
        else {
            return false;
        };
        [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED]
            .iter()
            .any(|state| source.code() == Some(state))
    }
}

/// The migrations of a scope that were not applied yet; an error, if this program is not a later one than
/// that which was here.
pub(in crate::store) async fn missing(
    client: &Driven,
    scope: &'static str,
    migrations: &'static [Migration],
) -> Result<Vec<&'static Migration>, MigrateError> {
    let sql = "SELECT version, checksum FROM hub.migration WHERE scope = $1 ORDER BY version";
    let known = migrations.last().map_or(0, |newest| newest.version);
    let mut present = 0;
    for row in client.query(sql, &[&scope]).await? {
        let (version, checksum): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let Some(migration) = migrations.iter().find(|migration| migration.version == version) else {
            return Err(MigrateError::Newer { scope, found: version, known });
        };
        if checksum != digest(migration.sql) {
            return Err(MigrateError::Changed { scope, version });
        }
        present = version;
    }
    Ok(migrations.iter().filter(|migration| migration.version > present).collect())
}

/// Runs a migration, and notes that it ran.
pub(in crate::store) async fn note(
    client: &Driven,
    scope: &'static str,
    migration: &Migration,
) -> Result<(), MigrateError> {
    let Migration { version, name, sql } = *migration;
    let failed = |source| MigrateError::Statement { scope, version, name, source };
    client.batch_execute(sql).await.map_err(failed)?;
    let note = "INSERT INTO hub.migration (scope, version, name, checksum) VALUES ($1, $2, $3, $4)";
    client.execute(note, &[&scope, &version, &name, &digest(sql)]).await.map_err(failed)?;
    Ok(())
}
