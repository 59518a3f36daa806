//! The connections of the capture: one that seals and reads, one that hears bells.

mod epoch;
mod log_reader;
mod touched;

pub use epoch::{Doubt, begin_epoch};
pub use log_reader::{LogState, Writer};
pub use touched::Touched;

use super::{
    DatabaseError, Fault,
    connection::{Driven, Target},
};
use crate::model::{Change, ChangeType, Epoch, Revision};
use futures_util::{StreamExt, TryStreamExt, future};
use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;
use tokio_postgres::{
    AsyncMessage, Row, Statement,
    types::{ToSql, Type},
};

/// Advisory locks of this class are the hub's flags; see `hub.lock_class`.
pub(super) const LOCKS: i32 = 1_953_654_136;
pub(super) const SEAL_LOCK: i32 = 1;
const COMPACT_LOCK: i32 = 5;
const BUSY: i32 = 2;
pub(super) const PRESENT: i32 = 3;

/// A busy hub seals every few milliseconds. One that holds `busy` and is silent for so long is frozen: the server ends its session,
/// and writers ring again.
const BUSY_IDLE_TIMEOUT: Duration = Duration::from_millis(500);

/// No answer for so long: the connection is given up. Also the server's own limit on a statement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rows of a page have so many bytes together, and the last of them may have any number.
const PAGE_BYTES: usize = 8 << 20;

const SEAL: &str = "SELECT revision, events, transactions, epoch FROM hub.seal(NULL)";
const READ: &str = include_str!("read.sql");

/// What a seal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The newest revision.
    pub revision: Revision,
    /// How many events were numbered.
    pub events: u64,
    /// In how many transactions.
    pub transactions: u64,
    /// The history that the revisions belong to.
    pub epoch: Epoch,
}

/// Why there is no seal.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database is not the one that it was: its numbers may mean something else.
    #[error("the history of this database changed: {0}")]
    History(String),
    /// What was to be read is no longer retained.
    #[error("everything up to revision {oldest} is compacted")]
    Compacted {
        /// The oldest revision that a reader can stand at.
        oldest: Revision,
    },
    /// The log holds something that this program cannot read.
    #[error("hub.log and hub.change do not agree: {0}")]
    Corrupt(String),
    /// The server does not answer.
    #[error("the database does not answer")]
    Silent,
    /// The connection or the statement failed.
    #[error(transparent)]
    Database(DatabaseError),
}

impl From<tokio_postgres::Error> for SealError {
    fn from(error: tokio_postgres::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<DatabaseError> for SealError {
    fn from(error: DatabaseError) -> Self {
        match (error.fault(), error.answer()) {
            (Fault::History, Some(answer)) => Self::History(answer.message().to_owned()),
            _ => Self::Database(error),
        }
    }
}

/// Where a reader of the log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPosition {
    /// The last revision read.
    pub revision: Revision,
    /// That event, if it was read.
    last: Option<LastRead>,
}

/// What tells an event from any other that may ever have its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastRead {
    /// With it, finding the event again costs no scan of its transaction.
    seq: i64,
    captured_at: SystemTime,
}

impl LastRead {
    fn of(row: &Row) -> Result<Self, SealError> {
        Ok(Self { seq: row.try_get(column::SEQ)?, captured_at: row.try_get(column::CAPTURED_AT)? })
    }
}

impl ReadPosition {
    /// After this revision.
    pub fn after(revision: Revision) -> Self {
        Self { revision, last: None }
    }

    fn seq(&self) -> Option<i64> {
        self.last.as_ref().map(|last| last.seq)
    }
}

/// A sealed event as it was read.
pub struct SealedRow {
    row: Row,
    revision: Revision,
    transaction: Span,
}

/// The revisions of a transaction: after one and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The last revision before it.
    pub base: Revision,
    /// Its last revision.
    pub end: Revision,
}

impl Span {
    /// How many events it has.
    pub fn events(&self) -> u64 {
        self.end.get() - self.base.get()
    }
}

impl SealedRow {
    /// The transaction, if this is its first event.
    pub fn begins(&self) -> Option<Span> {
        (self.revision == self.transaction.base.next()).then_some(self.transaction)
    }

    /// Where a reader stands that has read up to this event.
    pub fn position(&self) -> Result<ReadPosition, SealError> {
        Ok(ReadPosition { revision: self.revision, last: Some(LastRead::of(&self.row)?) })
    }

    /// The change in it.
    pub fn change(&self) -> Result<Change<'_>, SealError> {
        let number: i16 = self.row.try_get(column::TYPE)?;
        Ok(Change {
            revision: self.revision,
            kind: self.row.try_get(column::KIND)?,
            resource_id: self.row.try_get(column::RESOURCE_ID)?,
            change: ChangeType::from_number(number.into())
                .ok_or_else(|| SealError::Corrupt(format!("type {number}")))?,
            after: self.row.try_get(column::AFTER)?,
            before: self.row.try_get(column::BEFORE)?,
            captured_at: Some(self.row.try_get(column::CAPTURED_AT)?),
        })
    }
}

/// The columns of `read.sql`, by position: a look-up by name would compare strings ten times per event.
mod column {
    pub(super) const BASE: usize = 0;
    pub(super) const REVISION: usize = 1;
    pub(super) const COMPACTED: usize = 2;
    pub(super) const SEQ: usize = 3;
    pub(super) const CAPTURED_AT: usize = 4;
    pub(super) const KIND: usize = 5;
    pub(super) const RESOURCE_ID: usize = 6;
    pub(super) const TYPE: usize = 7;
    pub(super) const AFTER: usize = 8;
    pub(super) const BEFORE: usize = 9;
    pub(super) const ACTOR: usize = 10;
    pub(super) const ORIGIN: usize = 11;
    pub(super) const TRACE: usize = 12;
}

/// A transaction id, by which a drain knows when all earlier writers are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(i64);

/// The connection that seals and reads.
pub struct HubConnection {
    client: Driven,
    /// `None` behind a transaction pooler, where a session keeps nothing.
    prepared: Option<(Statement, Statement)>,
    /// Rows that are likely to fit into a page.
    likely: AtomicU32,
    /// Whether the server forbids bells (`max_prepared_transactions`).
    pub forbids_bells: bool,
}

impl HubConnection {
    /// Connects. `session`: whether the server session is this connection's own.
    pub async fn open(target: &Target, session: bool) -> Result<Self, SealError> {
        answered(async {
            let client = target.open().await?;
            let row =
                client.query_typed("SELECT current_setting('max_prepared_transactions') <> '0'", &[]).await?;
            let forbids_bells = row.first().is_some_and(|row| row.get(0));
            let prepared = if session {
                let settings =
                    "SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0;
                                SET plan_cache_mode = force_generic_plan; SET synchronous_commit = on;
                                SET search_path = pg_catalog, hub, pg_temp;
                                SET default_transaction_isolation = 'read committed'";
                client
                    .batch_execute(&format!("{settings}; SET statement_timeout = {}", PATIENCE.as_millis()))
                    .await?;
                Some((client.prepare(SEAL).await?, client.prepare(READ).await?))
            } else {
                None
            };
            Ok(Self { client, prepared, likely: AtomicU32::new(u32::MAX), forbids_bells })
        })
        .await
    }

    /// Numbers what was committed since the last seal. When this returns, the seal is durable.
    pub async fn seal(&self) -> Result<Sealed, SealError> {
        let rows = answered(async {
            match &self.prepared {
                Some((seal, _)) => self.client.query(seal, &[]).await,
                None => self.seal_in_transaction().await,
            }
        })
        .await?;
        let row = rows.first().ok_or_else(|| SealError::Corrupt("hub.seal returned nothing".into()))?;
        Ok(Sealed {
            revision: Revision::from_sql(row.try_get("revision")?),
            events: u64::try_from(row.try_get::<_, i64>("events")?).unwrap_or(0),
            transactions: u64::try_from(row.try_get::<_, i64>("transactions")?).unwrap_or(0),
            epoch: Epoch::new(row.try_get("epoch")?),
        })
    }

    /// Where the database's default isolation cannot be set aside for the session. In one packet; COMMIT after a failure rolls back.
    async fn seal_in_transaction(&self) -> Result<Vec<Row>, tokio_postgres::Error> {
        let (begun, rows, committed) = tokio::join!(
            self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
            self.client.query_typed(SEAL, &[]),
            self.client.batch_execute("COMMIT"),
        );
        begun?;
        let rows = rows?;
        committed.map(|()| rows)
    }

    /// At most `most` sealed events after a position, which moves on to the last of them. A page has at least one event, if there is any,
    /// and takes about [`PAGE_BYTES`] at most.
    pub async fn read(&self, position: &mut ReadPosition, most: u32) -> Result<Vec<SealedRow>, SealError> {
        accept(position, self.fetch_page(position, most).await?)
    }

    /// Seals and reads in one packet, as two transactions: the read begins after the seal's commit, so nothing is seen that a crash
    /// could number anew.
    pub async fn seal_and_read(
        &self,
        position: &mut ReadPosition,
        most: u32,
    ) -> Result<(Sealed, Vec<SealedRow>), SealError> {
        let (sealed, rows) = tokio::join!(self.seal(), self.fetch_page(position, most));
        Ok((sealed?, accept(position, rows?)?))
    }

    /// What is asked for in vain is sent in vain: after a page that was full, as many rows as fitted are asked for, then twice as many.
    async fn fetch_page(&self, position: &ReadPosition, most: u32) -> Result<Vec<Row>, SealError> {
        let likely = self.likely.load(Ordering::Relaxed);
        let asked = most.min(likely);
        let rows = self.fetch(position, asked, PAGE_BYTES).await?;
        let came = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        if rows.iter().map(Row::raw_size_bytes).sum::<usize>() >= PAGE_BYTES {
            self.likely.store(came, Ordering::Relaxed);
        } else if came == asked {
            self.likely.store(likely.saturating_mul(2), Ordering::Relaxed);
        }
        Ok(rows)
    }

    /// Takes rows off the wire until there are enough. What else the server has sent is passed over and never held.
    async fn fetch(&self, position: &ReadPosition, most: u32, bytes: usize) -> Result<Vec<Row>, SealError> {
        let (revision, seq, most) = (position.revision.to_sql(), position.seq(), i64::from(most));
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&revision, Type::INT8), (&seq, Type::INT8), (&most, Type::INT8)];
        answered(async {
            let rows = match &self.prepared {
                Some((_, read)) => self.client.query_raw(read, parameters.map(|(value, _)| value)).await?,
                None => self.client.query_typed_raw(READ, parameters).await?,
            };
            let enough = rows.scan(0, |taken, row| {
                let before = *taken;
                *taken += row.as_ref().map_or(0, Row::raw_size_bytes);
                future::ready((before < bytes).then_some(row))
            });
            pin!(enough).try_collect().await
        })
        .await
    }

    /// The position after a revision, with what tells its event from any other that may ever have that number, if it is retained.
    pub async fn position_at(&self, revision: Revision) -> Result<ReadPosition, SealError> {
        let mut position = ReadPosition::after(Revision::new(revision.get().saturating_sub(1)));
        match self.read(&mut position, 1).await {
            Ok(_) if position.revision == revision => Ok(position),
            Ok(_) | Err(SealError::Compacted { .. }) => Ok(ReadPosition::after(revision)),
            Err(error) => Err(error),
        }
    }

    /// The oldest revision that a reader can stand at, and the newest, as the database has them.
    pub async fn bounds(&self) -> Result<(Revision, Revision), SealError> {
        let rows =
            answered(self.client.query_typed("SELECT compacted, revision FROM hub.retention, hub.head", &[]))
                .await?;
        let row = rows.first().ok_or_else(|| SealError::Corrupt("hub.head is empty".into()))?;
        Ok((Revision::from_sql(row.try_get(0)?), Revision::from_sql(row.try_get(1)?)))
    }

    /// Says that no bell is needed. Waits a little for writers that are looking; `false`: not now, though some may have skipped a bell
    /// because of the attempt.
    pub async fn take_busy(&self, wait: Duration) -> Result<bool, SealError> {
        let statement = format!(
            "SET lock_timeout = {}; SET idle_session_timeout = {}; SELECT pg_advisory_lock({LOCKS}, {BUSY}); RESET lock_timeout",
            wait.as_millis().max(1),
            BUSY_IDLE_TIMEOUT.as_millis(),
        );
        match answered(self.client.batch_execute(&statement)).await {
            Ok(()) => Ok(true),
            // The failure has taken the settings back as well.
            Err(SealError::Database(error)) if error.fault() == Fault::Locked => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for bells again.
    pub async fn release_busy(&self) -> Result<(), SealError> {
        let statement = format!("SELECT pg_advisory_unlock({LOCKS}, {BUSY}); RESET idle_session_timeout");
        answered(self.client.batch_execute(&statement)).await
    }

    /// A new transaction id, in a committed transaction of its own.
    pub async fn new_transaction_id(&self) -> Result<TransactionId, SealError> {
        self.transaction_id("SELECT pg_current_xact_id()::text::bigint").await
    }

    /// Every transaction below this id has finished.
    pub async fn oldest_running(&self) -> Result<TransactionId, SealError> {
        self.transaction_id("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").await
    }

    async fn transaction_id(&self, sql: &str) -> Result<TransactionId, SealError> {
        Ok(TransactionId(answered(self.client.query_one(sql, &[])).await?.try_get(0)?))
    }

    /// The sessions that have captured something and not yet finished, as (pid, virtual transaction) pairs.
    pub async fn capturing_sessions(&self) -> Result<Vec<(i32, String)>, SealError> {
        let sql = "SELECT coalesce(pid, 0), virtualtransaction FROM pg_locks
                   WHERE locktype = 'relation' AND relation = 'hub.change'::regclass AND mode = 'RowExclusiveLock' AND granted
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let rows = answered(self.client.query(sql, &[])).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

async fn answered<T>(
    question: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SealError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SealError::Silent),
    }
}

/// Numbers rows: the log is contiguous, so each is one after the one before, and within the bounds of its transaction.
fn accept(position: &mut ReadPosition, rows: Vec<Row>) -> Result<Vec<SealedRow>, SealError> {
    let mut accepted = Vec::with_capacity(rows.len());
    let mut next = *position;
    for row in rows {
        let revision_at = |column| Ok::<_, SealError>(Revision::from_sql(row.try_get(column)?));
        let (base, commit, oldest) =
            (revision_at(column::BASE)?, revision_at(column::REVISION)?, revision_at(column::COMPACTED)?);
        if next.revision < oldest {
            return Err(SealError::Compacted { oldest });
        }
        if !(base..commit).contains(&next.revision) {
            return Err(SealError::Corrupt(format!(
                "after {} comes the transaction of ({base}, {commit}]",
                next.revision
            )));
        }
        next = ReadPosition { revision: next.revision.next(), last: Some(LastRead::of(&row)?) };
        accepted.push(SealedRow { row, revision: next.revision, transaction: Span { base, end: commit } });
    }
    *position = next;
    Ok(accepted)
}

/// What the listening connection hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// A writer has captured something.
    Doorbell,
    /// Some hub has sealed up to here.
    Sealed(Revision),
}

/// The connection that hears bells. Its presence, a shared lock, is what makes writers ring.
pub struct BellConnection {
    client: Driven,
    bells: mpsc::UnboundedReceiver<Bell>,
}

impl BellConnection {
    /// Connects and listens.
    pub async fn open(target: &Target) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = target.connect().await?;
        // Unbounded, so that the driver never waits for its reader; bells are two words each and are folded by the reader.
        let (sender, bells) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(bell) = message {
                    let bell = match bell.channel() {
                        "hub_sealed" => Bell::Sealed(Revision::new(bell.payload().parse().unwrap_or(0))),
                        _ => Bell::Doorbell,
                    };
                    if sender.send(bell).is_err() {
                        break;
                    }
                }
            }
        });
        let client = Driven::new(client, driver);
        client.batch_execute("LISTEN hub_doorbell; LISTEN hub_sealed").await?;
        client.batch_execute(&format!("SELECT pg_advisory_lock_shared({LOCKS}, {PRESENT})")).await?;
        Ok(Self { client, bells })
    }

    /// The next bell; `None`: the connection is gone.
    pub async fn next(&mut self) -> Option<Bell> {
        self.bells.recv().await
    }

    /// A bell that has already come.
    pub fn try_next(&mut self) -> Option<Bell> {
        self.bells.try_recv().ok()
    }

    /// Asks the server for a sign of life.
    pub async fn heartbeat(&self) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("").await
    }
}
