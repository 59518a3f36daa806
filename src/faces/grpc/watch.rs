//! A watch: its request in the hub's own words, and its response body, which hands the log's bytes to HTTP/2 as they are.

use super::{EventStream, Hub, face, status, topic};
use crate::{
    broker::{Ending, Era, Interest, Policy, Refused, Step, Subscription, Topic},
    call::Call,
    error::Error,
    feed::snapshot::{Broken, SpoolReader},
    model::{
        ChangeType, Revision, Selector, Start,
        filter::{Filter, Malformed, Schema, Scope},
    },
    proto::rh_trex::v1::{BackpressurePolicy, EventType},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use parking_lot::Mutex;
use std::{
    ops::RangeInclusive,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tonic::{Response, Status, metadata::MetadataValue};

/// Resource ids in one request, and their length in bytes.
const MAX_RESOURCE_IDS: usize = 1000;
const MAX_RESOURCE_ID_BYTES: usize = 1024;

/// How often bookmarks may be wanted.
const BOOKMARK_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// A watch that starts ahead of this hub, and not of the database, waits so long for the hub.
const CATCHING_UP: Duration = Duration::from_secs(5);

/// The fields that every kind's watch request has.
#[derive(Debug, Default)]
pub struct WatchRequest {
    /// Change types, as numbers of `EventType`; empty: all.
    pub types: Vec<i32>,
    /// Resource ids; empty: all.
    pub resource_ids: Vec<String>,
    /// Which of those, as [`WatchRequest::filter`] reads it; `None`: all.
    pub filter: Option<Filter>,
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
    /// Whether the stream begins with the rows that are there.
    pub send_initial_state: bool,
    /// How often a BOOKMARK is wanted.
    pub bookmark_interval: Option<prost_types::Duration>,
}

impl WatchRequest {
    /// Reads the filter of a request.
    pub fn filter(text: &str, schema: &'static Schema) -> Result<Option<Filter>, Error> {
        Filter::parse(text, schema, Scope::Events)
            .map_err(|fault| Error::invalid("filter", fault.to_string()))
    }

    fn interest(self, hub: &Hub) -> Result<Interest, Error> {
        let policy = match BackpressurePolicy::try_from(self.backpressure) {
            Ok(BackpressurePolicy::Unspecified | BackpressurePolicy::Drop) => Policy::Drop,
            Ok(BackpressurePolicy::CatchUp) => Policy::CatchUp,
            Ok(BackpressurePolicy::Disconnect) => Policy::Disconnect,
            Ok(BackpressurePolicy::Latest) => Policy::Latest,
            Err(_) => {
                return Err(Error::invalid("backpressure", format!("{} is no policy", self.backpressure)));
            }
        };
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
            filter: self.filter,
            include_previous: self.include_previous,
            buffer,
            policy,
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
    pub async fn watch<T>(
        &self,
        call: &Call,
        kind: &str,
        request: WatchRequest,
    ) -> Result<Response<EventStream<T>>, Error> {
        let era = self.era()?;
        if !request.epoch.is_empty() && request.epoch != era.epoch.as_str() {
            return Err(Error::EpochChanged { current: era.epoch.clone() });
        }
        if request.send_initial_state && request.after.is_some() {
            return Err(Error::invalid(
                "send_initial_state",
                "goes with no after_revision: the state is that of now",
            ));
        }
        let bookmarks = request.bookmark_interval.map(Bookmarks::every).transpose()?;
        let (initial, after) = (request.send_initial_state, request.after);
        let interest = request.interest(self)?;
        let topic = &topic(&era, kind)?;
        let opening = async {
            if initial {
                return self.begin_with_state(&era, topic, interest).await;
            }
            let start = after.map_or(Start::Now, Start::After);
            Ok((None, self.subscribe(topic, start, interest).await?))
        };
        let (state, subscription) = self.broker.unless_draining(opening).await.map_err(error_of)??;
        let subscription = subscription.of(call.clone());
        let mut response = Response::new(EventStream::default());
        let metadata = response.metadata_mut();
        metadata.insert("hub-revision", subscription.revision_at_start().get().into());
        if let Ok(epoch) = MetadataValue::try_from(era.epoch.as_str()) {
            metadata.insert("hub-epoch", epoch);
        }
        let body = WatchBody::new(call.clone(), state, subscription, bookmarks);
        response.extensions_mut().insert(RawBody::new(body));
        Ok(response)
    }

    async fn begin_with_state(
        &self,
        era: &Era,
        topic: &Arc<Topic>,
        interest: Interest,
    ) -> Result<(Option<SpoolReader>, Subscription), Error> {
        let (selector, filter) = (interest.selector.clone(), interest.filter.clone());
        let snapshot = self.snapshots.open(topic.kind().as_str(), selector, filter).await?;
        if snapshot.epoch != era.epoch {
            return Err(Error::EpochChanged { current: snapshot.epoch });
        }
        // This hub reads its own seal any moment.
        caught_up(topic, snapshot.revision).await?;
        let start = Start::AfterStateAt(snapshot.revision);
        Ok((Some(snapshot.frames), self.subscribe(topic, start, interest).await?))
    }

    async fn subscribe(
        &self,
        topic: &Arc<Topic>,
        start: Start,
        interest: Interest,
    ) -> Result<Subscription, Error> {
        let asked = match start {
            Start::After(asked) | Start::AfterStateAt(asked) => asked,
            Start::Now => Revision::ZERO,
        };
        match topic.subscribe(start, interest.clone()) {
            // Another hub may have sealed it: the database knows, and this hub reads it any moment.
            Err(Refused::Ahead { .. }) => match self.store.head().await? {
                head if asked > head => return Err(Error::RevisionUnknown { asked, head }),
                _ => caught_up(topic, asked).await?,
            },
            subscribed => return subscribed.map_err(|refused| refusal(refused, asked)),
        }
        topic.subscribe(start, interest).map_err(|refused| refusal(refused, asked))
    }
}

fn refusal(refused: Refused, asked: Revision) -> Error {
    match refused {
        Refused::TooMany => Error::TooMany { what: "the hub has as many watches as it may hold" },
        Refused::TooManyFilters => {
            Error::TooMany { what: "the hub has as many different filters as it may hold" }
        }
        Refused::Compacted { oldest } => Error::RevisionCompacted { asked, oldest },
        Refused::Ahead { head } => Error::RevisionUnknown { asked, head },
    }
}

/// Waits for the hub to have published what its database has sealed of a kind.
async fn caught_up(topic: &Topic, revision: Revision) -> Result<(), Error> {
    tokio::time::timeout(CATCHING_UP, topic.reached(revision)).await.map_err(|_| Error::Unavailable {
        why: "the hub has not caught up with its database yet",
        retry_after: Duration::from_secs(1),
    })
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

/// When the next bookmark is due.
struct Bookmarks {
    interval: Duration,
    due: Pin<Box<Sleep>>,
}

impl Bookmarks {
    fn every(interval: prost_types::Duration) -> Result<Self, Error> {
        let interval =
            Duration::try_from(interval).ok().filter(|interval| BOOKMARK_INTERVALS.contains(interval));
        let interval = interval.ok_or_else(|| {
            Error::invalid("bookmark_interval", format!("must be within {BOOKMARK_INTERVALS:?}"))
        })?;
        Ok(Self { interval, due: Box::pin(tokio::time::sleep(jittered(interval))) })
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.due.as_mut().poll(cx).is_ready();
        if due {
            self.due.as_mut().reset(Instant::now() + jittered(self.interval));
            // Asks to be woken when the next one is due.
            let _ = self.due.as_mut().poll(cx);
        }
        due
    }
}

/// So that a crowd that came at once is not served at once for ever.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + fastrand::f64() / 10.0)
}

/// What a watch sends, in this order.
enum Stage {
    /// The rows that are there.
    State(SpoolReader),
    /// The bookmark that says: that was the state.
    Boundary,
    /// Events.
    Events,
    /// Trailers have been sent.
    Ended,
}

/// The body of a watch.
pub struct WatchBody {
    call: Call,
    stage: Stage,
    subscription: Subscription,
    bookmarks: Option<Bookmarks>,
}

impl WatchBody {
    fn new(
        call: Call,
        state: Option<SpoolReader>,
        subscription: Subscription,
        bookmarks: Option<Bookmarks>,
    ) -> Self {
        Self { call, stage: state.map_or(Stage::Events, Stage::State), subscription, bookmarks }
    }

    /// The trailers of a stream that the hub ends.
    pub(super) fn end(&mut self, error: Error) -> Result<HeaderMap, Status> {
        let complete = matches!(self.stage, Stage::Boundary | Stage::Events);
        self.stage = Stage::Ended;
        trailers(&self.call, &error, &self.subscription, complete)
    }

    fn last(&mut self, error: Error) -> Result<Frame<Bytes>, Status> {
        self.end(error).map(Frame::trailers)
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = match &mut this.stage {
            Stage::State(_) if let Poll::Ready(ending) = this.subscription.poll_ending(cx) => {
                this.last(error_of(ending))
            }
            Stage::State(rows) => match ready!(rows.poll_next(cx)) {
                Some(Ok(bytes)) => Ok(Frame::data(bytes)),
                Some(Err(Broken::Interrupted)) => this.last(Error::Unavailable {
                    why: "the database went away before the state was read",
                    retry_after: Duration::from_secs(1),
                }),
                Some(Err(Broken::Failed(why))) => {
                    this.last(Error::Internal(anyhow::anyhow!("initial state: {why}")))
                }
                None => {
                    this.stage = Stage::Boundary;
                    return self.poll_frame(cx);
                }
            },
            Stage::Boundary => {
                this.stage = Stage::Events;
                Ok(Frame::data(this.subscription.bookmark()))
            }
            Stage::Events if this.bookmarks.as_mut().is_some_and(|bookmarks| bookmarks.poll_due(cx)) => {
                Ok(Frame::data(this.subscription.bookmark()))
            }
            Stage::Events => match ready!(this.subscription.poll_next(cx)) {
                Step::Frames(bytes) => Ok(Frame::data(bytes)),
                Step::End(ending) => this.last(error_of(ending)),
            },
            Stage::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(frame))
    }
}

fn error_of(ending: Ending) -> Error {
    match ending {
        Ending::ShuttingDown { retry_after } => {
            Error::Unavailable { why: "the hub is shutting down", retry_after }
        }
        Ending::EpochChanged { epoch } => Error::EpochChanged { current: epoch },
        Ending::SlowConsumer => Error::SlowConsumer,
        Ending::FilterFailed => Error::Internal(Malformed.into()),
        Ending::Compacted { asked, oldest } => Error::RevisionCompacted { asked, oldest },
    }
}

/// The status, and what the stream has and has not delivered. A state that is not complete is no position to resume from.
fn trailers(
    call: &Call,
    error: &Error,
    subscription: &Subscription,
    complete: bool,
) -> Result<HeaderMap, Status> {
    let mut status = status(error, call);
    if complete {
        status.metadata_mut().insert("hub-revision", subscription.revision().get().into());
    }
    status.metadata_mut().insert("hub-dropped", subscription.dropped().into());
    face::trailers(&status)
}
