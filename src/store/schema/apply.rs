//! Brings schema `hub` to this program.

use super::{
    FUNCTIONS, Function, MigrateError, SCOPE, TABLES, digest,
    migration::{missing, note},
};
use crate::store::Driven;
use std::collections::HashMap;
use tokio_postgres::error::SqlState;

/// Whether the schema is that of this program. Takes no lock.
pub(in crate::store) async fn is_current(client: &Driven) -> Result<bool, MigrateError> {
    let digests = digests(client).await?;
    let same = |function: &Function| digests.get(function.name) == Some(&digest(&function.sql()));
    Ok(digests.len() == FUNCTIONS.len()
        && FUNCTIONS.iter().all(same)
        && missing(client, SCOPE, TABLES).await?.is_empty())
}

/// Makes what is missing, in the transaction that the caller has begun. Returns how many files of tables were
/// run.
pub(in crate::store) async fn apply(client: &Driven) -> Result<usize, MigrateError> {
    // Asked for first: a role without CREATE on the database may find its schema made for it.
    if client.query_opt("SELECT FROM pg_namespace WHERE nspname = 'hub'", &[]).await?.is_none() {
        client.batch_execute("CREATE SCHEMA hub").await?;
    }
    let own = "CREATE TABLE IF NOT EXISTS hub.migration (scope text, version int, name text NOT NULL,
                 checksum text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (scope, version));
               CREATE TABLE IF NOT EXISTS hub.function (name text PRIMARY KEY, digest text NOT NULL)";
    client.batch_execute(own).await?;
    let tables = missing(client, SCOPE, TABLES).await?;
    for table in &tables {
        note(client, SCOPE, table).await?;
    }
    let mut digests = digests(client).await?;
    for function in FUNCTIONS {
        let (sql, had) = (function.sql(), digests.remove(function.name));
        if had.as_deref() != Some(&digest(&sql)) {
            replace(client, function.name, &sql).await?;
        }
    }
    for gone in digests.keys() {
        drop_all(client, gone).await?;
        client.execute("DELETE FROM hub.function WHERE name = $1", &[gone]).await?;
    }
    // What an event trigger of somebody else has put on the tables as they were made.
    client.batch_execute("SELECT hub.shield()").await?;
    Ok(tables.len())
}

/// The digests of the functions that are there.
async fn digests(client: &Driven) -> Result<HashMap<String, String>, tokio_postgres::Error> {
    let rows = client.query("SELECT name, digest FROM hub.function", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Replaced, a function keeps what was granted on it. One with other arguments or results has to be dropped
/// first.
async fn replace(client: &Driven, name: &str, sql: &str) -> Result<(), MigrateError> {
    let failed = |source| MigrateError::Function { name: name.to_owned(), source };
    client.batch_execute("SAVEPOINT before").await?;
    let other = "SELECT count(*) > 1 FROM pg_proc WHERE pronamespace = 'hub'::regnamespace AND proname = $1";
    match client.batch_execute(sql).await {
        Ok(()) if !client.query_one(other, &[&name]).await?.try_get::<_, bool>(0)? => (),
        Ok(()) => {
            drop_all(client, name).await?;
            client.batch_execute(sql).await.map_err(failed)?;
        }
        Err(error) if error.code() == Some(&SqlState::INVALID_FUNCTION_DEFINITION) => {
            client.batch_execute("ROLLBACK TO before").await?;
            drop_all(client, name).await?;
            client.batch_execute(sql).await.map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let remember = "INSERT INTO hub.function (name, digest) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE
                    SET digest = $2";
    client.execute(remember, &[&name, &digest(sql)]).await?;
    Ok(())
}

/// Drops every function of this name.
async fn drop_all(client: &Driven, name: &str) -> Result<(), tokio_postgres::Error> {
    let found = "SELECT format('DROP FUNCTION hub.%I(%s)', proname, pg_get_function_identity_arguments(oid))
                 FROM pg_proc WHERE pronamespace = 'hub'::regnamespace AND proname = $1";
    for row in client.query(found, &[&name]).await? {
        client.batch_execute(row.try_get(0)?).await?;
    }
    Ok(())
}
