//! Controllers' positions, and the transactions in which a position moves together with its effects.

use super::{
    DatabaseError, Driven, LogPosition, Store, Target,
    transaction::{Begin, Isolation, Transaction},
    values::{Raw, readable},
};
use crate::{
    error::Error,
    model::{AttributedChange, ChangeType, Epoch, Gap, GapCause, Revision},
};
use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

/// A hub that is silent for this long within a turn is frozen or gone: the server ends its session, which
/// rolls back the turn and frees it for another hub.
const SILENCE: Duration = Duration::from_secs(1);
/// No statement of a turn may take longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the database knows of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The number of the turn that comes next.
    pub turn: i64,
    /// Where it stands.
    pub position: LogPosition,
    /// The epoch that the position belongs to; empty: it never ran.
    pub epoch: String,
    /// The epoch of the database.
    pub current: Epoch,
    /// The oldest revision that can be read from.
    pub oldest: Revision,
    /// The newest sealed revision.
    pub head: Revision,
    /// Whether it has dead letters, which may hold back later changes.
    pub letters: bool,
    /// Whether one of them is due.
    pub due: bool,
}

impl Standing {
    /// What keeps it from reading on.
    pub fn gap(&self) -> Option<Gap> {
        let after = self.position.revision;
        let cause = match () {
            () if self.epoch.is_empty() => GapCause::New,
            () if self.epoch != self.current.as_str() || after > self.head => GapCause::Epoch,
            () if after < self.oldest => GapCause::Compacted,
            () => return None,
        };
        let resume = after.max(self.oldest).min(self.head);
        Some(Gap { cause, after, resume, epoch: self.current.clone() })
    }

    /// Whether there are changes after the position.
    pub fn is_behind(&self) -> bool {
        self.position.revision < self.head
    }

    /// Whether there is anything to do.
    pub fn has_work(&self) -> bool {
        self.due || self.is_behind() || self.gap().is_some()
    }
}

/// A controller as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerStatus {
    /// Its name.
    pub name: String,
    /// Everything up to here has had its effect, or is a dead letter.
    pub position: Revision,
    /// Events, of all kinds, between the position and the newest sealed revision.
    pub lag: u64,
    /// Events that could not be handled, and those that wait behind them.
    pub dead_letters: u64,
    /// Which hub took the last turn; `None`: none did yet.
    pub holder: Option<String>,
    /// When that was.
    pub moved_at: SystemTime,
}

impl Store {
    /// The position of a controller; a new controller gets a row.
    pub async fn standing(&self, name: &str) -> Result<Standing, Error> {
        // Subselects, not a join: the planner may take four tables of one row each for a billion rows, and
        // compile the query.
        let sql = "SELECT c.turn, c.epoch, c.revision, c.seq, (SELECT epoch FROM hub.incarnation),
                   (SELECT compacted FROM hub.retention),
                     (SELECT revision FROM hub.head),
                     EXISTS (SELECT FROM hub.dead_letter d WHERE d.controller = c.name),
                     EXISTS (SELECT FROM hub.dead_letter d WHERE d.controller = c.name
                       AND d.due_at <= clock_timestamp())
                   FROM hub.controller c WHERE c.name = $1";
        loop {
            let rows = self.run("standing", sql, &[&name]).await?;
            if let Some(row) = rows.first() {
                return standing(row)?.ok_or(Error::Unavailable {
                    why: "the database has no history yet",
                    retry_after: Duration::from_secs(1),
                });
            }
            let enter = "INSERT INTO hub.controller (name) VALUES ($1) ON CONFLICT DO NOTHING";
            self.run("enter_controller", enter, &[&name]).await?;
        }
    }

    /// All controllers that ever ran on this database, by name.
    pub async fn controllers(&self) -> Result<Vec<ControllerStatus>, Error> {
        let sql = "SELECT c.name, c.revision,
                   coalesce(greatest((SELECT revision FROM hub.head) - c.revision, 0), 0), c.holder,
                   c.moved_at,
                     (SELECT count(*) FROM hub.dead_letter d WHERE d.controller = c.name)
                   FROM hub.controller c ORDER BY c.name";
        let rows = self.run("controllers", sql, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(ControllerStatus {
                    name: row.try_get(0)?,
                    position: Revision::from_sql(row.try_get(1)?),
                    lag: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0),
                    holder: row.try_get(3)?,
                    moved_at: row.try_get(4)?,
                    dead_letters: u64::try_from(row.try_get::<_, i64>(5)?).unwrap_or(0),
                })
            })
            .collect()
    }
}

/// `None`: a new epoch is being begun, or must be.
fn standing(row: &Row) -> Result<Option<Standing>, DatabaseError> {
    let (epoch, head): (Option<&str>, Option<i64>) = (row.try_get(4)?, row.try_get(6)?);
    let (Some(current), Some(head)) = (epoch, head) else { return Ok(None) };
    let revision = Revision::from_sql(row.try_get(2)?);
    let position = LogPosition { revision, seq: row.try_get(3)?, captured_at: None };
    Ok(Some(Standing {
        turn: row.try_get(0)?,
        epoch: row.try_get(1)?,
        position,
        current: Epoch::new(current),
        oldest: Revision::from_sql(row.try_get(5)?),
        head: Revision::from_sql(head),
        letters: row.try_get(7)?,
        due: row.try_get(8)?,
    }))
}

/// From the columns kind, resource_id, type, after, before, captured_at, actor, origin, trace, of which the
/// first is at `first`.
pub(super) fn change(
    row: &Row,
    first: usize,
    epoch: Epoch,
    revision: Revision,
) -> Result<AttributedChange, Error> {
    let number: i16 = row.try_get(first + 2)?;
    let change = match number {
        4 => Some(ChangeType::Snapshot),
        number => ChangeType::from_number(number.into()),
    };
    Ok(AttributedChange {
        epoch,
        revision,
        kind: row.try_get(first)?,
        resource_id: row.try_get::<_, Raw<'_>>(first + 1)?.legible().into_owned(),
        change: change.ok_or_else(|| Error::Internal(anyhow::anyhow!("a change of type {number}")))?,
        after: readable(row, first + 3)?.map(str::to_owned),
        before: readable(row, first + 4)?.map(str::to_owned),
        captured_at: row.try_get(first + 5)?,
        actor: row.try_get(first + 6)?,
        origin: row.try_get(first + 7)?,
        trace: row.try_get(first + 8)?,
    })
}

/// A session in which controllers take their turns.
pub struct ControllerConnection(Driven);

impl ControllerConnection {
    /// Connects.
    pub async fn open(target: &Target) -> Result<Self, DatabaseError> {
        Ok(Self(target.open().await?))
    }

    /// Takes a turn of a controller, if no other hub has taken it or holds it. The row's lock is the lease:
    /// it ends with the session. The turn's number is the fence: a hub that was frozen and wakes finds
    /// another number.
    pub async fn take_turn(&self, name: &str, turn: i64) -> Result<Option<Turn<'_>>, DatabaseError> {
        // Position and effects are in one transaction: a crash that loses it loses both, and the turn is
        // repeated. So the commit need not wait for the disk. Statements here return few bytes: a frozen hub
        // shows as idle, not as a slow reader.
        let transaction = Begin::new("turn", Isolation::ReadCommitted)
            .limit("idle_in_transaction_session_timeout", SILENCE)
            .limit("statement_timeout", STATEMENT_TIMEOUT)
            .set("synchronous_commit", "off")
            .on(&*self.0)
            .await?;
        let claim = "SELECT set_config('hub.origin', 'controller/' || name, true) FROM hub.controller
                     WHERE name = $1 AND turn = $2
                     FOR UPDATE SKIP LOCKED";
        let claimed = transaction.query_typed(claim, &[(&name, Type::TEXT), (&turn, Type::INT8)]).await?;
        if claimed.is_empty() {
            transaction.roll_back().await?;
            return Ok(None);
        }
        Ok(Some(Turn { transaction, name: name.to_owned() }))
    }

    /// Shows the server that this hub is alive while a controller works on something else. Ends only with an
    /// error.
    pub async fn stay_awake(&self) -> DatabaseError {
        let mut interval = tokio::time::interval(SILENCE / 4);
        loop {
            interval.tick().await;
            if let Err(error) = self.0.batch_execute("").await {
                return error.into();
            }
        }
    }
}

/// A controller's turn: a transaction that holds its row. Dropping its connection rolls back what is not
/// committed.
pub struct Turn<'a> {
    transaction: Transaction<&'a Client>,
    name: String,
}

/// Parameters with their types, so that nothing needs to be prepared.
pub type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

impl Turn<'_> {
    /// Runs a statement in the transaction of the turn: its effect is committed together with the position,
    /// once. Returns its rows.
    pub async fn query(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, DatabaseError> {
        Ok(self.transaction.query_typed(sql, parameters).await?)
    }

    /// What follows can be rolled back separately.
    pub async fn savepoint(&self) -> Result<(), DatabaseError> {
        Ok(self.transaction.batch_execute("SAVEPOINT attempt").await?)
    }

    /// Keeps what followed the savepoint, after checking the constraints that are deferred to the commit.
    /// They are deferred again for what comes next.
    pub async fn release(&self) -> Result<(), DatabaseError> {
        let check = "SAVEPOINT checked; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO SAVEPOINT checked";
        Ok(self.transaction.batch_execute(&format!("{check}; RELEASE SAVEPOINT attempt")).await?)
    }

    /// Rolls back what followed the savepoint, and releases it.
    pub async fn undo(&self) -> Result<(), DatabaseError> {
        Ok(self.transaction.batch_execute("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt").await?)
    }

    /// Moves the position and commits.
    pub async fn commit_at(
        self,
        position: LogPosition,
        epoch: &Epoch,
        holder: &str,
    ) -> Result<(), DatabaseError> {
        let sql = "UPDATE hub.controller SET revision = $2, seq = $3, epoch = $4, turn = turn + 1,
                   moved_at = clock_timestamp(),
                     holder = coalesce(host(inet_client_addr()) || ' ', '') || $5 WHERE name = $1";
        let revision = position.revision.to_sql();
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&self.name, Type::TEXT),
            (&revision, Type::INT8),
            (&position.seq, Type::INT8),
            (&epoch.as_str(), Type::TEXT),
            (&holder, Type::TEXT),
        ];
        self.query(sql, &parameters).await?;
        self.transaction.commit().await
    }

    /// Commits, with the position where it is.
    pub async fn commit(self, holder: &str) -> Result<(), DatabaseError> {
        let sql = "UPDATE hub.controller SET turn = turn + 1, moved_at = clock_timestamp(),
                     holder = coalesce(host(inet_client_addr()) || ' ', '') || $2 WHERE name = $1";
        self.query(sql, &[(&self.name, Type::TEXT), (&holder, Type::TEXT)]).await?;
        self.transaction.commit().await
    }

    /// Gives the turn back.
    pub async fn give_up(self) -> Result<(), DatabaseError> {
        self.transaction.roll_back().await
    }

    /// The name of the controller.
    pub fn controller(&self) -> &str {
        &self.name
    }

    pub(super) fn client(&self) -> &Client {
        &self.transaction
    }

    /// Those resources of these changes that have dead letters.
    pub async fn held_up(
        &self,
        changes: &[AttributedChange],
    ) -> Result<HashSet<(String, String)>, DatabaseError> {
        let kinds: Vec<_> = changes.iter().map(|change| change.kind.as_str()).collect();
        let ids: Vec<_> = changes.iter().map(|change| change.resource_id.as_str()).collect();
        let sql = "SELECT DISTINCT d.kind, d.resource_id FROM unnest($2, $3) u(kind, resource_id)
                   JOIN hub.dead_letter d ON d.controller = $1 AND d.kind = u.kind
                   AND d.resource_id = u.resource_id";
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.name, Type::TEXT), (&kinds, Type::TEXT_ARRAY), (&ids, Type::TEXT_ARRAY)];
        let rows = self.query(sql, &parameters).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// Changes as columns, for statements that take them from `unnest`.
pub(super) struct Unnested<'a> {
    revisions: Vec<i64>,
    epochs: Vec<&'a str>,
    kinds: Vec<&'a str>,
    ids: Vec<&'a str>,
    types: Vec<i16>,
    after: Vec<Option<&'a str>>,
    before: Vec<Option<&'a str>>,
    captured_at: Vec<Option<SystemTime>>,
    actors: Vec<Option<&'a str>>,
    origins: Vec<Option<&'a str>>,
    traces: Vec<Option<&'a str>>,
}

impl<'a> Unnested<'a> {
    pub(super) fn new(changes: impl Iterator<Item = &'a AttributedChange> + Clone) -> Self {
        Self {
            revisions: changes.clone().map(|change| change.revision.to_sql()).collect(),
            epochs: changes.clone().map(|change| change.epoch.as_str()).collect(),
            kinds: changes.clone().map(|change| change.kind.as_str()).collect(),
            ids: changes.clone().map(|change| change.resource_id.as_str()).collect(),
            types: changes.clone().map(|change| change.change as i16).collect(),
            after: changes.clone().map(|change| change.after.as_deref()).collect(),
            before: changes.clone().map(|change| change.before.as_deref()).collect(),
            captured_at: changes.clone().map(|change| change.captured_at).collect(),
            actors: changes.clone().map(|change| change.actor.as_deref()).collect(),
            origins: changes.clone().map(|change| change.origin.as_deref()).collect(),
            traces: changes.map(|change| change.trace.as_deref()).collect(),
        }
    }

    /// In the order of [`Unnested::ROWS`].
    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![
            (&self.revisions, Type::INT8_ARRAY),
            (&self.epochs, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.ids, Type::TEXT_ARRAY),
            (&self.types, Type::INT2_ARRAY),
            (&self.after, Type::TEXT_ARRAY),
            (&self.before, Type::TEXT_ARRAY),
            (&self.captured_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.actors, Type::TEXT_ARRAY),
            (&self.origins, Type::TEXT_ARRAY),
            (&self.traces, Type::TEXT_ARRAY),
        ]
    }

    /// The columns to insert into.
    pub(super) const COLUMNS: &'static str =
        "revision, epoch, kind, resource_id, type, after, before, captured_at, actor, origin, trace";
    /// What goes into them.
    pub(super) const VALUES: &'static str = "u.revision, u.epoch, u.kind, u.resource_id, u.type, \
        u.after::json, u.before::json, u.captured_at, u.actor, u.origin, u.trace";
    /// Where it comes from: the first eleven parameters.
    pub(super) const ROWS: &'static str =
        "unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) WITH ORDINALITY
        u(revision, epoch, kind, resource_id, type, after, before, captured_at, actor, origin, trace, place)";
}
