//! The log in batches, for clients that do not watch: from a revision to the newest at the time of asking.

use super::{Action, Grant, UseCases, ended};
use crate::{
    broker::EventBroker,
    call::Call,
    error::Error,
    feed::reader::{LogPage, Reading},
    model::{Epoch, KindName, Revision},
    store::{PageBound, SealError, SealedRow},
    telemetry::Metrics,
};
use std::{collections::HashSet, sync::Arc};

const DEFAULT_BATCH: u32 = PageBound::CLIENT.events;
const LARGEST_BATCH: u32 = 10_000;

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Of these kinds; empty: of every kind, even one that this hub does not watch.
    pub kinds: Vec<String>,
    /// After this revision.
    pub after: Revision,
    /// The epoch that it belongs to; empty: not said.
    pub epoch: String,
    /// Events that a batch is made from; 0: the hub's default.
    pub batch_size: u32,
}

/// Some events, perhaps none, and how far they reach.
pub struct EventBatch {
    /// The events.
    pub rows: Vec<SealedRow>,
    /// Every wanted event up to here was in this batch or an earlier one: a place to resume from.
    pub upto: Revision,
    /// Where the reading ends.
    pub head: Revision,
    /// The history that it is of.
    pub epoch: Epoch,
}

/// A reading under way.
pub struct EventBatches {
    reading: Reading,
    /// `None`: every kind.
    kinds: Option<HashSet<String>>,
    batch: u32,
    stage: Stage,
    broker: Arc<EventBroker>,
    metrics: Arc<Metrics>,
}

/// What comes next.
enum Stage {
    /// There is nothing after this revision; one batch says so.
    Nothing(Revision),
    /// Pages, until the head.
    Pages,
    /// The end.
    Over,
}

impl UseCases {
    /// Begins to read the log.
    pub async fn read_events(&self, call: &Call, query: EventQuery) -> Result<EventBatches, Error> {
        let (grant, kinds) = self.readable(call, query.kinds)?;
        let query = EventQuery { kinds, ..query };
        let means = &self.behind.open(&grant).means;
        let known = means.catalog.kinds();
        if let Some(unknown) = query.kinds.iter().find(|kind| known.get(kind).is_none()) {
            let known = known.names().map(KindName::as_str).collect::<Vec<_>>().join(", ");
            let rule = format!("{unknown:?} is none of the watched kinds: {known}");
            return Err(Error::invalid("kinds", rule));
        }
        if query.batch_size > LARGEST_BATCH {
            return Err(Error::invalid("batch_size", format!("must be at most {LARGEST_BATCH}")));
        }
        let epoch = (!query.epoch.is_empty()).then_some(query.epoch.as_str());
        let reading = means.reader.begin(query.after, epoch).await?;
        Ok(EventBatches {
            stage: if reading.is_over() { Stage::Nothing(query.after) } else { Stage::Pages },
            reading,
            kinds: (!query.kinds.is_empty()).then(|| query.kinds.into_iter().collect()),
            batch: if query.batch_size == 0 { DEFAULT_BATCH } else { query.batch_size },
            broker: means.broker.clone(),
            metrics: means.metrics.clone(),
        })
    }
}

impl UseCases {
    /// The kinds whose events a call may read of those that it names, or of all; empty: all, those to come
    /// included.
    fn readable(&self, call: &Call, named: Vec<String>) -> Result<(Grant, Vec<String>), Error> {
        let action = Action::ReadEvents;
        if named.is_empty() {
            if let Ok(grant) = self.door.authorize(call, action, None) {
                return Ok((grant.of_everything()?, named));
            }
            let (grant, kinds) = self.door.authorize_each(call, action)?;
            return Ok((grant, kinds.iter().map(|kind| kind.as_str().to_owned()).collect()));
        }
        let mut grant = self.door.knock(call)?;
        for kind in &named {
            grant = self.door.authorize(call, action, Some(&KindName::new(kind)))?.of_everything()?;
        }
        Ok((grant, named))
    }
}

impl EventBatches {
    /// The next batch: one for each page, with or without events, so that a client of a rare kind has a place
    /// to resume from. A page is read only when the batch before was taken. An error is the last item.
    pub async fn next(&mut self) -> Option<Result<EventBatch, Error>> {
        let batch = match self.stage {
            Stage::Nothing(revision) => Ok(self.batch(Vec::new(), revision)),
            Stage::Pages => self.read().await,
            Stage::Over => return None,
        };
        self.stage = if batch.is_err() || self.reading.is_over() { Stage::Over } else { Stage::Pages };
        Some(batch)
    }

    async fn read(&mut self) -> Result<EventBatch, Error> {
        if let Some(ending) = self.broker.draining() {
            return Err(ended(ending));
        }
        let LogPage { rows, upto } = self.reading.next(self.batch).await?;
        let wanted =
            rows.into_iter().filter_map(|row| self.wants(&row).map(|wants| wants.then_some(row)).transpose());
        let rows = wanted.collect::<Result<Vec<_>, SealError>>()?;
        self.metrics.read_events.inc_by(rows.len() as u64);
        Ok(self.batch(rows, upto))
    }

    fn wants(&self, row: &SealedRow) -> Result<bool, SealError> {
        Ok(match &self.kinds {
            Some(kinds) => kinds.contains(row.kind()?),
            None => true,
        })
    }

    fn batch(&self, rows: Vec<SealedRow>, upto: Revision) -> EventBatch {
        EventBatch { rows, upto, head: self.reading.head, epoch: self.reading.epoch.clone() }
    }
}
