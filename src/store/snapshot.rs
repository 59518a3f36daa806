//! A table exactly as it was at one revision.

use super::{
    PageBound, SealError, Target,
    connection::Driven,
    lock::HubLock,
    transaction::{Begin, Isolation, Transaction},
    values::{Raw, readable},
};
use crate::model::{Epoch, Revision};
use futures_util::{Stream, TryStreamExt};
use std::{borrow::Cow, time::Duration};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

const NO_PARAMETERS: [(&(dyn ToSql + Sync), Type); 0] = [];
/// Neither the table's lock nor the seal's is waited for long: the server would go on waiting for a caller
/// that has given up.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever seals holds the lock for milliseconds; a hub that freezes with it must not keep the others from
/// sealing.
const SEALER_IDLE_TIMEOUT: Duration = Duration::from_millis(500);
/// As the capture writes rows and keys; see `hub.capture_settings`.
pub(super) const FORMATS: [(&str, &str); 8] = [
    ("search_path", "pg_catalog, pg_temp"),
    ("timezone", "'UTC'"),
    ("datestyle", "'ISO, YMD'"),
    ("intervalstyle", "iso_8601"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "'C'"),
    ("quote_all_identifiers", "off"),
];

/// A reader of a table as it was at a revision. While it lives, the server keeps what it may still read: so
/// read it at the hub's pace and never at a client's.
pub struct TableSnapshot {
    session: Transaction<Driven>,
    /// The revision, and the history that it belongs to.
    pub revision: Revision,
    /// The history.
    pub epoch: Epoch,
}

/// A row of the table.
pub struct SnapshotRow(Row);

impl SnapshotRow {
    /// The key, as text.
    pub fn resource_id(&self) -> Result<Cow<'_, str>, SealError> {
        Ok(self.0.try_get::<_, Raw<'_>>(0)?.legible())
    }

    /// The row, as a JSON object; `None`: it cannot be read as UTF-8.
    pub fn json(&self) -> Result<Option<&str>, SealError> {
        Ok(readable(&self.0, 1)?)
    }
}

impl TableSnapshot {
    /// Fixes a revision and opens the table of a kind at it; `limit` bounds how long it may be read.
    ///
    /// One session locks the table; another takes the seal lock; the first takes a snapshot; the other seals
    /// up to that very snapshot. So what the first sees is the state at the sealed revision, however busy the
    /// writers are. The table's lock comes before the snapshot, or a TRUNCATE could come between them and be
    /// half visible; and before the seal lock, which waits for no writer. Everything is in transactions,
    /// because there may be a pooler.
    pub async fn open(target: &Target, kind: &str, limit: Duration) -> Result<Self, SealError> {
        loop {
            let (sealer, session) = (target.open().await?, target.open().await?);
            let (table, _) = described(&session, kind).await?;
            let begin = Begin::new("snapshot", Isolation::Snapshot)
                .limit("lock_timeout", LOCK_TIMEOUT)
                .limit("statement_timeout", limit)
                .limit("idle_in_transaction_session_timeout", limit);
            let begin = FORMATS.iter().fold(begin, |begin, (setting, value)| begin.set(setting, value));
            let locked = begin.then(&format!("LOCK TABLE {table} IN ACCESS SHARE MODE")).on(session).await;
            let session = match locked {
                Ok(session) => session,
                Err(error) if described(&sealer, kind).await?.0 == table => return Err(error.into()),
                // It was renamed since it was looked up.
                Err(_) => continue,
            };
            let sealer = Begin::new("seal_up_to_a_snapshot", Isolation::ReadCommitted)
                .limit("lock_timeout", LOCK_TIMEOUT)
                .limit("idle_in_transaction_session_timeout", SEALER_IDLE_TIMEOUT)
                .then(&format!("SELECT pg_advisory_xact_lock({})", HubLock::Seal))
                .on(sealer)
                .await?;
            let snapshot: String =
                one(&session, "SELECT pg_current_snapshot()::text", &[]).await?.try_get(0)?;
            let seal = "SELECT revision, epoch FROM hub.seal($1::text::pg_snapshot)";
            let sealed = one(&sealer, seal, &[(&snapshot, Type::TEXT)]).await?;
            sealer.commit().await?;
            // Its columns may have changed before it was locked, and its name may be another table's by now.
            let (locked, query) = described(&session, kind).await?;
            if locked == table && Self::is_whole(&session, kind).await? {
                session.batch_execute(&format!("DECLARE rows NO SCROLL CURSOR FOR {query}")).await?;
                let revision = Revision::from_sql(sealed.try_get("revision")?);
                return Ok(Self { session, revision, epoch: Epoch::new(sealed.try_get("epoch")?) });
            }
        }
    }

    /// `false`: some of the table was rewritten after the snapshot, and the snapshot would find it empty.
    /// That can be a partition that was attached after the table was locked, and then truncated.
    async fn is_whole(session: &Client, kind: &str) -> Result<bool, SealError> {
        let sql = "SELECT bool_and(c.relfilenode = coalesce(pg_relation_filenode(c.oid), 0))
                   FROM hub.watched w CROSS JOIN hub.parts(w.relation) p JOIN pg_class c ON c.oid = p.part
                   WHERE w.kind = $1 AND c.relkind = 'r'";
        Ok(one(session, sql, &[(&kind, Type::TEXT)]).await?.try_get::<_, Option<bool>>(0)?.unwrap_or(true))
    }

    /// The next rows, each as it arrives: the server sends no faster than they are taken. None: that was all.
    pub async fn fetch(&self) -> Result<impl Stream<Item = Result<SnapshotRow, SealError>>, SealError> {
        let rows = self
            .session
            .query_typed_raw(&format!("FETCH {} FROM rows", PageBound::HUB.events), NO_PARAMETERS)
            .await?;
        Ok(rows.map_ok(SnapshotRow).err_into())
    }
}

/// The table of a kind, and the query for its rows.
async fn described(session: &Client, kind: &str) -> Result<(String, String), SealError> {
    let sql = "SELECT relation, query FROM hub.state_query($1)";
    let described = one(session, sql, &[(&kind, Type::TEXT)]).await?;
    Ok((described.try_get(0)?, described.try_get(1)?))
}

async fn one(
    session: &Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Row, SealError> {
    let rows = session.query_typed(sql, parameters).await?;
    rows.into_iter().next().ok_or_else(|| SealError::Corrupt(format!("no row for {sql}")))
}
