//! The connections of the capture: one that seals and reads, one that hears bells.

mod epoch;
mod log;
mod touched;

pub use epoch::{Doubt, begin_epoch};
pub use log::{LogPosition, LogState, PageBound, SealedRow, Span};
pub use touched::Touched;

use super::{
    DatabaseError, Fault,
    connection::{Driven, Target},
    lock::HubLock,
    migrate::ENCODINGS,
    transaction::{Begin, Isolation},
};
use crate::model::{Epoch, Revision};
use std::{future::poll_fn, sync::atomic::AtomicUsize, time::Duration};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Row, Statement, types::Type};

/// A busy hub seals every few milliseconds. One that holds `busy` and is silent for this long is frozen: the
/// server ends its session, and writers ring again.
const BUSY_IDLE_TIMEOUT: Duration = Duration::from_millis(500);

/// Without an answer for this long the connection is given up. Also the server's own limit on a statement.
const PATIENCE: Duration = Duration::from_secs(30);

const SEAL: &str = "SELECT revision, events, transactions, epoch FROM hub.seal(NULL)";

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
    /// The log is of another history than the one that is being read.
    #[error("the epoch is now {current}")]
    EpochChanged {
        /// The one that it is of.
        current: Epoch,
    },
    /// What was to be read is no longer retained.
    #[error("everything up to revision {oldest} is compacted")]
    Compacted {
        /// The oldest revision that a reader can stand at.
        oldest: Revision,
    },
    /// The log holds something that this program cannot read.
    #[error("hub.log and hub.change do not agree: {0}")]
    Corrupt(String),
    /// Not all of what the database can hold can be sent.
    #[error("the database has the encoding {0}, of which not every character can be written in UTF-8")]
    Encoding(String),
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

/// A transaction id, by which a drain knows when all earlier writers are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(i64);

/// The connection that seals and reads.
pub struct HubConnection {
    client: Driven,
    /// `None` behind a transaction pooler, where a session keeps nothing.
    prepared: Option<(Statement, Statement)>,
    /// Bytes that the next row is likely to have.
    row_size: AtomicUsize,
    /// Whether the server forbids bells (`max_prepared_transactions`).
    pub forbids_bells: bool,
}

impl HubConnection {
    /// Connects. Fails if the database may hold what cannot be read.
    pub async fn open(target: &Target) -> Result<Self, SealError> {
        let ask = "SELECT current_setting('max_prepared_transactions') <> '0',
                     CASE WHEN e <> ALL ($1::text::text[]) THEN e END
                     FROM current_setting('server_encoding') e";
        let (client, forbids_bells, incomplete) = answered(async {
            let client = target.open().await?;
            let rows = client.query_typed(ask, &[(&ENCODINGS, Type::TEXT)]).await?;
            let row = rows.first();
            let forbids_bells: bool = row.map_or(Ok(false), |row| row.try_get(0))?;
            let incomplete: Option<String> = row.map_or(Ok(None), |row| row.try_get(1))?;
            Ok((client, forbids_bells, incomplete))
        })
        .await?;
        if let Some(encoding) = incomplete {
            return Err(SealError::Encoding(encoding));
        }
        let prepared = match target.keeps_session() {
            true => Some(answered(prepare(&client)).await?),
            false => None,
        };
        Ok(Self { client, prepared, row_size: AtomicUsize::new(1), forbids_bells })
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

    /// Where the database's default isolation cannot be set aside for the session.
    async fn seal_in_transaction(&self) -> Result<Vec<Row>, tokio_postgres::Error> {
        let begin = Begin::new("seal", Isolation::ReadCommitted);
        begin.around(&self.client, self.client.query_typed(SEAL, &[])).await
    }

    /// Seals and reads a page in one packet, as two transactions: the read begins after the seal's commit, so
    /// nothing is seen that a crash could number anew.
    pub async fn seal_and_read(
        &self,
        position: &mut LogPosition,
        bound: PageBound,
    ) -> Result<(Sealed, Vec<SealedRow>), SealError> {
        let (sealed, rows) = tokio::join!(self.seal(), self.fetch(position, bound, None));
        Ok((sealed?, log::accept(position, rows?)?))
    }

    /// Says that no bell is needed. Waits a little for writers that are looking; `false`: not now, though
    /// some may have skipped a bell because of the attempt.
    pub async fn take_busy(&self, wait: Duration) -> Result<bool, SealError> {
        let statement = format!(
            "SET lock_timeout = {}; SET idle_session_timeout = {}; SELECT pg_advisory_lock({});
             RESET lock_timeout",
            wait.as_millis().max(1),
            BUSY_IDLE_TIMEOUT.as_millis(),
            HubLock::Busy,
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
        let statement = format!("SELECT pg_advisory_unlock({}); RESET idle_session_timeout", HubLock::Busy);
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
        let rows = answered(self.client.query_typed(sql, &[])).await?;
        let row = rows.first().ok_or_else(|| SealError::Corrupt("no transaction id".into()))?;
        Ok(TransactionId(row.try_get(0)?))
    }

    /// The sessions that have captured something and not yet finished, as (pid, virtual transaction) pairs.
    pub async fn capturing_sessions(&self) -> Result<Vec<(i32, String)>, SealError> {
        let sql = "SELECT coalesce(pid, 0), virtualtransaction FROM pg_locks
                   WHERE locktype = 'relation' AND relation = 'hub.change'::regclass
                   AND mode = 'RowExclusiveLock' AND granted
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let rows = answered(self.client.query_typed(sql, &[])).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// What a session that is kept is set to, and the statements that it runs all the time.
async fn prepare(client: &Client) -> Result<(Statement, Statement), tokio_postgres::Error> {
    let settings = "SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0;
        SET plan_cache_mode = force_generic_plan; SET synchronous_commit = on;
        SET search_path = pg_catalog, hub, pg_temp; SET default_transaction_isolation = 'read committed'";
    client.batch_execute(&format!("{settings}; SET statement_timeout = {}", PATIENCE.as_millis())).await?;
    Ok((client.prepare(SEAL).await?, client.prepare(log::READ).await?))
}

async fn answered<T>(
    question: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SealError> {
    answered_with(async { Ok(question.await?) }).await
}

/// The same for a question of several parts.
async fn answered_with<T>(question: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, SealError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SealError::Silent),
    }
}

/// What the listening connection hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// A writer has captured something.
    Doorbell,
    /// Some hub has sealed up to here.
    Sealed(Revision),
    /// Tables were attached or detached, or altered.
    Tables,
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
        // Unbounded, so that the driver never waits for its reader; bells are two words each and are folded
        // by the reader.
        let (sender, bells) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(bell) = message {
                    let bell = match bell.channel() {
                        "hub_tables" => Bell::Tables,
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
        client.batch_execute("LISTEN hub_doorbell; LISTEN hub_sealed; LISTEN hub_tables").await?;
        client.batch_execute(&format!("SELECT pg_advisory_lock_shared({})", HubLock::Present)).await?;
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
