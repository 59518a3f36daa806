//! Reading the sealed log: positions in it, pages of it, and what its numbers mean at a moment.

use super::{HubConnection, SealError, answered};
use crate::{
    error::Error,
    model::{AttributedChange, Change, ChangeType, Epoch, Revision, Writer},
    store::{
        controller::change,
        values::{Raw, readable},
    },
};
use futures_util::{StreamExt, TryStreamExt, future};
use std::{pin::pin, sync::atomic::Ordering, time::SystemTime};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

pub(super) const READ: &str = include_str!("../read.sql");

/// What a page may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageBound {
    /// This many events at most.
    pub events: u32,
    /// A page that has this many bytes of rows is full. Its last row may have any number.
    pub bytes: usize,
}

impl PageBound {
    /// For what the hub reads at its own pace: a large transaction is published in such pages, and others run
    /// in between.
    pub const HUB: Self = Self { events: 500, bytes: 8 << 20 };
    /// For what may wait in memory for a slow client.
    pub const CLIENT: Self = Self { bytes: 1 << 20, ..Self::HUB };

    /// The same, of this many events at most.
    pub fn at_most(self, events: u64) -> Self {
        Self { events: self.events.min(u32::try_from(events).unwrap_or(u32::MAX)), ..self }
    }
}

/// Where a reader of the log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// The last revision read.
    pub revision: Revision,
    /// Of its event, if it was read: finding it again costs no scan of its transaction.
    pub(in crate::store) seq: Option<i64>,
    /// Of its event, if it was read: with `seq` it tells the event from any other that may ever have its
    /// number.
    pub(in crate::store) captured_at: Option<SystemTime>,
}

impl LogPosition {
    /// After this revision.
    pub fn after(revision: Revision) -> Self {
        Self { revision, seq: None, captured_at: None }
    }

    fn of(row: &Row, revision: Revision) -> Result<Self, SealError> {
        let (seq, captured_at) = (row.try_get(column::SEQ)?, row.try_get(column::CAPTURED_AT)?);
        Ok(Self { revision, seq: Some(seq), captured_at: Some(captured_at) })
    }
}

/// The columns of `read.sql`, by position: a look-up by name would compare strings ten times per event.
mod column {
    pub(super) const BASE: usize = 0;
    pub(super) const REVISION: usize = 1;
    pub(super) const COMPACTED: usize = 2;
    pub(super) const SEQ: usize = 3;
    pub(super) const KIND: usize = 4;
    pub(super) const RESOURCE_ID: usize = 5;
    pub(super) const TYPE: usize = 6;
    pub(super) const AFTER: usize = 7;
    pub(super) const BEFORE: usize = 8;
    pub(super) const CAPTURED_AT: usize = 9;
    pub(super) const ACTOR: usize = 10;
    pub(super) const ORIGIN: usize = 11;
    pub(super) const TRACE: usize = 12;
}

/// A sealed event as it was read.
pub struct SealedRow {
    row: Row,
    /// What is shown of its resource id, if that is no UTF-8.
    legible_id: Option<String>,
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
    pub fn position(&self) -> Result<LogPosition, SealError> {
        LogPosition::of(&self.row, self.revision)
    }

    /// Its bytes, as the server sent them.
    pub fn bytes(&self) -> usize {
        self.row.raw_size_bytes()
    }

    /// The kind, by name.
    pub fn kind(&self) -> Result<&str, SealError> {
        Ok(self.row.try_get(column::KIND)?)
    }

    /// The change in it.
    pub fn change(&self) -> Result<Change<'_>, SealError> {
        let number: i16 = self.row.try_get(column::TYPE)?;
        Ok(Change {
            revision: self.revision,
            kind: self.kind()?,
            resource_id: match &self.legible_id {
                Some(id) => id,
                None => self.row.try_get(column::RESOURCE_ID)?,
            },
            change: ChangeType::from_number(number.into())
                .ok_or_else(|| SealError::Corrupt(format!("type {number}")))?,
            after: readable(&self.row, column::AFTER)?,
            before: readable(&self.row, column::BEFORE)?,
            captured_at: Some(self.row.try_get(column::CAPTURED_AT)?),
            transaction_end: self.transaction.end,
            writer: self.writer()?,
        })
    }

    /// Who made the change.
    pub fn writer(&self) -> Result<Writer<'_>, SealError> {
        Ok(Writer {
            actor: self.row.try_get(column::ACTOR)?,
            origin: self.row.try_get(column::ORIGIN)?,
            trace: self.row.try_get(column::TRACE)?,
        })
    }

    /// The change and who made it, to keep.
    pub fn attributed(&self, epoch: &Epoch) -> Result<AttributedChange, Error> {
        change(&self.row, column::KIND, epoch.clone(), self.revision)
    }
}

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

impl HubConnection {
    /// Whether nothing can be asked of it any more.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The sealed events after a position, which moves on to the last of them. There is at least one, if
    /// there is any to read.
    pub async fn read(
        &self,
        position: &mut LogPosition,
        bound: PageBound,
    ) -> Result<Vec<SealedRow>, SealError> {
        accept(position, self.fetch(position, bound, None).await?)
    }

    /// The same, and what the log is after that, in one packet: if the epoch is then what it was, the events
    /// belong to it. Events of kinds other than `kind` come without their rows, if one is named.
    pub async fn read_with_state(
        &self,
        position: &mut LogPosition,
        bound: PageBound,
        kind: Option<&str>,
    ) -> Result<(Vec<SealedRow>, LogState), SealError> {
        let (rows, state) = tokio::join!(self.fetch(position, bound, kind), self.log_state());
        let state = state?;
        Ok((accept(position, rows?)?, state))
    }

    /// What is asked for in vain is sent in vain: so no more rows are asked for than are likely to fit. Where
    /// large ones were, twice as many as the last time.
    pub(super) async fn fetch(
        &self,
        position: &LogPosition,
        bound: PageBound,
        kind: Option<&str>,
    ) -> Result<Vec<Row>, SealError> {
        let row_size = self.row_size.load(Ordering::Relaxed);
        let asked = bound.at_most(bound.bytes.div_ceil(row_size) as u64);
        let rows = self.fetch_asked(position, asked, kind).await?;
        let bytes = rows.iter().map(Row::raw_size_bytes).sum::<usize>();
        let measured = bytes.checked_div(rows.len()).unwrap_or(1).max(1);
        if bytes >= bound.bytes {
            self.row_size.store(measured, Ordering::Relaxed);
        } else if u32::try_from(rows.len()) == Ok(asked.events) {
            self.row_size.store(measured.max(row_size / 2), Ordering::Relaxed);
        }
        Ok(rows)
    }

    /// Takes rows off the wire until there are enough. What else the server has sent is passed over and never
    /// held.
    async fn fetch_asked(
        &self,
        position: &LogPosition,
        PageBound { events, bytes }: PageBound,
        kind: Option<&str>,
    ) -> Result<Vec<Row>, SealError> {
        let (revision, events) = (position.revision.to_sql(), i64::from(events));
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&revision, Type::INT8),
            (&position.seq, Type::INT8),
            (&events, Type::INT8),
            (&kind, Type::TEXT),
        ];
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

    /// The position after a revision, with what tells its event from any other that may ever have that
    /// number, if it is retained.
    pub async fn position_at(&self, revision: Revision) -> Result<LogPosition, SealError> {
        let mut position = LogPosition::after(revision.previous());
        match self.read(&mut position, PageBound::HUB.at_most(1)).await {
            Ok(_) if position.revision == revision => Ok(position),
            Ok(_) | Err(SealError::Compacted { .. }) => Ok(LogPosition::after(revision)),
            Err(error) => Err(error),
        }
    }

    /// The oldest revision that a reader can stand at, and the newest, as the database has them.
    pub async fn bounds(&self) -> Result<(Revision, Revision), SealError> {
        let sql = "SELECT compacted, revision FROM hub.retention, hub.head";
        let rows = answered(self.client.query_typed(sql, &[])).await?;
        let row = rows.first().ok_or_else(|| SealError::Corrupt("hub.head is empty".into()))?;
        Ok((Revision::from_sql(row.try_get(0)?), Revision::from_sql(row.try_get(1)?)))
    }

    /// What the log is; an error if its numbers may not mean what they meant.
    pub async fn log_state(&self) -> Result<LogState, SealError> {
        let sql = "SELECT hub.history_fault(false), (SELECT compacted FROM hub.retention),
                   (SELECT revision FROM hub.head),
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
}

/// Numbers rows: the log is contiguous, so each is one after the one before, and within the bounds of its
/// transaction.
pub(super) fn accept(position: &mut LogPosition, rows: Vec<Row>) -> Result<Vec<SealedRow>, SealError> {
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
        next = LogPosition::of(&row, next.revision.next())?;
        let id: Raw<'_> = row.try_get(column::RESOURCE_ID)?;
        let legible_id = id.readable().is_none().then(|| id.legible().into_owned());
        let transaction = Span { base, end: commit };
        accepted.push(SealedRow { row, legible_id, revision: next.revision, transaction });
    }
    *position = next;
    Ok(accepted)
}
