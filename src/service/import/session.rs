//! One stream of items: a batch fills while another one commits.

use super::{
    Place, draining,
    writer::{Writer, failure},
};
use crate::{
    error::Error,
    store::{Batch, Failure, NewRow},
};
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use std::{mem, pin::Pin, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A batch that is not full is committed when nothing has come for this long: a client that waits for its
/// acknowledgement has sent all it has.
const IDLE: Duration = Duration::from_millis(20);
/// And when its first item has waited for this long: a client that sends steadily and slowly would never be
/// idle.
const OLDEST: Duration = Duration::from_millis(200);
/// A batch of this many bytes is full, however few its items are.
const LARGEST_BATCH_BYTES: usize = 1 << 20;
/// Indices are `int32` in the API.
const MOST_ITEMS: u64 = i32::MAX as u64;

/// An item as its client sent it; one that is wrong fails alone.
pub type Item = Result<NewRow, Error>;

/// The first failures, and how many more there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// By index.
    pub first: Vec<Failure>,
    /// How many more.
    pub omitted: u64,
}

impl Failures {
    /// How many are listed.
    pub const MOST: usize = 1000;

    /// The first of them, of `total` in all.
    pub(super) fn known((first, total): (Vec<Failure>, u64)) -> Self {
        let omitted = total.saturating_sub(first.len() as u64);
        Self { first, omitted }
    }

    /// Adds one.
    pub fn push(&mut self, failure: Failure) {
        if self.first.len() < Self::MOST {
            self.first.push(failure);
        } else {
            self.omitted += 1;
        }
    }

    /// Adds those of a later acknowledgement.
    pub fn extend(&mut self, later: Self) {
        later.first.into_iter().for_each(|failure| self.push(failure));
        self.omitted += later.omitted;
    }
}

/// What is decided, and durable.
#[derive(Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Every item below.
    pub next_index: u64,
    /// How many of them were created.
    pub created: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Those that failed since the previous acknowledgement.
    pub failures: Failures,
}

/// Where items come from.
enum Source<S> {
    Open(S),
    /// No more are taken; the error is reported once everything before it is acknowledged.
    Closed(Option<Error>),
}

/// The committer: idle, or at a batch.
enum Committer {
    Idle(Box<Writer>),
    Busy(BoxFuture<'static, (Box<Writer>, Result<Acknowledgement, Error>)>),
    /// An error was reported.
    Ended,
}

/// What a session waits for.
enum Event {
    Item(Option<Result<Item, Error>>),
    Committed(Box<Writer>, Result<Acknowledgement, Error>),
    Due,
    Draining,
}

/// One stream.
pub struct Session<S> {
    source: Source<S>,
    committer: Committer,
    filling: Filling,
    /// Items that an earlier stream has decided, and this one has yet to skip.
    skip: u64,
    /// Ready when the hub drains.
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
}

impl<S: Stream<Item = Result<Item, Error>> + Unpin> Session<S> {
    pub(super) fn new(place: Place, writer: Writer, batch_size: u32, skip: u64, items: S) -> Self {
        Self {
            source: Source::Open(items),
            filling: Filling::new(batch_size as usize, writer.next_index()),
            committer: Committer::Idle(Box::new(writer)),
            skip,
            drain: Box::pin(place.shared.drain.clone().cancelled_owned()),
            place,
        }
    }

    /// The next acknowledgement; `None`: every item is acknowledged. An error is the last item. Dropping a
    /// session forgets what it has not committed, and cancels what it is committing.
    pub async fn next(&mut self) -> Option<Result<Acknowledgement, Error>> {
        loop {
            if let Some(end) = self.advance() {
                return end.map(Err);
            }
            match self.event().await {
                Event::Item(Some(Ok(_))) if self.skip > 0 => {
                    self.skip -= 1;
                    self.place.shared.metrics.skipped();
                }
                Event::Item(Some(Ok(_))) if self.filling.batch.end >= MOST_ITEMS => {
                    let why = format!("a stream has at most {MOST_ITEMS} items");
                    self.source = Source::Closed(Some(Error::TooLarge(why)));
                }
                Event::Item(Some(Ok(item))) => {
                    self.place.shared.metrics.received();
                    self.filling.push(item);
                }
                Event::Item(Some(Err(error))) => self.source = Source::Closed(Some(error)),
                Event::Item(None) => self.source = Source::Closed(self.ended_early()),
                Event::Committed(writer, Ok(acknowledgement)) => {
                    self.committer = Committer::Idle(writer);
                    return Some(Ok(acknowledgement));
                }
                Event::Committed(_, Err(error)) => {
                    self.committer = Committer::Ended;
                    return Some(Err(error));
                }
                Event::Due => {}
                Event::Draining => {
                    self.filling.clear();
                    self.source = Source::Closed(Some(draining()));
                }
            }
            // A client with much in flight must not starve other streams of this thread.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The error of a client that ended too early: it has not sent all the items again that are decided.
    fn ended_early(&self) -> Option<Error> {
        let known = self.filling.batch.start;
        (self.skip > 0).then(|| Error::ImportDiffers { known, sent: known - self.skip })
    }

    /// Commits the batch if it is due and no other is being committed. `Some`: the end.
    fn advance(&mut self) -> Option<Option<Error>> {
        let committer = mem::replace(&mut self.committer, Committer::Ended);
        let Committer::Idle(mut writer) = committer else {
            let ended = matches!(committer, Committer::Ended);
            self.committer = committer;
            return ended.then_some(None);
        };
        if let Source::Closed(error) = &mut self.source
            && self.filling.is_empty()
        {
            return Some(error.take().map(|error| writer.interrupted(error, 0)));
        }
        let closed = matches!(self.source, Source::Closed(_));
        self.committer = if !self.filling.is_empty() && (closed || self.filling.is_due()) {
            let batch = self.filling.take();
            Committer::Busy(
                async move {
                    let result = writer.commit(batch).await;
                    (writer, result)
                }
                .boxed(),
            )
        } else {
            Committer::Idle(writer)
        };
        None
    }

    async fn event(&mut self) -> Event {
        let Self { source, committer, filling, drain, .. } = self;
        let (open, idle) = (matches!(source, Source::Open(_)), matches!(committer, Committer::Idle(_)));
        let (full, due) = (filling.is_full(), filling.due());
        let committed = async {
            match committer {
                Committer::Busy(commit) => commit.await,
                Committer::Idle(_) | Committer::Ended => std::future::pending().await,
            }
        };
        let item = async {
            match source {
                Source::Open(items) => items.next().await,
                Source::Closed(_) => std::future::pending().await,
            }
        };
        let due = async {
            match due {
                Some(due) if idle => tokio::time::sleep_until(due).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = drain, if open => Event::Draining,
            (writer, result) = committed, if !idle => Event::Committed(writer, result),
            item = item, if open && !full => Event::Item(item),
            // Items come first: what has already arrived still gets into the batch.
            () = due => Event::Due,
        }
    }
}

/// The batch that fills.
struct Filling {
    size: usize,
    batch: Batch,
    bytes: usize,
    first: Instant,
    last: Instant,
}

impl Filling {
    fn new(size: usize, start: u64) -> Self {
        let now = Instant::now();
        let batch = Batch { start, end: start, ..Batch::default() };
        Self { size, batch, bytes: 0, first: now, last: now }
    }

    fn push(&mut self, item: Item) {
        self.last = Instant::now();
        if self.is_empty() {
            self.first = self.last;
        }
        let index = self.batch.end;
        self.batch.end += 1;
        match item {
            Ok(row) => {
                self.bytes += row.bytes();
                self.batch.rows.push((index, row));
            }
            Err(error) => {
                let failure = failure(index, &error);
                self.bytes += failure.message.len() + mem::size_of::<Failure>();
                self.batch.failures.push(failure);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.batch.start == self.batch.end
    }

    fn is_full(&self) -> bool {
        self.batch.end - self.batch.start >= self.size as u64 || self.bytes >= LARGEST_BATCH_BYTES
    }

    /// When it is to be committed even if it is not full.
    fn due(&self) -> Option<Instant> {
        (!self.is_empty()).then(|| (self.last + IDLE).min(self.first + OLDEST))
    }

    fn is_due(&self) -> bool {
        self.is_full() || self.due().is_some_and(|due| due <= Instant::now())
    }

    /// The batch, and an empty one in its place.
    fn take(&mut self) -> Batch {
        let next = Self::new(self.size, self.batch.end);
        mem::replace(self, next).batch
    }

    fn clear(&mut self) {
        *self = Self::new(self.size, self.batch.start);
    }
}
