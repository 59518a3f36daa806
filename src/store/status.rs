//! What the database knows of its hubs, its writers and its log.

use super::{Store, lock::HubLock};
use crate::{error::Error, model::Revision};
use std::time::Duration;

/// What the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// The newest revision that any hub has sealed.
    pub sealed: Revision,
    /// Everything up to here may be gone.
    pub compacted: Revision,
    /// Hubs that listen for bells. Polling ones do not announce themselves.
    pub listening_hubs: u32,
    /// Transactions that have captured changes and have not ended.
    pub open_writers: u32,
    /// The oldest of them.
    pub oldest_writer: Option<OpenTransaction>,
}

/// A transaction that has captured changes and has not ended. `None`: the role of the hub may not see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its session; `None`: it is prepared, and has none.
    pub pid: Option<i32>,
    /// Since when it has been open, or prepared.
    pub age: Option<Duration>,
    /// The state of its session, or `prepared`.
    pub state: Option<String>,
    /// The application name of its session, or the name that it was prepared under.
    pub application_name: Option<String>,
    /// Its role.
    pub user: Option<String>,
}

impl Store {
    /// What the database knows, at one moment.
    pub async fn status(&self) -> Result<DatabaseStatus, Error> {
        let (class, compaction, present) =
            (HubLock::CLASS, HubLock::Compaction as i32, HubLock::Present as i32);
        let sql = format!(
            "WITH here AS (SELECT * FROM pg_locks
               WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())),
             flags AS (SELECT pid, objid FROM here WHERE locktype = 'advisory' AND classid = {class}
               AND objsubid = 2 AND granted),
             -- A transaction id is held by its own lock, which every role may see: so the oldest is known
             -- even if nothing else is visible.
             writers AS (
               SELECT l.pid, l.virtualtransaction, (SELECT x.transactionid FROM pg_locks x
                 WHERE x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock' AND x.granted
                 AND x.virtualtransaction = l.virtualtransaction
                 ORDER BY age(x.transactionid) DESC LIMIT 1) AS xid
               FROM here l
               WHERE l.locktype = 'relation' AND l.relation = 'hub.change'::regclass
               AND l.mode = 'RowExclusiveLock' AND l.granted
                 AND NOT EXISTS (SELECT FROM flags f WHERE f.objid = {compaction} AND f.pid = l.pid)),
             oldest AS (SELECT * FROM writers WHERE xid IS NOT NULL ORDER BY age(xid) DESC LIMIT 1)
             SELECT log.revision, log.compacted,
             (SELECT count(DISTINCT pid) FROM flags WHERE objid = {present}),
               (SELECT count(*) FROM writers WHERE xid IS NOT NULL), o.xid IS NOT NULL, o.pid,
               extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8,
               coalesce(a.state, CASE WHEN p.gid IS NOT NULL THEN 'prepared' END),
               coalesce(a.application_name, p.gid),
               coalesce(a.usename, p.owner)::text
             -- Not a join of the two: the planner may take tables of one row for thousands of rows, and
             -- compile the query.
             FROM (SELECT (SELECT revision FROM hub.head) AS revision,
               (SELECT compacted FROM hub.retention) AS compacted) log
             LEFT JOIN oldest o ON true
             LEFT JOIN pg_stat_activity a ON a.pid = o.pid LEFT JOIN pg_prepared_xacts p ON o.pid IS NULL
             AND p.transaction = o.xid"
        );
        let rows = self.run("status", &sql, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::Internal(anyhow::anyhow!("hub.head is empty")))?;
        let count =
            |column| Ok::<_, Error>(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(u32::MAX));
        let oldest_writer = if row.try_get(4)? {
            let seconds: Option<f64> = row.try_get(6)?;
            Some(OpenTransaction {
                pid: row.try_get(5)?,
                age: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                state: row.try_get(7)?,
                application_name: row.try_get(8)?,
                user: row.try_get(9)?,
            })
        } else {
            None
        };
        Ok(DatabaseStatus {
            sealed: Revision::from_sql(row.try_get(0)?),
            compacted: Revision::from_sql(row.try_get(1)?),
            listening_hubs: count(2)?,
            open_writers: count(3)?,
            oldest_writer,
        })
    }

    /// For each revision, how long ago the event after it was sealed; `None`: there is none.
    pub async fn waiting_since(&self, revisions: &[Revision]) -> Result<Vec<Option<Duration>>, Error> {
        let revisions: Vec<i64> = revisions.iter().map(|revision| revision.to_sql()).collect();
        let sql = "SELECT extract(epoch FROM clock_timestamp() - (SELECT l.sealed_at FROM hub.log l
                     WHERE l.revision > r.at
                     ORDER BY l.revision LIMIT 1))::float8
                   FROM unnest($1::bigint[]) WITH ORDINALITY r(at, n) ORDER BY r.n";
        let rows = self.run("waiting_since", sql, &[&revisions]).await?;
        let seconds = rows.iter().map(|row| Ok(row.try_get::<_, Option<f64>>(0)?));
        seconds
            .map(|seconds: Result<_, Error>| Ok(seconds?.and_then(|s| Duration::try_from_secs_f64(s).ok())))
            .collect()
    }
}
