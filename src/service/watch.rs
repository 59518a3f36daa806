//! A watch: what its request asks for, how it passes from the current rows to what happens, and its next
//! step. How a step looks on the wire is the face's concern.

use super::{Action, Grant, Means, UseCases, authorize::OpenWatch, ended, topic};
use crate::{
    broker::{self, Composer, Era, Interest, Policy, Refused, SchemaInterest, Subscription, Topic},
    call::Call,
    catalog::Kind,
    error::Error,
    feed::snapshot::{Broken, SpoolReader},
    model::{
        ChangeType, Epoch, Revision, Selector, Start,
        filter::{Filter, Schema, Scope, Sight},
    },
    wire::Rendition,
};
use bytes::Bytes;
use std::{
    ops::RangeInclusive,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Resource ids in one request, and their length in bytes.
const MAX_RESOURCE_IDS: usize = 1000;
const MAX_RESOURCE_ID_BYTES: usize = 1024;

/// How often bookmarks may be wanted.
const BOOKMARK_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// A watch that starts ahead of this hub, but not of the database, waits this long for the hub.
const CATCHING_UP: Duration = Duration::from_secs(5);

/// Bookmarks of those who may see some rows only come this often at most: they tell that something is
/// written.
const EARLIEST: Duration = Duration::from_secs(1);

/// How rows are shown, and what filters may speak of.
pub(super) struct Shown<'a> {
    pub(super) schema: &'a Arc<Schema>,
    /// `None`: as they are.
    pub(super) composer: Option<Arc<Composer>>,
}

/// What is asked of a watch of any kind.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// Change types; empty: all.
    pub types: Vec<ChangeType>,
    /// Resource ids; empty: all.
    pub resource_ids: Vec<String>,
    /// Which of those, as an AIP-160 filter; empty: all.
    pub filter: String,
    /// Where to start; `None`: now.
    pub after: Option<Revision>,
    /// The epoch that `after` belongs to; empty: not said.
    pub epoch: String,
    /// How the events are encoded.
    pub rendition: Rendition,
    /// What happens to a stream that falls behind.
    pub policy: Policy,
    /// Whether the row before is wanted.
    pub include_previous: bool,
    /// How many events the stream may fall behind; 0: the hub's default.
    pub buffer: u64,
    /// Whether the stream begins with the current rows.
    pub initial_state: bool,
    /// How often a bookmark is wanted, from 100 ms to an hour; `None`: never.
    pub bookmarks: Option<Duration>,
    /// What named what could be seen where `after` is from; empty: not said.
    pub mark: String,
    /// Whether changes of the table are told.
    pub schema_events: bool,
    /// The columns that the watch names, without which it makes no sense.
    pub columns: Vec<String>,
}

/// Everything, from now on.
impl Default for WatchRequest {
    fn default() -> Self {
        Self {
            types: Vec::new(),
            resource_ids: Vec::new(),
            filter: String::new(),
            after: None,
            epoch: String::new(),
            rendition: Rendition::Grpc,
            policy: Policy::Drop,
            include_previous: false,
            buffer: 0,
            initial_state: false,
            bookmarks: None,
            mark: String::new(),
            schema_events: false,
            columns: Vec::new(),
        }
    }
}

impl WatchRequest {
    fn interest(self, shown: Shown<'_>, sight: &Sight, limits: &broker::Limits) -> Result<Interest, Error> {
        if self.resource_ids.len() > MAX_RESOURCE_IDS {
            return Err(Error::invalid("resource_ids", format!("has more than {MAX_RESOURCE_IDS} entries")));
        }
        if self.resource_ids.iter().any(|id| id.is_empty() || id.len() > MAX_RESOURCE_ID_BYTES) {
            return Err(Error::invalid(
                "resource_ids",
                format!("each must have 1 to {MAX_RESOURCE_ID_BYTES} bytes"),
            ));
        }
        let buffer = match self.buffer {
            0 => limits.default_buffer,
            asked if asked > limits.max_buffer => {
                return Err(Error::invalid("buffer", format!("must be at most {}", limits.max_buffer)));
            }
            asked => asked,
        };
        let filter = Filter::parse(&self.filter, shown.schema, Scope::Events)
            .map_err(|fault| Error::invalid("filter", fault.to_string()))?;
        let tested = filter.iter().flat_map(Filter::columns);
        let tested = tested.map(|field| (field.column.clone(), Some(field.value.clone())));
        let named = self.columns.into_iter().map(|name| (name, None));
        let schema = SchemaInterest { events: self.schema_events, needs: named.chain(tested).collect() };
        Ok(Interest {
            schema,
            selector: Selector::new(&self.types, self.resource_ids),
            filter,
            rendition: self.rendition,
            composer: shown.composer,
            sight: sight.clone(),
            include_previous: self.include_previous,
            buffer,
            policy: self.policy,
        })
    }
}

impl UseCases {
    /// Begins a watch of a kind. Its position is fixed when it is returned.
    pub async fn watch(&self, call: &Call, kind: &Kind, request: WatchRequest) -> Result<WatchStream, Error> {
        let (inner, grant) = self.enter(call, Action::Watch, Some(kind.name()))?;
        let shown = Shown { schema: &kind.schema, composer: None };
        self.watch_granted(call, (kind, shown), request, (&inner.means, &grant)).await
    }

    /// The same of what was granted, with rows as they are to be shown.
    pub(super) async fn watch_granted(
        &self,
        call: &Call,
        (kind, shown): (&Kind, Shown<'_>),
        request: WatchRequest,
        (means, grant): (&Means, &Grant),
    ) -> Result<WatchStream, Error> {
        let open = self.door.open_watch(call)?;
        let mark = grant.mark().to_owned();
        if !request.mark.is_empty() && request.after.is_some() && request.mark != mark {
            return Err(Error::PolicyChanged);
        }
        if request.initial_state && request.after.is_some() {
            return Err(Error::invalid(
                "send_initial_state",
                "goes with no after_revision: the state is that of now",
            ));
        }
        let earliest = if grant.sight().is_whole() { Duration::ZERO } else { EARLIEST };
        let bookmarks = request.bookmarks.map(|interval| Bookmarks::every(interval, earliest)).transpose()?;
        let (initial, after, epoch) = (request.initial_state, request.after, request.epoch.clone());
        let interest = request.interest(shown, grant.sight(), means.broker.limits())?;
        let era = means.era(call).await?;
        if !epoch.is_empty() && epoch != era.epoch.as_str() {
            return Err(Error::EpochChanged { current: era.epoch.clone() });
        }
        let topic = topic(&era, kind.name())?;
        let opening = async {
            if initial {
                return means.begin_with_state(&era, &topic, interest).await;
            }
            let start = after.map_or(Start::Now, Start::After);
            Ok((None, means.subscribe(&topic, start, interest).await?))
        };
        let (state, subscription) = means.broker.unless_draining(opening).await.map_err(ended)??;
        let subscription = subscription.of(call.clone());
        let stage = state.map_or(Stage::Events, Stage::State);
        Ok(WatchStream { epoch: era.epoch.clone(), mark, stage, subscription, bookmarks, _open: open })
    }
}

impl Means {
    async fn begin_with_state(
        &self,
        era: &Era,
        topic: &Arc<Topic>,
        interest: Interest,
    ) -> Result<(Option<SpoolReader>, Subscription), Error> {
        let snapshot = self.snapshots.open(topic.kind().as_str(), interest.clone()).await?;
        if snapshot.epoch != era.epoch {
            return Err(Error::EpochChanged { current: snapshot.epoch });
        }
        // This hub is about to read its own seal.
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
            // Another hub may have sealed it: the database knows, and this hub is about to read it.
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

/// When the next bookmark is due.
struct Bookmarks {
    interval: Duration,
    due: Pin<Box<Sleep>>,
}

impl Bookmarks {
    fn every(interval: Duration, earliest: Duration) -> Result<Self, Error> {
        if !BOOKMARK_INTERVALS.contains(&interval) {
            return Err(Error::invalid(
                "bookmark_interval",
                format!("must be within {BOOKMARK_INTERVALS:?}"),
            ));
        }
        let interval = interval.max(earliest);
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

/// Spreads the bookmarks of streams that began at the same moment.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + fastrand::f64() / 10.0)
}

/// What a watch sends, in this order.
enum Stage {
    /// The initial state.
    State(SpoolReader),
    /// The bookmark that ends the state.
    Boundary,
    /// Events.
    Events,
    /// The end has been reported.
    Ended,
}

/// What is next on a watch.
#[derive(Debug)]
pub enum WatchStep {
    /// Rows of the state, events or a bookmark, ready for the wire.
    Frames(Bytes),
    /// The hub ends the stream.
    End(WatchEnd),
}

/// Why the hub ends a watch, and what its client has got.
#[derive(Debug)]
pub struct WatchEnd {
    /// Why.
    pub error: Error,
    /// Up to here everything wanted was delivered or counted as dropped. `None`: the state is not complete,
    /// so there is no position to resume from.
    pub revision: Option<Revision>,
    /// How many wanted events were lost.
    pub dropped: u64,
}

/// A watch under way. Dropping it is the only way to leave.
pub struct WatchStream {
    epoch: Epoch,
    stage: Stage,
    subscription: Subscription,
    bookmarks: Option<Bookmarks>,
    mark: String,
    /// Counted among its principal's.
    _open: Option<OpenWatch>,
}

impl WatchStream {
    /// What names what can be seen, to be said again with a position; empty: there is no policy.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The history that it is of.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The revision after which it delivers.
    pub fn revision_at_start(&self) -> Revision {
        self.subscription.revision_at_start()
    }

    /// Ends the stream for this reason.
    pub fn end(&mut self, error: Error) -> WatchEnd {
        let complete = matches!(self.stage, Stage::Boundary | Stage::Events);
        self.stage = Stage::Ended;
        WatchEnd {
            error,
            revision: complete.then(|| self.subscription.revision()),
            dropped: self.subscription.dropped(),
        }
    }

    /// The next step; `None` after the end. To be called only when the connection has sent the step before: a
    /// stream that is not polled is how a blocked one is recognised.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchStep>> {
        let ending = match &mut self.stage {
            Stage::State(_) if let Poll::Ready(ending) = self.subscription.poll_ending(cx) => ended(ending),
            Stage::State(rows) => match ready!(rows.poll_next(cx)) {
                Some(Ok(frames)) => return Poll::Ready(Some(WatchStep::Frames(frames))),
                Some(Err(Broken::Interrupted)) => Error::Unavailable {
                    why: "the database went away before the state was read",
                    retry_after: Duration::from_secs(1),
                },
                Some(Err(Broken::Failed(why))) => Error::Internal(anyhow::anyhow!("initial state: {why}")),
                None => {
                    self.stage = Stage::Boundary;
                    return self.poll_next(cx);
                }
            },
            Stage::Boundary => {
                self.stage = Stage::Events;
                return Poll::Ready(Some(WatchStep::Frames(self.subscription.bookmark())));
            }
            Stage::Events if self.bookmarks.as_mut().is_some_and(|bookmarks| bookmarks.poll_due(cx)) => {
                return Poll::Ready(Some(WatchStep::Frames(self.subscription.bookmark())));
            }
            Stage::Events => match ready!(self.subscription.poll_next(cx)) {
                broker::Step::Frames(frames) => return Poll::Ready(Some(WatchStep::Frames(frames))),
                broker::Step::End(ending) => ended(ending),
            },
            Stage::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(WatchStep::End(self.end(ending))))
    }
}
