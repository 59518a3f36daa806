//! Brings a database to the schema of this program: the hub's own, the tables of compiled kinds, and the
//! triggers of every watched table. Each step is a transaction under one advisory lock. Where nothing is to
//! be done, nothing is locked.

use super::{
    Driven, Target,
    lock::HubLock,
    schema::{self, CONNECT_LIMIT, MigrateError, STEP_LIMIT, Scope, missing, note},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// CREATE OR REPLACE TRIGGER, idle_session_timeout.
const OLDEST_SERVER: i32 = 140_000;
/// Of each lock that a step takes: every writer of the table queues behind whoever waits for it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two tries, which let the writers pass that queued behind the first.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];
/// Each character of these has one in UTF-8, which is what the hub speaks.
pub(super) const ENCODINGS: &str = "{UTF8,LATIN1,LATIN2,LATIN4,LATIN5,LATIN6,LATIN7,LATIN8,LATIN9,LATIN10,ISO_8859_5,KOI8R,KOI8U,WIN866,WIN1256}";

/// Applies what is missing and mends the capture of every kind. Returns how many migrations were applied.
pub async fn migrate(target: &Target, kinds: &[Scope]) -> Result<usize, MigrateError> {
    let client = timeout(CONNECT_LIMIT, target.open()).await.map_err(|_| MigrateError::Silent)??;
    let has_hub = within(&client, "", async || {
        check_server(&client).await?;
        let has_hub = has_hub(&client).await?;
        // Before anything is made, so that nothing is left behind.
        for kind in kinds {
            check_fit(&client, kind, has_hub).await?;
        }
        Ok(has_hub)
    })
    .await?;
    let mut applied = 0;
    if !has_hub || !within(&client, "", async || schema::is_current(&client).await).await? {
        applied += patiently(&client, Step::Hub).await?;
        // In a transaction of its own: the snapshot from which numbering begins.
        within(&client, "", async || Ok(client.batch_execute("SELECT hub.begin_history()").await?)).await?;
    }
    for kind in kinds {
        if !within(&client, "", async || is_kind_current(&client, kind).await).await? {
            applied += patiently(&client, Step::Kind(kind)).await?;
        }
    }
    client.batch_execute("SELECT hub.follow_ddl()").await?;
    Ok(applied)
}

/// How each transaction begins. Nothing is set for longer than it lasts: a pooler may give the session to
/// somebody else then.
const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL client_min_messages = warning;
    SET LOCAL check_function_bodies = off; SET LOCAL standard_conforming_strings = on;
    SET LOCAL search_path = public, pg_temp; SET LOCAL quote_all_identifiers = off;
    SET LOCAL row_security = on";

/// Work in a transaction, all of it or nothing, after these statements. Its statements are prepared, used and
/// forgotten within.
async fn within<T>(
    client: &Driven,
    first: &str,
    work: impl AsyncFnOnce() -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let result = async {
        client.batch_execute(&format!("{BEGIN}; {first}")).await?;
        let done = work().await?;
        client.batch_execute("COMMIT").await?;
        Ok(done)
    }
    .await;
    if result.is_err() {
        // If not even this works the connection is gone, and the transaction with it.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    result
}

async fn check_server(client: &Driven) -> Result<(), MigrateError> {
    let ask = "SELECT current_setting('server_version'), current_setting('server_version_num')::int,
                 current_setting('server_encoding'), current_setting('server_encoding') = ANY \
                 ($1::text::text[])";
    let server = client.query_one(ask, &[&ENCODINGS]).await?;
    if server.try_get::<_, i32>(1)? < OLDEST_SERVER {
        return Err(MigrateError::OldServer(server.try_get(0)?));
    }
    match server.try_get(3)? {
        true => Ok(()),
        false => Err(MigrateError::Encoding(server.try_get(2)?)),
    }
}

/// Whether the hub's tables are there. One that an earlier build made has no digests of its functions.
async fn has_hub(client: &Driven) -> Result<bool, MigrateError> {
    let ask = "SELECT to_regclass('hub.migration') IS NOT NULL, to_regclass('hub.function') IS NOT NULL";
    let found = client.query_one(ask, &[]).await?;
    match (found.try_get(0)?, found.try_get(1)?) {
        (true, false) => Err(MigrateError::Earlier),
        (has_hub, _) => Ok(has_hub),
    }
}

/// Whether a kind's table is there and captured. Takes no lock.
async fn is_kind_current(client: &Driven, kind: &Scope) -> Result<bool, MigrateError> {
    if !missing(client, kind.name, kind.migrations).await?.is_empty() {
        return Ok(false);
    }
    let Some(table) = kind.table else { return Ok(true) };
    let faults = client.query("SELECT FROM hub.capture_faults($1, $2)", &[&kind.name, &table]).await?;
    Ok(faults.is_empty())
}

async fn apply_kind(client: &Driven, kind: &Scope) -> Result<usize, MigrateError> {
    let missing = missing(client, kind.name, kind.migrations).await?;
    for migration in &missing {
        note(client, kind.name, migration).await?;
    }
    if let Some(table) = kind.table {
        let watched = client.execute("SELECT hub.watch($1, $2::text::regclass)", &[&kind.name, &table]).await;
        watched.map_err(|source| MigrateError::Watch { table, source })?;
    }
    Ok(missing.len())
}

/// What is done in one transaction.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// The hub's own schema.
    Hub,
    /// A kind's tables, and their capture.
    Kind(&'a Scope),
}

impl Step<'_> {
    /// What it may find locked.
    fn what(self) -> &'static str {
        match self {
            Self::Hub => "schema hub",
            Self::Kind(kind) => kind.table.unwrap_or(kind.name),
        }
    }

    /// All of it, or nothing.
    async fn run(self, client: &Driven) -> Result<usize, MigrateError> {
        let first = format!(
            "SET LOCAL lock_timeout = {}; SELECT pg_advisory_xact_lock({})",
            LOCK_TIMEOUT.as_millis(),
            HubLock::Migration
        );
        within(client, &first, async || match self {
            Self::Hub => schema::apply(client).await,
            Self::Kind(kind) => apply_kind(client, kind).await,
        })
        .await
    }
}

/// Again and again, until the locks that a step needs are to be had.
async fn patiently(client: &Driven, step: Step<'_>) -> Result<usize, MigrateError> {
    let what = step.what();
    let [mut pause, longest] = PAUSES;
    let tries = async {
        loop {
            match step.run(client).await {
                Err(error) if error.is_lock() => tracing::info!(what, "waits for a lock"),
                done => return done,
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    };
    timeout(STEP_LIMIT, tries).await.unwrap_or(Err(MigrateError::Locked { what }))
}

/// Whether a table that is there before its kind's first migration is what that would make: the same columns,
/// at least.
async fn check_fit(client: &Driven, kind: &Scope, has_hub: bool) -> Result<(), MigrateError> {
    let (Some(table), Some(first)) = (kind.table, kind.migrations.first()) else { return Ok(()) };
    let is_there: bool =
        client.query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&table]).await?.try_get(0)?;
    if !is_there
        || has_hub && missing(client, kind.name, kind.migrations).await?.len() < kind.migrations.len()
    {
        return Ok(());
    }
    // What the migration would make is made, beside it, and taken back.
    let beside = |text: &str| text.replace("public.", "pg_temp.");
    client.batch_execute("SAVEPOINT before").await?;
    for migration in kind.migrations {
        client.batch_execute(&beside(migration.sql)).await.map_err(|source| MigrateError::Statement {
            scope: kind.name,
            version: first.version,
            name: migration.name,
            source,
        })?;
    }
    let rows = client.query(DIFFERENCES, &[&table, &beside(table)]).await?;
    client.batch_execute("ROLLBACK TO before").await?;
    match rows.first().map(|row| row.try_get(0)).transpose()? {
        Some(difference) => Err(MigrateError::Misfit { table, kind: kind.name, difference }),
        None => Ok(()),
    }
}

/// What keeps table $1 from serving as table $2 would.
const DIFFERENCES: &str = "
    WITH given AS (SELECT $1::text::regclass AS oid), wanted AS (SELECT $2::text::regclass AS oid),
      have AS (SELECT a.* FROM pg_attribute a, given WHERE a.attrelid = given.oid AND a.attnum > 0
        AND NOT a.attisdropped),
      want AS (SELECT a.* FROM pg_attribute a, wanted WHERE a.attrelid = wanted.oid AND a.attnum > 0
        AND NOT a.attisdropped)
    SELECT format('it is no table') FROM given JOIN pg_class c USING (oid) WHERE c.relkind NOT IN ('r', 'p')
    UNION ALL
    SELECT format('it is not permanent') FROM given JOIN pg_class c USING (oid) WHERE c.relpersistence <> 'p'
    UNION ALL
    SELECT format('column %I %s is missing', w.attname, format_type(w.atttypid, w.atttypmod))
    FROM want w WHERE NOT EXISTS (SELECT FROM have h WHERE h.attname = w.attname)
    UNION ALL
    SELECT format('column %I is %s, and not %s', w.attname, format_type(h.atttypid, h.atttypmod),
      format_type(w.atttypid, w.atttypmod))
    FROM want w JOIN have h USING (attname) WHERE h.atttypid <> w.atttypid
    UNION ALL
    SELECT format('column %I allows NULL', w.attname) FROM want w JOIN have h USING (attname)
    WHERE w.attnotnull AND NOT h.attnotnull
    UNION ALL
    SELECT format('column %I has no default', w.attname) FROM want w JOIN have h USING (attname)
    WHERE w.atthasdef AND NOT h.atthasdef
    UNION ALL
    SELECT format('column %I may be neither NULL nor left out', h.attname) FROM have h LEFT JOIN want w
    USING (attname)
    WHERE w.attnum IS NULL AND h.attnotnull AND NOT h.atthasdef AND h.attidentity = ''
    UNION ALL
    SELECT format('its primary key is %s, and not %s', coalesce(h.key, 'missing'), w.key)
    FROM (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) AS key FROM wanted JOIN pg_index i
      ON i.indrelid = wanted.oid
            CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) JOIN want a
            ON a.attnum = k.attnum WHERE i.indisprimary) w,
         (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) AS key FROM given JOIN pg_index i
           ON i.indrelid = given.oid
            CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) JOIN have a
            ON a.attnum = k.attnum WHERE i.indisprimary) h
    WHERE h.key IS DISTINCT FROM w.key
    LIMIT 1";
