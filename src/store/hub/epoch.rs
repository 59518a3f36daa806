//! Whether the numbers of a database mean what they meant, and what to do when they may not.

use super::{HubConnection, LogPosition, PATIENCE, SealError, answered, answered_with};
use crate::{
    model::Epoch,
    store::{
        Target,
        lock::HubLock,
        transaction::{Begin, Isolation},
    },
};
use std::time::Duration;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

impl HubConnection {
    /// Whether the numbers of this database mean what they meant, as far as that can be seen from inside.
    pub async fn check_history(&self) -> Result<(), SealError> {
        let rows = answered(self.client.query_typed("SELECT hub.history_fault(true)", &[])).await?;
        match rows.first().map(|row| row.try_get::<_, Option<String>>(0)).transpose()?.flatten() {
            Some(fault) => Err(SealError::History(fault)),
            None => Ok(()),
        }
    }

    /// Whether the event at a position is still the one that was read there. Of what is compacted only the
    /// number can be asked for.
    pub async fn remembers(&self, position: &LogPosition) -> Result<bool, SealError> {
        let (Some(seq), Some(captured_at)) = (position.seq, position.captured_at) else {
            return Ok(position.revision <= self.bounds().await?.1);
        };
        let sql = "SELECT EXISTS (SELECT FROM (SELECT xid FROM hub.log WHERE revision >= $1
                     ORDER BY revision LIMIT 1) l
                                  JOIN hub.change c ON c.xid = l.xid AND c.seq = $2 AND c.captured_at = $3)
                     OR EXISTS (SELECT FROM hub.retention WHERE compacted >= $1)";
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&position.revision.to_sql(), Type::INT8),
            (&seq, Type::INT8),
            (&captured_at, Type::TIMESTAMPTZ),
        ];
        let rows = answered(self.client.query_typed(sql, &parameters)).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }

    /// Whether the present epoch was begun because of what became of this one.
    pub async fn has_replaced(&self, epoch: &Epoch) -> Result<bool, SealError> {
        let sql = "SELECT EXISTS (SELECT FROM hub.incarnation WHERE $1 = ANY (replaces))";
        let rows = answered(self.client.query_typed(sql, &[(&epoch.as_str(), Type::TEXT)])).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
    }
}

/// Why a new epoch may have to be begun.
#[derive(Debug, Clone, Copy)]
pub enum Doubt<'a> {
    /// The database itself says that it is not the one that it was.
    Found,
    /// The database does not know what was published in this epoch.
    Forgotten(&'a Epoch),
    /// The operator says so.
    Told,
}

/// Begins a new epoch if the history needs one and no other hub has begun it. The locks are taken before the
/// transaction, so that its snapshot sees every seal, and finds no row that retention has deleted since; by a
/// transaction of another session, because a pooler may stand in between.
pub async fn begin_epoch(target: &Target, doubt: Doubt<'_>) -> Result<(), SealError> {
    let (force, served) = match doubt {
        Doubt::Found => (false, None),
        Doubt::Forgotten(served) => (true, Some(served.as_str())),
        Doubt::Told => (true, None),
    };
    let (lock, session) = answered_with(async {
        let (lock, session) = (target.open().await?, target.open().await?);
        // A hub that freezes with the lock must not keep the others from sealing for ever. Who waits for it
        // leaves before its client gives up.
        let locks =
            [HubLock::Seal, HubLock::Compaction].map(|lock| format!("SELECT pg_advisory_xact_lock({lock})"));
        let lock = Begin::new("epoch_locks", Isolation::ReadCommitted)
            .limit("idle_in_transaction_session_timeout", PATIENCE)
            .limit("lock_timeout", PATIENCE / 3)
            .then(&locks.join("; "))
            .on(lock)
            .await?;
        // Sooner than the locks, so that a frozen hub never commits without them.
        let session = Begin::new("begin_epoch", Isolation::RepeatableRead)
            .limit("idle_in_transaction_session_timeout", PATIENCE / 2)
            .limit("statement_timeout", Duration::ZERO)
            .on(session)
            .await?;
        // What nobody waits for any more is to end. Some platforms cannot tell, and refuse it. It takes no
        // snapshot. The savepoint is released, or what follows would be written by a subtransaction, and the
        // epoch goes by the transaction that wrote it.
        let check = "SAVEPOINT before; SET LOCAL client_connection_check_interval = '1s'; RELEASE before";
        if session.batch_execute(check).await.is_err() {
            session.batch_execute("ROLLBACK TO before; RELEASE before").await?;
        }
        Ok((lock, session))
    })
    .await?;
    // It deletes the history, and that takes its time.
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&force, Type::BOOL), (&served, Type::TEXT)];
    tokio::select! {
        biased;
        error = stay_awake(&lock) => return Err(error),
        begun = session.query_typed("SELECT hub.begin_epoch($1, $2)", &parameters) => begun?,
    };
    answered_with(async {
        // The locks are still there.
        lock.batch_execute("").await?;
        session.commit().await?;
        lock.commit().await
    })
    .await
}

/// Keeps the server from taking this hub for frozen. Ends only with an error.
async fn stay_awake(lock: &Client) -> SealError {
    let mut interval = tokio::time::interval(PATIENCE / 4);
    loop {
        interval.tick().await;
        if let Err(error) = answered(lock.batch_execute("")).await {
            return error;
        }
    }
}
