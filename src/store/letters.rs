//! Dead letters: changes that a controller could not handle, and those that wait behind them.

use super::{
    DatabaseError, Driven, Store, Target,
    controller::{Turn, Unnested, change},
    transaction::{Begin, Isolation},
};
use crate::{
    error::Error,
    model::{AttributedChange, Epoch, Revision},
};
use std::time::{Duration, SystemTime};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

/// How much of an error's text is kept, in characters.
const ERROR_LENGTH: usize = 2000;
/// How long to wait for a controller's turn: longer than a turn may take.
const LOCK_TIMEOUT: Duration = Duration::from_secs(40);

/// A dead letter that is to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLetter {
    /// Names it.
    pub id: i64,
    /// How many times it failed.
    pub attempts: u32,
    /// What happened.
    pub change: AttributedChange,
}

/// A dead letter as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Names it.
    pub id: i64,
    /// Whose it is.
    pub controller: String,
    /// The kind of the resource.
    pub kind: String,
    /// The resource.
    pub resource_id: String,
    /// The change.
    pub revision: Revision,
    /// How many times it failed; 0: it waits behind another of its resource.
    pub attempts: u32,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// When that was.
    pub failed_at: Option<SystemTime>,
    /// When it is tried next; `None`: only on request.
    pub due_at: Option<SystemTime>,
}

impl Store {
    /// How many dead letters a controller has.
    pub async fn count_letters(&self, controller: &str) -> Result<u64, Error> {
        let sql = "SELECT count(*) FROM hub.dead_letter WHERE controller = $1";
        let rows = self.run("count_letters", sql, &[&controller]).await?;
        let letters: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(u64::try_from(letters).unwrap_or(0))
    }

    /// The dead letter of a controller that has been due for longest.
    pub async fn due_letter(&self, controller: &str) -> Result<Option<DueLetter>, Error> {
        let sql = "SELECT id, attempts, epoch, revision, kind, resource_id, type, after::text,
                   before::text, captured_at, actor, origin, trace
                   FROM hub.dead_letter WHERE controller = $1 AND due_at <= clock_timestamp()
                   ORDER BY due_at LIMIT 1";
        let rows = self.run("due_letter", sql, &[&controller]).await?;
        rows.first().map(due).transpose()
    }
}

fn due(row: &Row) -> Result<DueLetter, Error> {
    let (epoch, revision) = (Epoch::new(row.try_get(2)?), Revision::from_sql(row.try_get(3)?));
    Ok(DueLetter { id: row.try_get(0)?, attempts: count(row, 1)?, change: change(row, 4, epoch, revision)? })
}

fn count(row: &Row, column: usize) -> Result<u32, DatabaseError> {
    Ok(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or(0))
}

impl Turn<'_> {
    /// Puts changes behind the dead letters of their resources.
    pub async fn park<'a>(
        &self,
        changes: impl Iterator<Item = &'a AttributedChange> + Clone,
    ) -> Result<(), DatabaseError> {
        let columns = Unnested::new(changes);
        let sql = format!(
            "INSERT INTO hub.dead_letter (controller, {}) SELECT $12, {} FROM {} ORDER BY u.place",
            Unnested::COLUMNS,
            Unnested::VALUES,
            Unnested::ROWS
        );
        let (mut parameters, name) = (columns.parameters(), self.controller());
        parameters.push((&name, Type::TEXT));
        self.query(&sql, &parameters).await.map(drop)
    }

    /// Makes a dead letter of a change that failed for the first time, to be retried after this time.
    pub async fn bury(
        &self,
        failed: &AttributedChange,
        error: &str,
        after: Duration,
    ) -> Result<(), DatabaseError> {
        let columns = Unnested::new(std::iter::once(failed));
        let sql = format!(
            "INSERT INTO hub.dead_letter (controller, attempts, error, failed_at, due_at, {})
             SELECT $12, 1, $13, clock_timestamp(), clock_timestamp() + make_interval(secs => $14), {}
             FROM {}",
            Unnested::COLUMNS,
            Unnested::VALUES,
            Unnested::ROWS
        );
        let (name, error, after) = (self.controller(), shortened(error), after.as_secs_f64());
        let mut parameters = columns.parameters();
        let more: [(&(dyn ToSql + Sync), Type); 3] =
            [(&name, Type::TEXT), (&error, Type::TEXT), (&after, Type::FLOAT8)];
        parameters.extend(more);
        self.query(&sql, &parameters).await.map(drop)
    }

    /// Holds a dead letter. `false`: it is gone, or not due any more.
    pub async fn hold(&self, letter: i64) -> Result<bool, DatabaseError> {
        let sql = "SELECT FROM hub.dead_letter WHERE id = $1 AND due_at <= clock_timestamp() FOR UPDATE";
        Ok(!self.query(sql, &[(&letter, Type::INT8)]).await?.is_empty())
    }

    /// Deletes a letter that has been handled; the next of its resource becomes due.
    pub async fn settle(&self, letter: i64) -> Result<(), DatabaseError> {
        remove(self.client(), letter).await.map(drop)
    }

    /// Notes that a letter failed again, to be retried after this time; `None`: only on request.
    pub async fn postpone(
        &self,
        letter: i64,
        error: &str,
        after: Option<Duration>,
    ) -> Result<(), DatabaseError> {
        let sql =
            "UPDATE hub.dead_letter SET attempts = attempts + 1, error = $2, failed_at = clock_timestamp(),
                     due_at = clock_timestamp() + make_interval(secs => $3) WHERE id = $1";
        let (error, after) = (shortened(error), after.map(|after| after.as_secs_f64()));
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&letter, Type::INT8), (&error, Type::TEXT), (&after, Type::FLOAT8)];
        self.query(sql, &parameters).await.map(drop)
    }
}

/// Postgres has no NUL in its text.
fn shortened(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(ERROR_LENGTH).collect()
}

/// Deletes a letter. If it was the first of its resource, the next one becomes due.
async fn remove(client: &Client, letter: i64) -> Result<bool, DatabaseError> {
    let sql = "WITH gone AS (DELETE FROM hub.dead_letter WHERE id = $1 
                 RETURNING id, controller, kind, resource_id),
               next AS (
                 UPDATE hub.dead_letter d SET due_at = clock_timestamp() FROM gone g
                 WHERE d.id = (SELECT n.id FROM hub.dead_letter n
                               WHERE n.controller = g.controller AND n.kind = g.kind
                               AND n.resource_id = g.resource_id AND n.id <> g.id
                               ORDER BY n.id LIMIT 1)
                   AND d.attempts = 0)
               SELECT FROM gone";
    Ok(!client.query_typed(sql, &[(&letter, Type::INT8)]).await?.is_empty())
}

/// The dead letters of a database, for an operator.
pub struct DeadLetters(Driven);

/// Which dead letters to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(i64),
    /// All of a controller, by name.
    Of(String),
    /// All.
    All,
}

impl DeadLetters {
    /// Of this database.
    pub async fn open(target: &Target) -> Result<Self, DatabaseError> {
        Ok(Self(target.open().await?))
    }

    /// At most `most` of them, resource by resource, in the order in which they are tried.
    pub async fn list(&self, controller: Option<&str>, most: u32) -> Result<Vec<Letter>, DatabaseError> {
        let sql = "SELECT id, controller, kind, resource_id, revision, attempts, error, failed_at, due_at
                   FROM hub.dead_letter
                   WHERE $1::text IS NULL OR controller = $1 ORDER BY controller, kind, resource_id, id
                   LIMIT $2";
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&controller, Type::TEXT), (&i64::from(most), Type::INT8)];
        let rows = self.0.query_typed(sql, &parameters).await?;
        rows.iter()
            .map(|row| {
                Ok(Letter {
                    id: row.try_get(0)?,
                    controller: row.try_get(1)?,
                    kind: row.try_get(2)?,
                    resource_id: row.try_get(3)?,
                    revision: Revision::from_sql(row.try_get(4)?),
                    attempts: count(row, 5)?,
                    error: row.try_get(6)?,
                    failed_at: row.try_get(7)?,
                    due_at: row.try_get(8)?,
                })
            })
            .collect()
    }

    /// Makes the first letter of each resource of these due now, with as many attempts as a new one; those
    /// behind follow in order. Returns how many resources are concerned.
    pub async fn retry(&self, which: &Which) -> Result<u64, DatabaseError> {
        self.change(
            "UPDATE hub.dead_letter d SET attempts = 0, due_at = clock_timestamp()
                     WHERE d.id IN (SELECT min(f.id) FROM hub.dead_letter f
                                    JOIN (SELECT DISTINCT controller, kind, resource_id
                                      FROM hub.dead_letter WHERE {which}) w
                                      USING (controller, kind, resource_id)
                                    GROUP BY f.controller, f.kind, f.resource_id)
                     RETURNING id",
            which,
        )
        .await
    }

    /// Deletes these without an effect. Letters that waited behind them become due. Returns how many were
    /// deleted.
    pub async fn discard(&self, which: &Which) -> Result<u64, DatabaseError> {
        match which {
            Which::One(letter) => {
                self.alone(which, async |client| Ok(remove(client, *letter).await?.into())).await
            }
            _ => self.change("DELETE FROM hub.dead_letter WHERE {which} RETURNING id", which).await,
        }
    }

    async fn change(&self, sql: &str, which: &Which) -> Result<u64, DatabaseError> {
        let (condition, parameters) = which.condition(["id = $1", "controller = $1"]);
        let sql = sql.replace("{which}", condition);
        self.alone(which, async |client| Ok(client.query_typed(&sql, &parameters).await?.len() as u64)).await
    }

    /// Does something while no controller is within a turn, which might park a change behind a letter that is
    /// being deleted.
    async fn alone(
        &self,
        which: &Which,
        work: impl AsyncFn(&Client) -> Result<u64, DatabaseError>,
    ) -> Result<u64, DatabaseError> {
        let (condition, parameters) = which.condition([
            "name = (SELECT controller FROM hub.dead_letter WHERE id = $1::bigint)",
            "name = $1::text",
        ]);
        let sql = format!("SELECT FROM hub.controller WHERE {condition} ORDER BY name FOR UPDATE");
        Begin::new("dead_letters", Isolation::ReadCommitted)
            .limit("lock_timeout", LOCK_TIMEOUT)
            .run(&self.0, async |client| {
                client.query_typed(&sql, &parameters).await?;
                work(client).await
            })
            .await
    }
}

impl Which {
    /// The condition that selects these rows, with its values.
    fn condition(&self, [one, of]: [&'static str; 2]) -> (&'static str, Vec<(&(dyn ToSql + Sync), Type)>) {
        match self {
            Self::One(letter) => (one, vec![(letter, Type::INT8)]),
            Self::Of(name) => (of, vec![(name, Type::TEXT)]),
            Self::All => ("true", vec![]),
        }
    }
}
