//! Rows by the batch. A batch is one statement in its own transaction, and one round trip: it is committed as
//! a whole or not at all, and an abandoned connection never returns to the pool within a transaction. Where
//! the batch belongs to an import, the same statement moves its position.

use super::{DatabaseError, Fault, Store};
use crate::{
    call::Call,
    error::Error,
    model::{KindName, Table},
};
use std::{borrow::Cow, time::Duration};
use tokio_postgres::{
    error::{DbError, SqlState},
    types::ToSql,
};

/// A setting that does not exist: asking for it makes a statement fail, for which SQL has no other means.
const OPEN_FATE: &str = "hub.the_fate_of_a_row_is_open";
/// In `pg_trigger.tgtype`: of a row, before, and of an INSERT.
const BEFORE_INSERT_OF_A_ROW: i16 = 1 | 2 | 4;

/// What a bulk call writes: a table, and the columns besides its key, each with the type that its text is
/// cast to.
#[derive(Debug, Clone)]
pub struct BulkTable {
    /// The table.
    pub table: Table,
    /// Names and types, quoted where they need it.
    pub columns: &'static [(&'static str, &'static str)],
    /// Whether `ON CONFLICT` can use the key, until proven otherwise: rows whose keys exist are then skipped
    /// and listed in [`Written::taken`]. Else they are refused like any other.
    pub arbiter: bool,
}

/// A row to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// Its key; `None`: made by the database.
    pub key: Option<String>,
    /// In the order of [`BulkTable::columns`], as text; `None` is NULL.
    pub values: Vec<Option<String>>,
}

impl NewRow {
    /// Its size in memory, about.
    pub fn bytes(&self) -> usize {
        let values = self.values.iter().chain([&self.key]).flatten();
        values.map(String::len).sum::<usize>() + size_of::<Self>()
    }
}

/// An item that is not created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its index.
    pub index: u64,
    /// Number of a gRPC code.
    pub code: i32,
    /// For programs.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
}

/// Consecutive items, decided by one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// The index of the first.
    pub start: u64,
    /// The index after the last.
    pub end: u64,
    /// Those to be created, by index, each with it.
    pub rows: Vec<(u64, NewRow)>,
    /// Those that have failed already, by index.
    pub failures: Vec<Failure>,
}

/// An import that this stream may go on with, until another does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import {
    number: i64,
    generation: i64,
    /// Every item below is decided.
    pub next_index: u64,
    /// How many of them were created.
    pub created: u64,
    /// How many of them failed.
    pub failed: u64,
}

impl Import {
    /// Whether another stream began it.
    pub fn is_resumed(&self) -> bool {
        self.generation > 1
    }
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// Rows that were created.
    pub created: u64,
    /// Indices of the rows whose keys exist already.
    pub taken: Vec<u64>,
}

/// Why a batch was not written.
#[derive(Debug)]
pub enum NotWritten {
    /// The database refuses a row of it; nothing was written.
    Refused(Error),
    /// It lost to another transaction; nothing was written: try again.
    Conflict,
    /// It takes longer than a statement may; nothing was written.
    TooSlow,
    /// The table's key is deferrable, or not unique, so `ON CONFLICT` cannot use it; nothing was written.
    NoArbiter,
    /// Another stream goes on with this import, or it has expired.
    TakenOver,
    /// The database fails.
    Failed {
        /// Why.
        error: Error,
        /// Whether the batch may have been committed nevertheless.
        uncertain: bool,
    },
}

impl Store {
    /// Begins an import, or takes one over from its earlier stream. `acknowledged`: its client knows that
    /// everything below is decided, so an import that has not come as far is another one, and is left alone.
    pub async fn open_import(&self, kind: &str, id: &str, acknowledged: u64) -> Result<Import, Error> {
        let asked = sql_index(acknowledged);
        let rows = if acknowledged == 0 {
            let sql = "INSERT INTO hub.import AS i (kind, id) VALUES ($1, $2)
                       ON CONFLICT (kind, id) DO UPDATE SET generation = i.generation + 1,
                       updated_at = clock_timestamp()
                       RETURNING number, generation, next_index, created, failed";
            self.run("begin_import", sql, &[&kind, &id]).await?
        } else {
            let sql = "UPDATE hub.import SET generation = generation + 1, updated_at = clock_timestamp()
                       WHERE kind = $1 AND id = $2 AND next_index >= $3
                       RETURNING number, generation, next_index, created, failed";
            self.run("resume_import", sql, &[&kind, &id, &asked]).await?
        };
        let Some(row) = rows.first() else {
            let sql = "SELECT next_index FROM hub.import WHERE kind = $1 AND id = $2";
            let rows = self.run("import_position", sql, &[&kind, &id]).await?;
            let known = rows.first().map(|row| row.try_get(0)).transpose()?.map_or(0, index);
            return Err(Error::ImportUnknown { acknowledged, known });
        };
        Ok(Import {
            number: row.try_get(0)?,
            generation: row.try_get(1)?,
            next_index: index(row.try_get(2)?),
            created: index(row.try_get(3)?),
            failed: index(row.try_get(4)?),
        })
    }

    /// The first failures of an import from an index on, and how many there are.
    pub async fn import_failures(
        &self,
        import: &Import,
        from: u64,
        most: usize,
    ) -> Result<(Vec<Failure>, u64), Error> {
        let (from, most) = (sql_index(from), i64::try_from(most).unwrap_or(i64::MAX));
        let sql = "SELECT index, code, reason, message, count(*) OVER () FROM hub.import_failure
                   WHERE import = $1 AND index >= $2 ORDER BY index LIMIT $3";
        let rows = self.run("import_failures", sql, &[&import.number, &from, &most]).await?;
        let total = rows.first().map(|row| row.try_get(4)).transpose()?.map_or(0, index);
        let failure = |row: &tokio_postgres::Row| {
            Ok(Failure {
                index: index(row.try_get(0)?),
                code: row.try_get(1)?,
                reason: Cow::Owned(row.try_get(2)?),
                message: row.try_get(3)?,
            })
        };
        Ok((rows.iter().map(failure).collect::<Result<_, tokio_postgres::Error>>()?, total))
    }

    /// Writes a batch, recorded under the caller's name. `taken`: the failure of a row whose key exists,
    /// without its index.
    pub async fn write_batch(
        &self,
        call: &Call,
        table: &BulkTable,
        import: Option<&Import>,
        batch: &Batch,
        taken: &Failure,
    ) -> Result<Written, NotWritten> {
        let mut parameters = Parameters(Vec::with_capacity(16));
        let sql = match import {
            None => table.insert(batch, "", &mut parameters) + " SELECT created, taken FROM counted",
            Some(import) => import_statement(table, batch, import, taken, &mut parameters),
        };
        let parameters = parameters.0.iter().map(|value| &**value as _).collect::<Vec<_>>();
        let lease = self.lease().await.map_err(|error| NotWritten::Failed { error, uncertain: false })?;
        let rows = if call.is_attributed() {
            lease.query_for(call, &sql, &parameters).await
        } else {
            lease.query(&sql, &parameters).await
        };
        let rows = rows.map_err(|error| not_written(&table.table.kind, error))?;
        let Some(row) = rows.first() else { return Err(NotWritten::TakenOver) };
        let read = || -> Result<Written, tokio_postgres::Error> {
            let taken: Vec<i64> = row.try_get(1)?;
            Ok(Written { created: index(row.try_get(0)?), taken: taken.into_iter().map(index).collect() })
        };
        read().map_err(|error| NotWritten::Failed { error: error.into(), uncertain: true })
    }

    /// Deletes imports that have rested for longer than `age`, at most about `step` rows. Returns how many
    /// rows.
    pub async fn expire_imports(&self, age: Duration, step: i32) -> Result<i64, Error> {
        let sql = "SELECT hub.expire_imports(make_interval(secs => $1), $2)";
        let rows = self.run("expire_imports", sql, &[&age.as_secs_f64(), &step]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
    }
}

/// Values for `$1`, `$2`, …
struct Parameters<'a>(Vec<Box<dyn ToSql + Sync + Send + 'a>>);

impl<'a> Parameters<'a> {
    /// Adds one, and returns its name in a statement.
    fn add(&mut self, value: impl ToSql + Sync + Send + 'a) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }

    /// Adds an array.
    fn array(&mut self, values: impl Iterator<Item: ToSql + Sync + Send + 'a>) -> String {
        self.add(values.collect::<Vec<_>>())
    }
}

impl BulkTable {
    /// `WITH …`: `bare` creates the rows without a key, `keyed` those with one that is free, and `taken` has
    /// the indices of those whose keys are proven to exist. `counted` has how many were created, and which
    /// were taken; if that leaves a row's fate open, because a trigger swallowed rows or gave them other
    /// keys, it fails the statement. The only open fate of a single row is to be left out. `fence` is empty,
    /// or a query that has one row if the batch may be written, with a comma.
    fn insert<'a>(&self, batch: &'a Batch, fence: &str, parameters: &mut Parameters<'a>) -> String {
        let Table { name, key, .. } = &self.table;
        let rows = &batch.rows;
        if rows.is_empty() {
            // Else the triggers of a statement without rows could refuse items that have already failed.
            return format!(
                "WITH {fence} counted AS (SELECT 0::bigint AS created, '{{}}'::bigint[] AS taken)"
            );
        }
        let from = if fence.is_empty() { "" } else { "fence, " };
        let columns = self.columns.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ");
        let numbered = self.columns.iter().enumerate();
        let values = numbered
            .clone()
            .map(|(n, (_, of_type))| format!("c{n}::{of_type}"))
            .collect::<Vec<_>>()
            .join(", ");
        let names = numbered.map(|(n, _)| format!("c{n}")).collect::<Vec<_>>().join(", ");
        let places = (0..self.columns.len()).map(|n| {
            let column = rows.iter().map(|(_, row)| row.values.get(n).and_then(Option::as_deref));
            parameters.array(column) + "::text[]"
        });
        let places = places.collect::<Vec<_>>().join(", ");
        let open = format!("current_setting('{OPEN_FATE}')::bigint");
        // If no row brings its key, the statement is simpler.
        if rows.iter().all(|(_, row)| row.key.is_none()) {
            let rows = parameters.add(i64::try_from(rows.len()).unwrap_or(i64::MAX)) + "::bigint";
            // Nothing is expected if the fence has no row.
            let asked = if fence.is_empty() { rows } else { format!("(SELECT {rows} FROM fence)") };
            return format!(
                "WITH {fence}
                 bare AS (INSERT INTO {name} ({columns}) SELECT {values}
                   FROM {from}unnest({places}) u ({names}) RETURNING 1),
                 counted AS (SELECT CASE WHEN n <> {asked} THEN {open} ELSE n END AS created,
                   '{{}}'::bigint[] AS taken
                             FROM (SELECT count(*) AS n FROM bare) b)"
            );
        }
        let at = parameters.array(rows.iter().map(|(index, _)| sql_index(*index)));
        let keys = parameters.array(rows.iter().map(|(_, row)| row.key.as_deref()));
        let literal = format!("'{}'", name.replace('\'', "''"));
        let on_conflict =
            if self.arbiter { format!("ON CONFLICT ({key}) DO NOTHING") } else { String::new() };
        // Of equal keys the first is created. NOT IN instead of a join: it is hashed, whatever size the
        // planner assumes for an array. Only a trigger can leave out a row whose key is free: without one no
        // key is looked for in the table; with one, rows that others have just committed, which the statement
        // does not see, are found when the row is alone.
        format!(
            "WITH {fence}
             given AS MATERIALIZED (SELECT u.*
               FROM {from}unnest({at}::bigint[], {keys}::text[], {places}) u (at, key, {names})),
             bare AS (INSERT INTO {name} ({columns}) SELECT {values} FROM given WHERE key IS NULL
               RETURNING 1),
             keyed AS (INSERT INTO {name} ({key}, {columns}) SELECT key, {values} FROM given
               WHERE key IS NOT NULL ORDER BY at
                       {on_conflict} RETURNING {key}::text AS key),
             missing AS MATERIALIZED (
               SELECT at, key, nth
               FROM (SELECT at, key, row_number() OVER (PARTITION BY key ORDER BY at) AS nth FROM given
                 WHERE key IS NOT NULL) k
               WHERE (SELECT count(*) FROM keyed) < (SELECT count(key) FROM given)
               AND (nth > 1 OR key NOT IN (SELECT key FROM keyed))),
             taken AS (
               SELECT at FROM missing m WHERE nth > 1
               OR NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid IN (SELECT part FROM hub.parts({literal}))
                              AND tgtype & {BEFORE_INSERT_OF_A_ROW} = {BEFORE_INSERT_OF_A_ROW}
                              AND tgenabled <> 'D')
               OR EXISTS (SELECT FROM {name} t WHERE t.{key} = m.key)),
             counted AS (
               SELECT CASE WHEN bare.n = asked.bare AND keyed.n + missing.n = asked.keyed
               AND taken.n = missing.n
                           THEN bare.n + keyed.n ELSE {open} END AS created, taken.indices AS taken
               FROM (SELECT count(*) AS n FROM bare) bare, (SELECT count(*) AS n FROM keyed) keyed,
                    (SELECT count(*) AS n FROM missing) missing,
                    (SELECT count(*) AS n, coalesce(array_agg(at ORDER BY at), '{{}}') AS indices
                      FROM taken) taken,
                    (SELECT count(*) - count(key) AS bare, count(key) AS keyed FROM given) asked)"
        )
    }
}

/// Writes the batch, its failures and the new position, if the import is where the batch begins and still
/// belongs to this stream; else returns no row.
fn import_statement<'a>(
    table: &BulkTable,
    batch: &'a Batch,
    import: &Import,
    taken: &'a Failure,
    parameters: &mut Parameters<'a>,
) -> String {
    let [number, generation, start, end] =
        [import.number, import.generation, sql_index(batch.start), sql_index(batch.end)]
            .map(|value| parameters.add(value));
    // Locks the position: a stream that takes over now waits for this batch, and one that took over before
    // has changed the generation.
    let fence = format!(
        "fence AS MATERIALIZED (SELECT FROM hub.import WHERE number = {number}
           AND generation = {generation} AND next_index = {start} FOR UPDATE),"
    );
    let insert = table.insert(batch, &fence, parameters);
    let failures = &batch.failures;
    let indices = parameters.array(failures.iter().map(|failure| sql_index(failure.index)));
    let codes = parameters.array(failures.iter().map(|failure| failure.code));
    let reasons = parameters.array(failures.iter().map(|failure| &*failure.reason));
    let messages = parameters.array(failures.iter().map(|failure| &*failure.message));
    let [code, reason, message] =
        [parameters.add(taken.code), parameters.add(&*taken.reason), parameters.add(&*taken.message)];
    format!(
        "{insert},
         failures AS (INSERT INTO hub.import_failure (import, index, code, reason, message)
           SELECT {number}::bigint, f.* FROM fence,
           unnest({indices}::bigint[], {codes}::int[], {reasons}::text[], {messages}::text[]) f
           UNION ALL SELECT {number}::bigint, at, {code}::int, {reason}::text, {message}::text
           FROM counted c, unnest(c.taken) at)
         UPDATE hub.import i SET next_index = {end}, created = i.created + c.created,
           failed = i.failed + cardinality({indices}::bigint[]) + cardinality(c.taken),
           updated_at = clock_timestamp()
         FROM counted c WHERE i.number = {number} AND EXISTS (SELECT FROM fence)
         RETURNING c.created, c.taken"
    )
}

/// Whether the items are at fault, a conflict, or the database.
fn not_written(kind: &KindName, error: tokio_postgres::Error) -> NotWritten {
    let error = DatabaseError::from(error);
    match (error.fault(), error.answer()) {
        (Fault::Serialization, _) => NotWritten::Conflict,
        (Fault::Timeout, Some(_)) => NotWritten::TooSlow,
        (_, Some(answer)) if is_about_the_arbiter(answer) => NotWritten::NoArbiter,
        (_, Some(answer)) if answer.message().contains(OPEN_FATE) => NotWritten::Refused(Error::LeftOut),
        (fault, answer) => match error.refusal(kind) {
            Some(refused) => NotWritten::Refused(refused),
            // Without an answer nothing is known; a session that is ended while it waits for a standby has
            // committed.
            None => NotWritten::Failed {
                uncertain: answer.is_none() || fault == Fault::Unavailable,
                error: error.into(),
            },
        },
    }
}

/// Whether `ON CONFLICT` cannot use the key. The same SQLSTATEs are used for other things.
fn is_about_the_arbiter(answer: &DbError) -> bool {
    let routine = answer.routine().unwrap_or_default();
    match *answer.code() {
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => routine == "ExecCheckIndexConstraints",
        SqlState::INVALID_COLUMN_REFERENCE => routine == "infer_arbiter_indexes",
        _ => false,
    }
}

/// Indices fit: an import has at most `i32::MAX` items.
fn sql_index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn index(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
