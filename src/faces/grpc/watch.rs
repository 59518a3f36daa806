//! A watch of any kind: the fields that every kind's request has, and the response's body, which hands the
//! log's bytes to HTTP/2 as they are.

use super::{
    EventStream,
    status::{status, trailers},
};
use crate::{
    broker::Policy,
    call::Call,
    error::Error,
    model::ChangeType,
    proto::rh_trex::v1::{BackpressurePolicy, EventType},
    service::{WatchEnd, WatchStep, WatchStream},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tonic::{Response, Status, metadata::MetadataValue};

/// The types that a request names by the numbers of `EventType`.
pub fn change_types(numbers: &[i32]) -> Result<Vec<ChangeType>, Error> {
    numbers.iter().map(|&number| change_type(number)).collect()
}

fn change_type(number: i32) -> Result<ChangeType, Error> {
    // SNAPSHOT and BOOKMARK are asked for by other fields.
    ChangeType::from_number(number).ok_or_else(|| {
        let name = EventType::try_from(number)
            .map_or_else(|_| number.to_string(), |known| known.as_str_name().to_owned());
        Error::invalid(
            "types",
            format!("{name} is none of EVENT_TYPE_CREATED, EVENT_TYPE_UPDATED, EVENT_TYPE_DELETED"),
        )
    })
}

/// The policy that a request names by its number.
pub fn policy(number: i32) -> Result<Policy, Error> {
    match BackpressurePolicy::try_from(number) {
        Ok(BackpressurePolicy::Unspecified | BackpressurePolicy::Drop) => Ok(Policy::Drop),
        Ok(BackpressurePolicy::CatchUp) => Ok(Policy::CatchUp),
        Ok(BackpressurePolicy::Disconnect) => Ok(Policy::Disconnect),
        Ok(BackpressurePolicy::Latest) => Ok(Policy::Latest),
        Err(_) => Err(Error::invalid("backpressure", format!("{number} is no policy"))),
    }
}

/// How often a request wants bookmarks. A negative interval is refused as zero is.
pub fn bookmark_interval(interval: Option<prost_types::Duration>) -> Option<Duration> {
    interval.map(|interval| Duration::try_from(interval).unwrap_or_default())
}

/// The [`WatchRequest`](crate::service::WatchRequest) of a kind's request, whose message has the fields that
/// every kind's has, under the same names.
macro_rules! watch_request {
    ($request:ident) => {
        $crate::service::WatchRequest {
            types: $crate::faces::grpc::change_types(&$request.types)?,
            resource_ids: $request.resource_ids,
            filter: $request.filter,
            after: $request.after_revision.map($crate::model::Revision::new),
            epoch: $request.epoch,
            rendition: $crate::wire::Rendition::Grpc,
            policy: $crate::faces::grpc::policy($request.backpressure)?,
            include_previous: $request.include_previous,
            buffer: $request.buffer.into(),
            initial_state: $request.send_initial_state,
            bookmarks: $crate::faces::grpc::bookmark_interval($request.bookmark_interval),
            mark: $request.policy,
            ..Default::default()
        }
    };
}
pub(crate) use watch_request;

/// Answers a watch: the headers carry the position, which is fixed by now.
pub fn answer_watch<T>(call: &Call, stream: WatchStream) -> Response<EventStream<T>> {
    let mut response = Response::new(EventStream::default());
    let metadata = response.metadata_mut();
    metadata.insert("hub-revision", stream.revision_at_start().get().into());
    if let Ok(epoch) = MetadataValue::try_from(stream.epoch().as_str()) {
        metadata.insert("hub-epoch", epoch);
    }
    if let Ok(mark) = MetadataValue::try_from(stream.mark())
        && !stream.mark().is_empty()
    {
        metadata.insert("hub-policy", mark);
    }
    response.extensions_mut().insert(RawBody::new(WatchBody { call: call.clone(), stream }));
    response
}

/// Travels as an extension of a response, past tonic's encoder; the face makes it the response's body.
#[derive(Clone)]
pub(super) struct RawBody(Arc<Mutex<Option<WatchBody>>>);

impl RawBody {
    fn new(body: WatchBody) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// The body; there is one.
    pub(super) fn take(self) -> Option<WatchBody> {
        self.0.lock().take()
    }
}

/// The body of a watch.
pub struct WatchBody {
    call: Call,
    stream: WatchStream,
}

impl WatchBody {
    /// The trailers of a stream that the hub ends for this reason.
    pub(super) fn end(&mut self, error: Error) -> Result<HeaderMap, Status> {
        let end = self.stream.end(error);
        self.trailers(&end)
    }

    /// The status, with what the stream has delivered and dropped.
    fn trailers(&self, end: &WatchEnd) -> Result<HeaderMap, Status> {
        let mut status = status(&end.error, &self.call);
        let metadata = status.metadata_mut();
        if let Some(revision) = end.revision {
            metadata.insert("hub-revision", revision.get().into());
        }
        metadata.insert("hub-dropped", end.dropped.into());
        trailers(&status)
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(match ready!(self.stream.poll_next(cx)) {
            Some(WatchStep::Frames(frames)) => Some(Ok(Frame::data(frames))),
            Some(WatchStep::End(end)) => Some(self.trailers(&end).map(Frame::trailers)),
            None => None,
        })
    }
}
