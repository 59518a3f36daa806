//! `hub.v1.EventService`: the log in batches, for clients that do not watch.

use super::{answer, status};
use crate::{
    call::Call,
    error::Error,
    model::Revision,
    proto::{
        hub::v1::{
            Event, ReadEventsRequest, ReadEventsResponse,
            event_service_server::{EventService, EventServiceServer},
        },
        rh_trex::v1::EventType,
    },
    service::{EventBatch, EventBatches, EventQuery, UseCases},
    store::{SealError, SealedRow},
};
use futures_util::stream;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// The service.
pub(super) struct Events(UseCases);

impl Events {
    pub(super) fn service(cases: &UseCases) -> EventServiceServer<Self> {
        EventServiceServer::new(Self(cases.clone()))
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
            let previous = request.include_previous;
            let query = EventQuery {
                kinds: request.kinds,
                after: Revision::new(request.after_revision),
                epoch: request.epoch,
                batch_size: request.batch_size,
            };
            let batches = self.0.read_events(&call, query).await?;
            Ok(Box::pin(responses(call, batches, previous)) as Self::ReadEventsStream)
        })
        .await
    }
}

/// Batches as messages, for a call. An error is the last.
fn responses(
    call: Call,
    batches: EventBatches,
    previous: bool,
) -> impl Stream<Item = Result<ReadEventsResponse, Status>> + Send {
    stream::unfold(Some((call, batches)), move |reading| async move {
        let (call, mut batches) = reading?;
        match batches.next().await?.and_then(|batch| response(&batch, previous)) {
            Ok(response) => Some((Ok(response), Some((call, batches)))),
            Err(error) => Some((Err(status(&error, &call)), None)),
        }
    })
}

fn response(batch: &EventBatch, previous: bool) -> Result<ReadEventsResponse, Error> {
    let events = batch.rows.iter().map(|row| event(row, previous));
    Ok(ReadEventsResponse {
        events: events.collect::<Result<_, SealError>>()?,
        next_after_revision: batch.upto.get(),
        head_revision: batch.head.get(),
        epoch: batch.epoch.as_str().to_owned(),
    })
}

fn event(row: &SealedRow, previous: bool) -> Result<Event, SealError> {
    let change = row.change()?;
    let writer = change.writer;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(Event {
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
        before_json: if previous { text(change.before) } else { String::new() },
    })
}
