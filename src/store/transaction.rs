//! Transactions with a name: what begins, ends, repeats and times them.

use super::{DatabaseError, Fault};
use crate::backoff::Backoff;
use std::{
    ops::Deref,
    time::{Duration, Instant},
};
use tokio_postgres::Client;

/// A transaction that loses to another is tried this many times.
const ATTEMPTS: u32 = 10;

/// What a transaction sees of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Each statement what is committed before it.
    ReadCommitted,
    /// What is committed before the first statement.
    RepeatableRead,
    /// The same, and it writes nothing.
    Snapshot,
}

/// How a transaction begins.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    name: &'static str,
    sql: String,
}

impl Begin {
    /// The name is for logs.
    pub(super) fn new(name: &'static str, isolation: Isolation) -> Self {
        let level = match isolation {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::RepeatableRead => "REPEATABLE READ",
            Isolation::Snapshot => "REPEATABLE READ READ ONLY",
        };
        Self { name, sql: format!("BEGIN ISOLATION LEVEL {level}") }
    }

    /// In the isolation that the session has.
    pub(super) fn as_the_session(name: &'static str) -> Self {
        Self { name, sql: "BEGIN".to_owned() }
    }

    /// With a setting that ends with the transaction; a value of more than a word is quoted by the caller.
    pub(super) fn set(mut self, setting: &str, value: &str) -> Self {
        self.sql += &format!("; SET LOCAL {setting} = {value}");
        self
    }

    /// With a time limit. Zero is none.
    pub(super) fn limit(self, setting: &str, limit: Duration) -> Self {
        self.set(setting, &limit.as_millis().to_string())
    }

    /// With a statement in the same packet.
    pub(super) fn then(mut self, statement: &str) -> Self {
        self.sql += "; ";
        self.sql += statement;
        self
    }

    /// Begins. The connection is lent, or goes with the transaction.
    pub(super) async fn on<C: Deref<Target = Client>>(
        &self,
        client: C,
    ) -> Result<Transaction<C>, DatabaseError> {
        client.batch_execute(&self.sql).await?;
        Ok(Transaction { client, name: self.name, started: Instant::now() })
    }

    /// One piece of work in a transaction, all in one packet. What fails fails the rest too: COMMIT rolls
    /// back then, and succeeds. The work must have sent all of its statements when it first waits.
    pub(super) async fn around<T>(
        &self,
        client: &Client,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let (begun, done, committed) = tokio::join!(
            biased;
            client.batch_execute(&self.sql),
            work,
            client.batch_execute("COMMIT"),
        );
        begun?;
        let done = done?;
        committed.map(|()| done)
    }

    /// Work that waits for answers between its statements, in a transaction. What fails is rolled back.
    pub(super) async fn enclose<T>(
        &self,
        client: &Client,
        work: impl AsyncFnOnce() -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, tokio_postgres::Error> {
        client.batch_execute(&self.sql).await?;
        match work().await {
            Ok(done) => client.batch_execute("COMMIT").await.map(|()| done),
            Err(error) => {
                // If not even this works the connection is gone, and the transaction with it.
                let _ = client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }

    /// Work in a transaction, again from the beginning if it loses to another one. Whatever else fails rolls
    /// back.
    pub(super) async fn run<T>(
        &self,
        client: &Client,
        work: impl AsyncFn(&Client) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let mut backoff = Backoff::default();
        let mut attempt = 1;
        loop {
            let transaction = self.on(client).await?;
            let error = match work(client).await {
                Ok(done) => match transaction.commit().await {
                    Ok(()) => return Ok(done),
                    Err(error) => error,
                },
                Err(error) => {
                    // If not even this works the connection is gone, and the transaction with it.
                    let _ = transaction.roll_back().await;
                    error
                }
            };
            if error.fault() != Fault::Serialization || attempt == ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(transaction = self.name, attempt, %error, "again");
            attempt += 1;
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }
}

/// A transaction under way. It ends with [`Transaction::commit`], [`Transaction::roll_back`] or its
/// connection: who drops it drops that.
pub(super) struct Transaction<C> {
    client: C,
    name: &'static str,
    started: Instant,
}

impl<C: Deref<Target = Client>> Transaction<C> {
    /// Commits. An error at a deferred constraint has rolled it back.
    pub(super) async fn commit(self) -> Result<(), DatabaseError> {
        self.client.batch_execute("COMMIT").await?;
        tracing::debug!(transaction = self.name, elapsed = ?self.started.elapsed(), "committed");
        Ok(())
    }

    /// Undoes it.
    pub(super) async fn roll_back(self) -> Result<(), DatabaseError> {
        Ok(self.client.batch_execute("ROLLBACK").await?)
    }
}

impl<C: Deref<Target = Client>> Deref for Transaction<C> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
