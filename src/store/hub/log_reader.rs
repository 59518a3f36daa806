//! Reading the log for those who do not follow it: pages bounded in bytes, and what the log's numbers mean at that moment.

use super::{HubConnection, ReadPosition, SealError, SealedRow, accept, answered, column};
use crate::model::{Epoch, Revision};

/// What the log is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// The oldest revision that a reader can stand at.
    pub compacted: Revision,
    /// The newest.
    pub head: Revision,
    /// The history that both belong to.
    pub epoch: Epoch,
}

/// Who made a change, as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer<'a> {
    /// What the writer said, else the database's user.
    pub actor: Option<&'a str>,
    /// From where, if the writer said.
    pub origin: Option<&'a str>,
    /// In which trace, if the writer said.
    pub trace: Option<&'a str>,
}

impl SealedRow {
    /// Its bytes, as the server sent them.
    pub fn bytes(&self) -> usize {
        self.row.raw_size_bytes()
    }

    /// Who made the change.
    pub fn writer(&self) -> Result<Writer<'_>, SealError> {
        Ok(Writer {
            actor: self.row.try_get(column::ACTOR)?,
            origin: self.row.try_get(column::ORIGIN)?,
            trace: self.row.try_get(column::TRACE)?,
        })
    }
}

impl HubConnection {
    /// Whether nothing can be asked of it any more.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// What the log is; an error if its numbers may not mean what they meant.
    pub async fn log_state(&self) -> Result<LogState, SealError> {
        let sql = "SELECT hub.history_fault(false), (SELECT compacted FROM hub.retention), (SELECT revision FROM hub.head),
                     (SELECT epoch FROM hub.incarnation)";
        let rows = answered(self.client.query_typed(sql, &[])).await?;
        let row = rows.first().ok_or_else(|| SealError::Corrupt("no answer".into()))?;
        if let Some(fault) = row.try_get::<_, Option<String>>(0)? {
            return Err(SealError::History(fault));
        }
        Ok(LogState {
            compacted: Revision::from_sql(row.try_get(1)?),
            head: Revision::from_sql(row.try_get(2)?),
            epoch: Epoch::new(row.try_get(3)?),
        })
    }

    /// The next sealed events after a position, at most `most` of them, and what the log is after that, in one packet: if the epoch is then
    /// what it was, the events belong to it. A page has at most `bytes` bytes, or one event more.
    pub async fn read_within(
        &self,
        position: &mut ReadPosition,
        most: u32,
        bytes: usize,
    ) -> Result<(Vec<SealedRow>, LogState), SealError> {
        let (rows, state) = tokio::join!(self.fetch(position, most, bytes), self.log_state());
        let state = state?;
        Ok((accept(position, rows?)?, state))
    }
}
