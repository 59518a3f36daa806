//! `hub.v1.EventService`: the log in batches, for those who do not watch.

use super::{answer, status};
use crate::{
    broker::{Ending, EventBroker},
    catalog::Catalog,
    error::Error,
    feed::reader::{LogPage, LogReader, Reading},
    model::{KindName, Revision},
    proto::{
        hub::v1::{
            Event, ReadEventsRequest, ReadEventsResponse,
            event_service_server::{EventService, EventServiceServer},
        },
        rh_trex::v1::EventType,
    },
    store::{SealError, SealedRow},
    telemetry::Metrics,
};
use std::{collections::HashSet, pin::Pin, sync::Arc};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

const DEFAULT_BATCH: u32 = 500;
const LARGEST_BATCH: u32 = 10_000;

/// The service.
pub(super) struct Events {
    pub(super) reader: LogReader,
    pub(super) catalog: Catalog,
    pub(super) broker: Arc<EventBroker>,
    pub(super) metrics: Arc<Metrics>,
}

/// What a caller wants of each page.
struct Wanted {
    /// `None`: every kind, also those that this program does not know.
    kinds: Option<HashSet<String>>,
    batch: u32,
    previous: bool,
}

impl Events {
    pub(super) fn service(self) -> EventServiceServer<Self> {
        EventServiceServer::new(self)
    }

    fn wanted(&self, request: &ReadEventsRequest) -> Result<Wanted, Error> {
        let kinds = self.catalog.kinds();
        if let Some(unknown) = request.kinds.iter().find(|kind| kinds.get(kind).is_none()) {
            let known = kinds.names().map(KindName::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(
                "kinds",
                format!("{unknown:?} is none of the watched kinds: {known}"),
            ));
        }
        if request.batch_size > LARGEST_BATCH {
            return Err(Error::invalid("batch_size", format!("must be at most {LARGEST_BATCH}")));
        }
        Ok(Wanted {
            kinds: (!request.kinds.is_empty()).then(|| request.kinds.iter().cloned().collect()),
            batch: if request.batch_size == 0 { DEFAULT_BATCH } else { request.batch_size },
            previous: request.include_previous,
        })
    }
}

#[tonic::async_trait]
impl EventService for Events {
    type ReadEventsStream = Pin<Box<dyn Stream<Item = Result<ReadEventsResponse, Status>> + Send>>;

    async fn read_events(
        &self,
        request: Request<ReadEventsRequest>,
    ) -> Result<Response<Self::ReadEventsStream>, Status> {
        answer(request, async |call, request| {
            let wanted = self.wanted(&request)?;
            let epoch = (!request.epoch.is_empty()).then_some(request.epoch.as_str());
            let reading = self.reader.begin(Revision::new(request.after_revision), epoch).await?;
            let stage = if reading.is_over() { Stage::Nothing(request.after_revision) } else { Stage::Pages };
            let (broker, metrics) = (self.broker.clone(), self.metrics.clone());
            let batches = Batches { reading, wanted, stage, broker, metrics };
            let stream = futures_util::stream::unfold((batches, call), |(mut batches, call)| async move {
                let batch = batches.next().await?;
                Some((batch.map_err(|error| status(&error, &call)), (batches, call)))
            });
            Ok(Box::pin(stream) as Self::ReadEventsStream)
        })
        .await
    }
}

/// What comes next on a stream.
enum Stage {
    /// There is nothing after this revision: one batch says so.
    Nothing(u64),
    /// Pages, until the head.
    Pages,
    /// The end of the stream.
    Over,
}

/// A reading under way.
struct Batches {
    reading: Reading,
    wanted: Wanted,
    stage: Stage,
    broker: Arc<EventBroker>,
    metrics: Arc<Metrics>,
}

impl Batches {
    /// The next batch: one for each page, with or without events, so that whoever waits for a rare kind has a place to resume from. Nothing
    /// is read before the one before was taken.
    async fn next(&mut self) -> Option<Result<ReadEventsResponse, Error>> {
        let batch = match self.stage {
            Stage::Nothing(revision) => Ok(self.batch(Vec::new(), Revision::new(revision))),
            Stage::Pages => self.read().await,
            Stage::Over => return None,
        };
        self.stage = if batch.is_err() || self.reading.is_over() { Stage::Over } else { Stage::Pages };
        Some(batch)
    }

    async fn read(&mut self) -> Result<ReadEventsResponse, Error> {
        if let Some(Ending::ShuttingDown { retry_after }) = self.broker.draining() {
            return Err(Error::Unavailable { why: "the hub is shutting down", retry_after });
        }
        let LogPage { rows, upto } = self.reading.next(self.wanted.batch).await?;
        let events = rows.iter().filter_map(|row| self.wanted.event(row).transpose());
        let events = events.collect::<Result<Vec<_>, _>>()?;
        self.metrics.read_events.inc_by(events.len() as u64);
        Ok(self.batch(events, upto))
    }

    fn batch(&self, events: Vec<Event>, upto: Revision) -> ReadEventsResponse {
        ReadEventsResponse {
            events,
            next_after_revision: upto.get(),
            head_revision: self.reading.head.get(),
            epoch: self.reading.epoch.as_str().to_owned(),
        }
    }
}

impl Wanted {
    fn event(&self, row: &SealedRow) -> Result<Option<Event>, SealError> {
        let change = row.change()?;
        if self.kinds.as_ref().is_some_and(|kinds| !kinds.contains(change.kind)) {
            return Ok(None);
        }
        let writer = row.writer()?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Ok(Some(Event {
            kind: change.kind.to_owned(),
            resource_id: change.resource_id.to_owned(),
            // The numbers agree.
            r#type: EventType::try_from(change.change as i32).unwrap_or_default().into(),
            revision: change.revision.get(),
            occurred_at: change.captured_at.map(Into::into),
            actor: text(writer.actor),
            origin: text(writer.origin),
            trace: text(writer.trace),
            after_json: text(change.after),
            before_json: if self.previous { text(change.before) } else { String::new() },
        }))
    }
}
