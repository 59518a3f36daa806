//! A watch: its request in the hub's own words, and its response body, which hands the log's bytes to HTTP/2 as they are.

use super::{EventStream, Hub};
use crate::{
    broker::{Ending, Interest, Refused, Step, Subscription},
    error::Error,
    log::Outside,
    model::{ChangeType, Revision, Selector, Start},
    proto::rh_trex::v1::{BackpressurePolicy, EventType},
};
use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tonic::{Response, Status, metadata::MetadataValue};

/// Resource ids in one request, and their length in bytes.
const MAX_RESOURCE_IDS: usize = 1000;
const MAX_RESOURCE_ID_BYTES: usize = 1024;

/// The fields that every kind's watch request has.
#[derive(Debug, Default)]
pub struct WatchRequest {
    /// Change types, as numbers of `EventType`; empty: all.
    pub types: Vec<i32>,
    /// Resource ids; empty: all.
    pub resource_ids: Vec<String>,
    /// Where to start; `None`: now.
    pub after: Option<Revision>,
    /// The epoch that `after` belongs to; empty: not said.
    pub epoch: String,
    /// A number of `BackpressurePolicy`.
    pub backpressure: i32,
    /// Whether the row before is wanted.
    pub include_previous: bool,
    /// How many events the stream may fall behind; 0: the hub's default.
    pub buffer: u32,
}

impl WatchRequest {
    fn interest(self, hub: &Hub) -> Result<Interest, Error> {
        match BackpressurePolicy::try_from(self.backpressure) {
            Ok(BackpressurePolicy::Unspecified | BackpressurePolicy::Drop) => {}
            Ok(_) => return Err(Error::Unimplemented { what: "backpressure" }),
            Err(_) => {
                return Err(Error::invalid("backpressure", format!("{} is no policy", self.backpressure)));
            }
        }
        let types = self.types.iter().map(|&number| change_type(number)).collect::<Result<Vec<_>, _>>()?;
        if self.resource_ids.len() > MAX_RESOURCE_IDS {
            return Err(Error::invalid("resource_ids", format!("has more than {MAX_RESOURCE_IDS} entries")));
        }
        if self.resource_ids.iter().any(|id| id.is_empty() || id.len() > MAX_RESOURCE_ID_BYTES) {
            return Err(Error::invalid(
                "resource_ids",
                format!("each must have 1 to {MAX_RESOURCE_ID_BYTES} bytes"),
            ));
        }
        let limits = hub.broker.limits();
        let buffer = match u64::from(self.buffer) {
            0 => limits.default_buffer,
            asked if asked > limits.max_buffer => {
                return Err(Error::invalid("buffer", format!("must be at most {}", limits.max_buffer)));
            }
            asked => asked,
        };
        Ok(Interest {
            selector: Selector::new(&types, self.resource_ids),
            include_previous: self.include_previous,
            buffer,
        })
    }
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

impl Hub {
    /// Answers a watch of a kind: the headers carry the position, which is fixed by now.
    pub fn watch<T>(&self, kind: &str, request: WatchRequest) -> Result<Response<EventStream<T>>, Status> {
        let (epoch, topic) = self.topic(kind)?;
        if !request.epoch.is_empty() && request.epoch != epoch.as_str() {
            return Err(Error::EpochChanged { current: epoch }.into());
        }
        let start = request.after.map_or(Start::Now, Start::After);
        let subscription =
            topic.subscribe(start, request.interest(self)?).map_err(|refused| match refused {
                Refused::Outside(outside) => outside_error(start, outside),
                Refused::TooMany => Error::TooMany { what: "the hub has as many watches as it may hold" },
            })?;
        let mut response = Response::new(EventStream::default());
        let metadata = response.metadata_mut();
        metadata.insert("hub-revision", subscription.revision_at_start().get().into());
        if let Ok(epoch) = MetadataValue::try_from(epoch.as_str()) {
            metadata.insert("hub-epoch", epoch);
        }
        response.extensions_mut().insert(RawBody::new(subscription));
        Ok(response)
    }
}

fn outside_error(start: Start, outside: Outside) -> Error {
    let asked = match start {
        Start::After(revision) => revision,
        Start::Now => Revision::ZERO,
    };
    match outside {
        Outside::TooOld { floor } => Error::RevisionCompacted { asked, oldest: floor },
        Outside::Ahead { head } => Error::RevisionUnknown { asked, head },
    }
}

/// Travels as an extension of a response, past tonic's encoder; the call layer makes it the response's body.
#[derive(Clone)]
pub struct RawBody(Arc<Mutex<Option<WatchBody>>>);

impl RawBody {
    fn new(subscription: Subscription) -> Self {
        Self(Arc::new(Mutex::new(Some(WatchBody(Some(subscription))))))
    }

    /// The body; there is one.
    pub fn take(self) -> Option<WatchBody> {
        self.0.lock().take()
    }
}

/// The frames of a subscription, then trailers. `None`: those have been sent.
pub struct WatchBody(Option<Subscription>);

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(subscription) = &mut self.0 else { return Poll::Ready(None) };
        Poll::Ready(Some(match ready!(subscription.poll_next(cx)) {
            Step::Frames(bytes) => Ok(Frame::data(bytes)),
            Step::End(ending) => {
                let trailers = trailers(&ending, subscription);
                self.0 = None;
                trailers.map(Frame::trailers)
            }
        }))
    }
}

/// The status, and what the stream has and has not delivered.
fn trailers(ending: &Ending, subscription: &Subscription) -> Result<http::HeaderMap, Status> {
    let error = match ending {
        Ending::ShuttingDown { retry_after } => {
            Error::Unavailable { why: "the hub is shutting down", retry_after: *retry_after }
        }
        Ending::EpochChanged { epoch } => Error::EpochChanged { current: epoch.clone() },
    };
    let mut status = Status::from(error);
    status.metadata_mut().insert("hub-revision", subscription.revision().get().into());
    status.metadata_mut().insert("hub-dropped", subscription.dropped().into());
    let mut trailers = http::HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(trailers)
}
