//! Attaching and detaching tables, and the descriptions of attached ones.

use super::{DatabaseError, Fault, Store, fault::is_about_encoding};
use crate::{
    backoff::Backoff,
    error::Error,
    model::{AttachedTable, KindName, Revision, Table, TableColumn, TableName},
};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

/// The SQLSTATE by which the hub's functions say that a table cannot be attached.
const CANNOT_ATTACH: &str = "TX002";
/// How long to wait for a locked table.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two tries, which lets the writers pass that queued behind the first.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));

/// Which columns of a table may be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachChoice {
    /// Only these; empty: all.
    pub columns: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Not these, which are not captured either.
    pub never_store: Vec<String>,
}

/// A table or view that may be attached.
#[derive(Debug)]
pub struct Candidate {
    /// Its name.
    pub name: TableName,
    /// Whether it is attached.
    pub is_attached: bool,
    /// Whether it was detached.
    pub was_detached: bool,
    /// Why it cannot be.
    pub fault: Option<String>,
}

impl Store {
    /// Mends the capture of the watched tables where something has become of them, and says so in the log.
    /// `compiled`: the tables that are compiled in, by kind and name.
    ///
    /// # Errors
    ///
    /// The database is not to be had.
    pub async fn look_after_tables(&self, compiled: &[Table]) -> Result<(), Error> {
        let kinds: Vec<_> = compiled.iter().map(|table| table.kind.as_str()).collect();
        let tables: Vec<_> = compiled.iter().map(|table| &*table.name).collect();
        let mut behind = Some(0_i32);
        // Each step is a transaction of its own, and lets go of its locks.
        while let Some(id) = behind {
            let sql = "SELECT hub.look_after_tables($1, $2, $3)";
            let rows = self.run("look_after_tables", sql, &[&kinds, &tables, &id]).await?;
            behind = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
        }
        Ok(())
    }

    /// The attached tables, as they were at the last look.
    pub async fn attached_tables(&self) -> Result<Vec<AttachedTable>, Error> {
        // Transactions that wrote to a table before its capture began have finished, without a number: no
        // history goes back before this seal.
        let floor = "UPDATE hub.attached a SET attached_revision = s.revision FROM hub.seal() s
                     WHERE a.attached_revision IS NULL AND a.relation IS NOT NULL";
        if !self
            .run(
                "unsettled",
                "SELECT FROM hub.attached a JOIN hub.watched w ON w.id = a.id
                                   WHERE a.attached_revision IS NULL",
                &[],
            )
            .await?
            .is_empty()
        {
            self.run("settle", floor, &[]).await?;
        }
        let sql = "SELECT w.id, w.kind, n.nspname, c.relname, a.schema_version, a.attached_revision,
                   hub.attached_columns(w.id)::text,
                     hub.column_names(w.relation, w.key), obj_description(c.oid, 'pg_class')
                   FROM hub.attached a JOIN hub.watched w ON w.id = a.id JOIN pg_class c ON c.oid = w.relation
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE a.attached_revision IS NOT NULL AND a.schema_version > 0 ORDER BY n.nspname,
                   c.relname";
        let rows = self.run("attached_tables", sql, &[]).await?;
        let table = |row: &tokio_postgres::Row| {
            let columns: Vec<TableColumn> =
                serde_json::from_str(row.try_get(6)?).map_err(anyhow::Error::from)?;
            Ok::<_, anyhow::Error>(AttachedTable {
                id: u32::try_from(row.try_get::<_, i32>(0)?)?,
                kind: KindName::new(row.try_get(1)?),
                name: TableName::new(row.try_get(2)?, row.try_get(3)?),
                schema_version: u64::try_from(row.try_get::<_, i64>(4)?)?,
                attached_revision: Revision::from_sql(row.try_get(5)?),
                columns,
                key: row.try_get(7)?,
                comment: row.try_get(8)?,
            })
        };
        rows.iter().map(table).collect::<Result<_, _>>().map_err(Error::Internal)
    }

    /// Whether a table that is not attached any more was detached; else it was dropped.
    pub async fn was_detached(&self, id: u32) -> Result<bool, Error> {
        let sql = "SELECT detached_at IS NOT NULL FROM hub.attached WHERE id = $1";
        let rows = self.run("was_detached", sql, &[&i32::try_from(id).unwrap_or_default()]).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }

    /// Numbers what is committed now, and returns the newest number.
    pub async fn seal_now(&self) -> Result<Revision, Error> {
        let rows = self.run("seal_now", "SELECT revision FROM hub.seal()", &[]).await?;
        Ok(Revision::from_sql(rows.first().map_or(Ok(0), |row| row.try_get(0))?))
    }

    /// Attaches a table, or changes which of its columns may be seen.
    pub async fn attach(&self, table: &TableName, choice: &AttachChoice) -> Result<(), Error> {
        let AttachChoice { columns, exclude, never_store } = choice;
        let sql = "SELECT hub.attach($1, $2, $3, $4, $5)";
        self.alter("attach", sql, &[&table.schema, &table.name, columns, exclude, never_store]).await
    }

    /// Ends the capture of a table, and perhaps blanks what was captured of it.
    pub async fn detach(&self, table: &TableName, purge: bool) -> Result<(), Error> {
        let find = "SELECT w.id FROM hub.attached a JOIN hub.watched w ON w.id = a.id JOIN pg_class c
                    ON c.oid = w.relation
                    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
        let rows = match self.run("find_attached", find, &[&table.schema, &table.name]).await {
            Err(error) if is_about_encoding(&error) => Vec::new(),
            found => found?,
        };
        let Some(row) = rows.first() else { return Err(Error::NotAttached { table: table.to_string() }) };
        let id: i32 = row.try_get(0)?;
        self.alter("detach", "SELECT hub.detach($1, $2)", &[&id, &purge]).await
    }

    /// What may be attached: tables and views that are not the system's.
    pub async fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let sql = "SELECT n.nspname, c.relname, w.id IS NOT NULL,
                     EXISTS (SELECT FROM hub.attached a WHERE a.relation = c.oid
                       AND a.detached_at IS NOT NULL), hub.attach_fault(c.oid)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   LEFT JOIN hub.watched w ON w.relation = c.oid AND left(w.kind, 1) = '#'
                   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
                   AND c.relpersistence <> 't'
                     AND n.nspname NOT IN ('hub', 'pg_catalog', 'information_schema', 'pg_toast')
                   ORDER BY n.nspname, c.relname";
        let rows = self.run("candidates", sql, &[]).await?;
        let candidate = |row: &tokio_postgres::Row| {
            Ok(Candidate {
                name: TableName::new(row.try_get(0)?, row.try_get(1)?),
                is_attached: row.try_get(2)?,
                was_detached: row.try_get(3)?,
                fault: row.try_get(4)?,
            })
        };
        rows.iter().map(candidate).collect()
    }

    /// Runs a function that locks a table, again while another session has the lock.
    async fn alter(
        &self,
        name: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        let (deadline, mut pauses) = (Instant::now() + PATIENCE, PAUSES);
        loop {
            let lease = self.lease().await?;
            let Err(error) = lease.query(sql, parameters).await.map_err(DatabaseError::from) else {
                return Ok(());
            };
            let is_locked = matches!(error.fault(), Fault::Locked | Fault::Serialization);
            if is_locked && Instant::now() < deadline {
                tracing::debug!(name, %error, "again");
                tokio::time::sleep(pauses.next_pause()).await;
                continue;
            }
            return Err(refusal(error));
        }
    }
}

fn refusal(error: DatabaseError) -> Error {
    let why = match error.answer() {
        Some(answer) if answer.code().code() == CANNOT_ATTACH => answer.message().to_owned(),
        Some(answer) if answer.code().code() == "42501" => {
            format!(
                "{}: the hub's role must own the table, or have TRIGGER and SELECT on it",
                answer.message()
            )
        }
        // An event trigger of somebody else.
        Some(answer) if error.fault() == Fault::Row => answer.message().to_owned(),
        Some(_) if error.fault() == Fault::Encoding => {
            "there is no such table: the database's encoding cannot say its name".to_owned()
        }
        _ if error.fault() == Fault::Locked => {
            "the table is locked by a transaction that does not end; try again when it has".to_owned()
        }
        _ => return error.into(),
    };
    Error::CannotAttach { why }
}
