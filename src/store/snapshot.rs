//! A table exactly as it was at one revision.

use super::{SealError, Target, connection::Driven};
use crate::model::{Epoch, Revision};
use std::time::Duration;
use tokio_postgres::Row;

/// Rows per fetch.
const FETCH: u32 = 500;
/// The lock that is wanted first is held for milliseconds by each who seals.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A reader of a table as it was at a revision. While it lives, the server keeps what it may yet read: it is to be read at the hub's pace
/// and never at a client's.
pub struct TableSnapshot {
    session: Driven,
    /// The revision, and the history that it belongs to.
    pub revision: Revision,
    /// The history.
    pub epoch: Epoch,
}

/// A row of the table.
pub struct SnapshotRow(Row);

impl SnapshotRow {
    /// The key, as text.
    pub fn resource_id(&self) -> Result<&str, SealError> {
        Ok(self.0.try_get(0)?)
    }

    /// The row, as a JSON object.
    pub fn json(&self) -> Result<&str, SealError> {
        Ok(self.0.try_get(1)?)
    }
}

impl TableSnapshot {
    /// Fixes a revision and opens the table of a kind at it; `limit` bounds how long it may be read.
    ///
    /// One session locks the table; another takes the seal lock; the first takes a snapshot; the other seals up to that very snapshot.
    /// So what the first sees is the state at the sealed revision, however busy the writers are. The table's lock comes before the
    /// snapshot, or a TRUNCATE could come between them and be half seen; and before the seal lock, which waits for no writer.
    pub async fn open(target: &Target, kind: &str, limit: Duration) -> Result<Self, SealError> {
        loop {
            let (sealer, session) = (target.open().await?, target.open().await?);
            let (table, key) = Self::describe(&session, kind).await?;
            session
                .batch_execute(&format!(
                    "SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
                     LOCK TABLE {table} IN ACCESS SHARE MODE",
                    limit.as_millis()
                ))
                .await?;
            sealer
                .batch_execute(&format!(
                    "SET lock_timeout = {}; SELECT pg_advisory_lock(1953654136, 1)",
                    LOCK_TIMEOUT.as_millis()
                ))
                .await?;
            let snapshot: String =
                session.query_one("SELECT pg_current_snapshot()::text", &[]).await?.try_get(0)?;
            let sealed = sealer
                .query_one("SELECT revision, epoch FROM hub.seal($1::text::pg_snapshot)", &[&snapshot])
                .await?;
            sealer.batch_execute("SELECT pg_advisory_unlock(1953654136, 1)").await?;
            let (revision, epoch) =
                (Revision::from_sql(sealed.try_get("revision")?), Epoch::new(sealed.try_get("epoch")?));
            if Self::open_cursor(&session, kind, &table, &key).await? {
                return Ok(Self { session, revision, epoch });
            }
        }
    }

    /// The table of a kind and the expression of its key.
    async fn describe(session: &Driven, kind: &str) -> Result<(String, String), SealError> {
        let described = session
            .query_one(
                "SELECT relation::text, hub.key_expression(hub.key_columns(relation), 't') FROM hub.watched WHERE kind = $1",
                &[&kind],
            )
            .await?;
        Ok((described.try_get(0)?, described.try_get(1)?))
    }

    /// `false`: some of the table was rewritten after the snapshot, and the snapshot would find it empty. That can be a partition that was
    /// attached after the table was locked, and then truncated.
    async fn open_cursor(session: &Driven, kind: &str, table: &str, key: &str) -> Result<bool, SealError> {
        let same = session
            .query_one(
                "SELECT bool_and(c.relfilenode = coalesce(pg_relation_filenode(c.oid), 0))
                 FROM hub.watched w CROSS JOIN hub.parts(w.relation) p JOIN pg_class c ON c.oid = p.part
                 WHERE w.kind = $1 AND c.relkind = 'r'",
                &[&kind],
            )
            .await?
            .try_get::<_, Option<bool>>(0)?
            .unwrap_or(true);
        if same {
            session
                .batch_execute(&format!(
                    "DECLARE rows NO SCROLL CURSOR FOR SELECT {key}, to_json(t)::text FROM {table} t"
                ))
                .await?;
        }
        Ok(same)
    }

    /// The next rows; none: that was all.
    pub async fn fetch(&self) -> Result<Vec<SnapshotRow>, SealError> {
        let rows = self.session.query_typed(&format!("FETCH {FETCH} FROM rows"), &[]).await?;
        Ok(rows.into_iter().map(SnapshotRow).collect())
    }
}
