//! A pooled connection on loan for one statement.

use super::{
    DatabaseError, STATEMENT_TIMEOUT,
    tls::Connector,
    transaction::{Begin, Isolation},
};
use crate::call::Call;
use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Says who is behind a transaction, until it ends.
const ATTRIBUTE: &str =
    "SELECT set_config('hub.actor', coalesce($1, ''), true), set_config('hub.trace', coalesce($2, ''), true)";

/// If it is dropped before the statement has ended, its caller's deadline has passed: the statement is
/// cancelled and the connection leaves the pool, or the next caller would wait behind what this one no longer
/// waits for.
pub(super) struct Lease {
    connection: Option<Object>,
    /// For the request to cancel, which must be as well encrypted as the statement.
    tls: Connector,
    /// Whether the server session is the connection's own. If not, it keeps neither settings nor a prepared
    /// statement: each statement has a transaction, which sets what it needs and leaves nothing behind.
    session: bool,
}

impl Lease {
    pub(super) fn new(connection: Object, tls: &Connector, session: bool) -> Self {
        Self { connection: Some(connection), tls: tls.clone(), session }
    }

    /// With the settings that a connection's own session has.
    fn begin(&self, name: &'static str) -> Begin {
        if self.session {
            Begin::as_the_session(name)
        } else {
            Begin::new(name, Isolation::ReadCommitted).limit("statement_timeout", STATEMENT_TIMEOUT)
        }
    }

    /// The rows of a statement, which is prepared once per connection.
    pub(super) async fn query(
        self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let begin = self.begin("statement");
        let session = self.session;
        self.lend(async |connection| {
            if !session {
                return begin
                    .enclose(connection, async || query_unkept(connection, sql, parameters).await)
                    .await;
            }
            let statement = connection.prepare_cached(sql).await?;
            connection.query(&statement, parameters).await
        })
        .await
    }

    /// The rows of a statement that is not prepared.
    pub(super) async fn query_once(
        self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let begin = (!self.session).then(|| self.begin("statement"));
        self.lend(async |connection| {
            let rows = connection.query_typed(sql, parameters);
            match begin {
                Some(begin) => begin.around(connection, rows).await,
                None => rows.await,
            }
        })
        .await
    }

    async fn lend(
        mut self,
        query: impl AsyncFnOnce(&Object) -> Result<Vec<Row>, tokio_postgres::Error>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let result = query(connection).await;
        // It has ended: back to the pool.
        self.connection = None;
        result
    }
}

impl Lease {
    /// The same in a transaction that says who is behind it. All goes out in one packet, where the session
    /// keeps the statements: one that fails fails the rest too.
    pub(super) async fn query_for(
        mut self,
        call: &Call,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let begin = self.begin("attributed");
        let result = async {
            if !self.session {
                let work = async || {
                    let (actor, trace) = (call.actor(), call.trace());
                    connection.query_typed(ATTRIBUTE, &[(&actor, Type::TEXT), (&trace, Type::TEXT)]).await?;
                    query_unkept(connection, sql, parameters).await
                };
                return begin.enclose(connection, work).await;
            }
            let (say, statement) =
                (connection.prepare_cached(ATTRIBUTE).await?, connection.prepare_cached(sql).await?);
            let said: [&(dyn ToSql + Sync); 2] = [&call.actor(), &call.trace()];
            let work = async {
                let (said, rows) = tokio::join!(
                    biased;
                    connection.query(&say, &said),
                    connection.query(&statement, parameters),
                );
                said.and(rows)
            };
            begin.around(connection, work).await
        };
        let result = result.await;
        self.connection = None;
        result
    }
}

impl Lease {
    /// The rows of a statement that is not prepared, in a transaction with these settings that says who is
    /// behind it. All goes out in one packet, as in [`Lease::query_for`].
    pub(super) async fn query_formatted(
        mut self,
        call: &Call,
        settings: &[(&str, &str)],
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let (actor, trace) = (call.actor(), call.trace());
        let said: [(&(dyn ToSql + Sync), Type); 2] = [(&actor, Type::TEXT), (&trace, Type::TEXT)];
        let begin = self.begin("formatted");
        let begin = settings.iter().fold(begin, |begin, (setting, value)| begin.set(setting, value));
        let work = async {
            let (said, rows) = tokio::join!(
                biased;
                connection.query_typed(ATTRIBUTE, &said),
                connection.query_typed(sql, parameters),
            );
            said.and(rows)
        };
        let result = begin.around(connection, work).await;
        self.connection = None;
        result
    }
}

/// The rows of a statement that no session keeps. A prepared one lives as long as its rows, and would be
/// closed after the transaction: on another session, which is somebody else's by then.
async fn query_unkept(
    connection: &Object,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let types = connection.prepare(sql).await?.params().to_vec();
    let typed: Vec<_> = parameters.iter().copied().zip(types).collect();
    connection.query_typed(sql, &typed).await
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(connection), Ok(runtime)) =
            (self.connection.take(), tokio::runtime::Handle::try_current())
        {
            let client = Object::take(connection);
            runtime.spawn(cancel(client, self.tls.clone()));
        }
    }
}

/// The session lives until the request to cancel is answered: it must not reach a later session with the same
/// number.
async fn cancel(client: ClientWrapper, tls: Connector) {
    if let Err(error) = client.cancel_token().cancel_query(tls).await {
        tracing::debug!(error = %DatabaseError::from(error), "cancelling a statement");
    }
}
