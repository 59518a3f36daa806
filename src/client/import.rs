//! The import client that follows the protocol, and the model for clients in other languages.
//!
//! It knows how many items were offered to it, how many of those the hub has decided, and keeps the ones in
//! between. When a connection is lost it opens another one with the same import id and is told where to go
//! on: what was decided meanwhile is forgotten, the rest is sent again. So every item is created once, or
//! fails once, whatever happens to the hub, to its database or to the connection. A second process may offer
//! the same items again from the first on; those that were decided before are passed over. Step by step:
//! docs/bulk.md.

use super::{BACKOFF, Hub, cause};
use crate::backoff::Backoff;
use crate::proto::{
    codec::Streamed,
    rh_trex::v1::{
        Error, ImportDinosaursItem, ImportDinosaursRequest, ImportDinosaursResponse, ImportDinosaursStart,
        dinosaur_service_client::DinosaurServiceClient, import_dinosaurs_request::Message,
    },
};
use futures_util::{StreamExt, future::BoxFuture, stream};
use std::{collections::VecDeque, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// Items per step to the connection: enough to cost little each, and few enough to begin soon.
const STEP: usize = 256;
/// Undecided items are kept in memory up to these bounds, one batch that is being committed and the next
/// ones.
const KEPT_BATCHES: usize = 4;
const KEPT_BYTES: usize = 8 << 20;
const ASSUMED_BATCH: usize = 1_000;

/// What is imported, and as what.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Names the import: the same id goes on with the same import. 1 to 128 visible ASCII characters.
    pub import_id: String,
    /// Items per transaction; 0: the hub's default.
    pub batch_size: u32,
    /// Everything below this index was handled by an earlier process: its failures need not be reported
    /// again. 0 if nothing is known.
    pub acknowledged: u64,
}

/// What happens to an import.
#[derive(Debug)]
pub enum ImportNotice {
    /// The hub has decided items. Each connection begins with one.
    Decided(Decided),
    /// The connection ended; the import goes on where it stopped.
    Disconnected {
        /// Why.
        why: String,
        /// When.
        retry_in: Duration,
    },
    /// All that was offered is decided, and the hub has nothing more to say.
    Finished,
}

/// How far an import has come, over all its connections and processes.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Every item below this index was created, durably, or has failed for good.
    pub next_index: u64,
    /// How many were created.
    pub created: u64,
    /// How many have failed. The sum of the two is `next_index`.
    pub failed: u64,
    /// The failures since the notice before, by index.
    pub errors: Vec<Error>,
    /// How many of them `errors` leaves out.
    pub errors_omitted: u32,
}

/// An import that survives its connections.
pub struct Import {
    hub: Hub,
    options: ImportOptions,
    window: Window,
    /// Whether no more items will be offered.
    complete: bool,
    link: Link,
    backoff: Backoff,
}

type Requests = mpsc::Sender<Vec<ImportDinosaursItem>>;

enum Link {
    Opening(BoxFuture<'static, Result<Connection, Status>>),
    Open(Box<Connection>),
    /// Ended for good, and how.
    Closed(Result<(), Status>),
}

struct Connection {
    /// None: this side is closed.
    requests: Option<Requests>,
    answers: Streaming<ImportDinosaursResponse>,
    /// The answer to `start`, until it was handled.
    first: Option<ImportDinosaursResponse>,
}

impl Import {
    /// An import into a hub; connects at the first [`Import::next`].
    pub fn new(hub: Hub, options: ImportOptions) -> Self {
        let batch = usize::try_from(options.batch_size).unwrap_or(usize::MAX).max(ASSUMED_BATCH);
        let window = Window::new(KEPT_BATCHES.saturating_mul(batch), options.acknowledged);
        let mut import =
            Self { hub, options, window, complete: false, link: Link::Closed(Ok(())), backoff: BACKOFF };
        import.open(Duration::ZERO);
        import
    }

    /// Whether another item may be offered now. If not, [`Import::next`] makes room.
    pub fn has_room(&self) -> bool {
        self.window.has_room()
    }

    /// How many items were offered that the hub has not decided.
    pub fn undecided(&self) -> usize {
        self.window.items.len()
    }

    /// Offers the next item. It is sent by [`Import::next`], unless the hub has decided it already.
    pub fn offer(&mut self, item: ImportDinosaursItem) {
        self.window.offer(item);
    }

    /// Says that there are no more items.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Sends what was offered, and returns what happens next. May be dropped and called again at any time. An
    /// error is final: trying again does not help, or might create rows twice.
    pub async fn next(&mut self) -> Result<ImportNotice, Status> {
        let outcome = match &mut self.link {
            Link::Opening(attempt) => match attempt.await {
                Ok(connection) => {
                    self.link = Link::Open(Box::new(connection));
                    self.exchange().await
                }
                Err(status) => Err(status),
            },
            Link::Open(_) => self.exchange().await,
            Link::Closed(end) => return end.clone().map(|()| ImportNotice::Finished),
        };
        match outcome {
            Err(status) if may_go_on(&status) || self.hub.has_another_token(&status) => {
                Ok(self.disconnected(&status))
            }
            Err(status) => {
                self.link = Link::Closed(Err(status.clone()));
                Err(status)
            }
            progress => progress,
        }
    }

    /// Writes and reads until there is something to report. The hub reads no faster than it commits, so
    /// neither side may wait for the other.
    async fn exchange(&mut self) -> Result<ImportNotice, Status> {
        let Link::Open(connection) = &mut self.link else { return Ok(ImportNotice::Finished) };
        if let Some(first) = connection.first.take() {
            let moved = self.window.resume(first.next_index)?;
            return Ok(self.decided(first, moved));
        }
        loop {
            if self.complete && !self.window.has_unsent() {
                connection.requests = None;
            }
            let sending = connection.requests.as_ref().filter(|_| self.window.has_unsent());
            let answer = tokio::select! {
                Some(Ok(permit)) = async { Some(sending?.reserve().await) } => {
                    permit.send(self.window.send(STEP));
                    continue;
                }
                answer = connection.answers.message() => answer?,
            };
            match answer {
                Some(answer) => {
                    let moved = self.window.decide(answer.next_index)?;
                    return Ok(self.decided(answer, moved));
                }
                None if self.complete => return self.end(),
                None => return Err(Status::unavailable("the hub ended the stream")),
            }
        }
    }

    fn decided(&mut self, answer: ImportDinosaursResponse, moved: bool) -> ImportNotice {
        if moved {
            self.backoff.reset();
        }
        let ImportDinosaursResponse { next_index, created, failed, errors, errors_omitted } = answer;
        ImportNotice::Decided(Decided { next_index, created, failed, errors, errors_omitted })
    }

    /// The hub has ended the stream with OK, after this side was closed.
    fn end(&mut self) -> Result<ImportNotice, Status> {
        if self.window.decided > self.window.offered {
            return Err(Status::failed_precondition(format!(
                "the hub has decided {} items of import {}, and only {} were offered: these are others",
                self.window.decided, self.options.import_id, self.window.offered
            )));
        }
        if !self.window.items.is_empty() {
            return Err(Status::unavailable("the hub ended the stream before it had decided everything"));
        }
        self.link = Link::Closed(Ok(()));
        Ok(ImportNotice::Finished)
    }

    fn disconnected(&mut self, status: &Status) -> ImportNotice {
        let asked = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        let retry_in = asked.unwrap_or_default().max(self.backoff.next_pause());
        self.open(retry_in);
        ImportNotice::Disconnected { why: format!("{:?}: {}", status.code(), cause(status)), retry_in }
    }

    /// Begins an attempt that [`Import::next`] drives; it outlives a dropped call of `next`.
    fn open(&mut self, after: Duration) {
        let start = ImportDinosaursStart {
            import_id: self.options.import_id.clone(),
            batch_size: self.options.batch_size,
            acknowledged: self.window.decided,
        };
        let hub = self.hub.clone();
        self.link = Link::Opening(Box::pin(async move {
            tokio::time::sleep(after).await;
            connect(&hub, start).await
        }));
    }
}

async fn connect(hub: &Hub, start: ImportDinosaursStart) -> Result<Connection, Status> {
    let channel = hub.connect().await?;
    // One step waits here while another is being written: HTTP/2 and the hub set the pace.
    let (requests, steps) = mpsc::channel::<Vec<ImportDinosaursItem>>(1);
    let items = ReceiverStream::new(steps).flat_map(stream::iter).map(Message::Item);
    let messages = stream::iter([Message::Start(start)]).chain(items);
    let messages =
        messages.map(|message| Streamed::Message(ImportDinosaursRequest { message: Some(message) }));
    let mut answers = DinosaurServiceClient::new(channel).import_dinosaurs(messages).await?.into_inner();
    let first = answers.message().await?;
    let first = first.ok_or_else(|| Status::unavailable("the hub did not answer"))?;
    Ok(Connection { requests: Some(requests), answers, first: Some(first) })
}

/// Whether another connection can go on. A connection that would only take the import from another stream
/// must not be made.
fn may_go_on(status: &Status) -> bool {
    let is_too_large = || status.get_details_error_info().is_some_and(|info| info.reason == "TOO_LARGE");
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Internal | Code::Unknown => true,
        Code::ResourceExhausted => !is_too_large(),
        _ => false,
    }
}

/// The items that are not decided yet, and where they stand in the import.
struct Window {
    /// How many items were offered; the index of the next one.
    offered: u64,
    /// Every item below this index is decided. May be ahead of what was offered, if another process was here
    /// before.
    decided: u64,
    /// The items in between.
    items: VecDeque<ImportDinosaursItem>,
    /// How many of them were given to this connection.
    sent: usize,
    /// Their encoded size in bytes, about.
    bytes: usize,
    most_items: usize,
    /// Whether the hub has answered to this process.
    answered: bool,
}

impl Window {
    fn new(most_items: usize, acknowledged: u64) -> Self {
        Self {
            offered: 0,
            decided: acknowledged,
            items: VecDeque::new(),
            sent: 0,
            bytes: 0,
            most_items,
            answered: false,
        }
    }

    fn has_room(&self) -> bool {
        // What was decided before this process began need not wait, but where that ends must be known first.
        self.answered && self.items.len() < self.most_items && self.bytes < KEPT_BYTES
    }

    fn offer(&mut self, item: ImportDinosaursItem) {
        if self.offered >= self.decided {
            self.bytes += weight(&item);
            self.items.push_back(item);
        }
        self.offered += 1;
    }

    fn has_unsent(&self) -> bool {
        self.sent < self.items.len()
    }

    /// The next items for this connection.
    fn send(&mut self, most: usize) -> Vec<ImportDinosaursItem> {
        let step: Vec<_> = self.items.iter().skip(self.sent).take(most).cloned().collect();
        self.sent += step.len();
        step
    }

    /// Goes on from here on a new connection, which was given nothing yet. Returns whether the import has
    /// moved on meanwhile.
    fn resume(&mut self, next_index: u64) -> Result<bool, Status> {
        self.answered = true;
        // What is kept may be decided already, and so may what was not offered yet.
        self.sent = self.items.len();
        let moved = self.move_to(next_index)?;
        self.sent = 0;
        Ok(moved)
    }

    /// Takes an acknowledgement. Returns whether the import has moved on.
    fn decide(&mut self, next_index: u64) -> Result<bool, Status> {
        if next_index > self.decided + self.sent as u64 {
            return Err(Status::data_loss(format!("the hub decided item {next_index}, which was not sent")));
        }
        self.move_to(next_index)
    }

    fn move_to(&mut self, next_index: u64) -> Result<bool, Status> {
        let Some(count) = next_index.checked_sub(self.decided) else {
            return Err(Status::data_loss(format!(
                "the hub had decided {} items and knows of {next_index} now: its database went back",
                self.decided
            )));
        };
        self.forget(usize::try_from(count).unwrap_or(usize::MAX).min(self.items.len()));
        self.decided = next_index;
        Ok(count > 0)
    }

    fn forget(&mut self, count: usize) {
        for item in self.items.drain(..count) {
            self.bytes -= weight(&item);
        }
        self.sent -= count;
    }
}

fn weight(item: &ImportDinosaursItem) -> usize {
    size_of::<ImportDinosaursItem>() + item.id.len() + item.species.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: u64) -> ImportDinosaursItem {
        ImportDinosaursItem { id: n.to_string(), species: "x".into() }
    }

    fn offer(window: &mut Window, indices: std::ops::Range<u64>) {
        indices.for_each(|n| window.offer(item(n)));
    }

    fn sent(window: &mut Window, most: usize) -> Vec<u64> {
        window.send(most).iter().map(|item| item.id.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_not_decided_is_sent_again_on_the_next_connection() {
        let mut window = Window::new(4, 0);
        assert!(!window.has_room(), "where to begin is not known yet");
        assert!(!window.resume(0).unwrap());
        offer(&mut window, 0..4);
        assert!(!window.has_room());
        assert_eq!(sent(&mut window, 3), [0, 1, 2]);
        assert!(window.decide(2).unwrap());
        assert!(window.has_room());
        assert_eq!(sent(&mut window, 9), [3]);
        assert!(!window.has_unsent());
        // One more was decided, and its acknowledgement was lost with the connection.
        assert!(window.resume(3).unwrap());
        assert_eq!(sent(&mut window, 9), [3]);
        assert!(window.decide(4).unwrap());
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn what_another_process_imported_is_passed_over() {
        let mut window = Window::new(4, 0);
        window.resume(6).unwrap();
        offer(&mut window, 0..8);
        assert_eq!(sent(&mut window, 9), [6, 7]);
        assert!(window.decide(8).unwrap());
        assert_eq!((window.offered, window.decided), (8, 8));
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let mut window = Window::new(4, 3);
        assert_eq!(window.resume(2).unwrap_err().code(), Code::DataLoss, "back before what was known");
        window.resume(3).unwrap();
        offer(&mut window, 0..5);
        assert_eq!(sent(&mut window, 1), [3]);
        assert_eq!(window.decide(5).unwrap_err().code(), Code::DataLoss, "item 4 was not sent");
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        use tonic_types::ErrorDetails;
        let status = |code, reason: &str| {
            Status::with_error_details(code, "", ErrorDetails::with_error_info(reason, "trex.hub", []))
        };
        for code in
            [Code::Unavailable, Code::Internal, Code::Unknown, Code::Cancelled, Code::DeadlineExceeded]
        {
            assert!(may_go_on(&status(code, "")), "{code:?}");
        }
        assert!(may_go_on(&status(Code::ResourceExhausted, "TOO_MANY")));
        assert!(may_go_on(&Status::resource_exhausted("says a proxy")));
        assert!(!may_go_on(&status(Code::ResourceExhausted, "TOO_LARGE")));
        for code in [Code::Aborted, Code::OutOfRange, Code::FailedPrecondition, Code::AlreadyExists] {
            assert!(!may_go_on(&status(code, "")), "{code:?}");
        }
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut window = Window::new(1000, 0);
        window.resume(0).unwrap();
        let large = ImportDinosaursItem { id: String::new(), species: "x".repeat(KEPT_BYTES / 2) };
        window.offer(large.clone());
        assert!(window.has_room());
        window.offer(large);
        assert!(!window.has_room());
    }
}
