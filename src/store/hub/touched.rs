//! Which kinds a transaction touches: asked of large ones only, for it costs a look at every row.

use super::{HubConnection, LogPosition, SealError, Span, answered};
use tokio_postgres::types::Type;

/// What a transaction holds, without its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The kinds of its rows.
    pub kinds: Vec<String>,
    /// Where a reader stands that has read it to its end.
    pub end: LogPosition,
}

/// A kind of the transaction that ends at revision $1, with its last change.
const TOUCHED: &str = "SELECT t.kind, c.seq, c.captured_at
    FROM (SELECT c.xid, c.kind, max(c.seq) AS seq FROM hub.log l JOIN hub.change c USING (xid)
          WHERE l.revision = $1 GROUP BY c.xid, c.kind) t
    JOIN hub.change c ON c.xid = t.xid AND c.seq = t.seq
    ORDER BY c.seq";

impl HubConnection {
    /// The kinds that a sealed transaction touches.
    pub async fn touched(&self, transaction: Span) -> Result<Touched, SealError> {
        let end = transaction.end;
        let rows = answered(self.client.query_typed(TOUCHED, &[(&end.to_sql(), Type::INT8)])).await?;
        let Some(last) = rows.last() else {
            return Err(SealError::Corrupt(format!("no change in the transaction that ends at {end}")));
        };
        let end = LogPosition { revision: end, seq: last.try_get(1)?, captured_at: last.try_get(2)? };
        let kinds = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok(Touched { kinds, end })
    }
}
