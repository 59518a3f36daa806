//! Watchers that record what they receive.

use super::PATIENCE;
use super::history::{Bookmark, End, Event, Headers, Key, Row, Stream};
use std::time::{Duration, Instant};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;
use trex::{
    model::{ChangeType, Revision},
    proto::rh_trex::v1::{
        DinosaurWatchEvent, EventType, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
    },
};

/// The last row of a run: created, updated, deleted in one transaction of its own after everything else.
pub const SENTINEL: &str = "sentinel";

/// How far a recorder is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Rows of the initial state.
    pub rows: u64,
    pub events: u64,
    pub bookmarks: u64,
    pub last: Option<Key>,
}

/// Whether a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Read,
    Pause,
    Leave,
}

/// One stream, recorded by a task until the sentinel comes, it is told to leave, or the hub ends it.
pub struct Recorder {
    name: String,
    pub headers: Headers,
    progress: watch::Receiver<Progress>,
    orders: watch::Sender<Order>,
    task: JoinHandle<Stream>,
}

type Client = DinosaurServiceClient<Channel>;

impl Recorder {
    /// Opens the stream; returns when its headers are there.
    pub async fn start(client: Client, name: &str, request: WatchDinosaursRequest) -> Self {
        Self::try_start(client, name, request, None).await.unwrap_or_else(|status| panic!("{name}: {status}"))
    }

    /// The same for a call that may fail or has a deadline.
    pub async fn try_start(
        mut client: Client,
        name: &str,
        request: WatchDinosaursRequest,
        deadline: Option<Duration>,
    ) -> Result<Self, Status> {
        let mut call = Request::new(request.clone());
        if let Some(deadline) = deadline {
            call.set_timeout(deadline);
        }
        let response = client.watch_dinosaurs(call).await?;
        let text = |name| response.metadata().get(name).and_then(|value| value.to_str().ok());
        let headers = Headers {
            revision: text("hub-revision").and_then(|text| text.parse().ok()).expect("hub-revision"),
            epoch: text("hub-epoch").unwrap_or_default().to_owned(),
            seen: Instant::now(),
        };
        let stream = Stream {
            name: name.to_owned(),
            request,
            timeout: deadline,
            stalls: false,
            headers: headers.clone(),
            state: Vec::new(),
            events: Vec::new(),
            bookmarks: Vec::new(),
            end: End::Left,
            status: None,
        };
        let (progress, reports) = watch::channel(Progress::default());
        let (orders, obeys) = watch::channel(Order::Read);
        let task = tokio::spawn(record(response.into_inner(), stream, progress, obeys));
        Ok(Self { name: name.to_owned(), headers, progress: reports, orders, task })
    }

    /// How many bookmarks have come.
    pub fn bookmarks(&self) -> u64 {
        self.progress.borrow().bookmarks
    }

    /// Stops reading: from now on the connection takes no more than its windows hold.
    pub fn pause(&self) {
        self.orders.send_replace(Order::Pause);
    }

    /// Reads again.
    pub fn resume(&self) {
        self.orders.send_replace(Order::Read);
    }

    /// How many events have come.
    pub fn events(&self) -> u64 {
        self.progress.borrow().events
    }

    /// Waits until a condition on the progress holds. Panics when nothing at all comes for too long.
    pub async fn until(&self, what: &str, condition: impl Fn(&Progress) -> bool) {
        let mut progress = self.progress.clone();
        while !condition(&progress.borrow_and_update()) {
            match timeout(*PATIENCE, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => panic!("{}: the stream ended before {what}", self.name),
                Err(_) => panic!("{}: nothing came for {:?} before {what}", self.name, *PATIENCE),
            }
        }
    }

    /// The stream, after the sentinel.
    pub async fn finish(self) -> Stream {
        self.end("the sentinel").await
    }

    /// The stream, ended by the client now.
    pub async fn leave(self) -> Stream {
        self.orders.send_replace(Order::Leave);
        self.end("leaving").await
    }

    /// The stream as the hub ended it.
    pub async fn ended(self) -> Stream {
        self.end("its end").await
    }

    async fn end(mut self, what: &str) -> Stream {
        loop {
            // Any progress is good news; the task drops its sender when it is done.
            match timeout(*PATIENCE, self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return (&mut self.task).await.expect("a recorder that does not panic"),
                Err(_) => panic!(
                    "{}: nothing came for {:?} before {what}, after {} events",
                    self.name,
                    *PATIENCE,
                    self.progress.borrow().events
                ),
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A recorder whose test failed must not read on. One that is done does not care.
        self.task.abort();
    }
}

async fn record(
    mut messages: Streaming<DinosaurWatchEvent>,
    mut stream: Stream,
    progress: watch::Sender<Progress>,
    mut orders: watch::Receiver<Order>,
) -> Stream {
    let last = last_of_the_sentinel(&stream);
    loop {
        let order = *orders.borrow_and_update();
        stream.stalls |= order == Order::Pause;
        let message = tokio::select! {
            // A change of orders comes first, or a busy stream would never pause.
            biased;
            Ok(()) = orders.changed() => continue,
            message = messages.message(), if order == Order::Read => message,
            () = std::future::ready(()), if order == Order::Leave => return stream,
        };
        let event = match message {
            Ok(Some(event)) => event,
            Ok(None) => {
                stream.end = ended(&Status::new(Code::Ok, ""));
                return stream;
            }
            Err(status) => {
                stream.end = ended(&status);
                stream.status = Some(status);
                return stream;
            }
        };
        match event.r#type() {
            EventType::Snapshot => {
                stream.state.push((event.resource_id, event.dinosaur.map(Row::from).expect("a row")));
                progress.send_modify(|progress| progress.rows += 1);
                continue;
            }
            EventType::Bookmark => {
                let (revision, dropped_before) = (event.revision, event.dropped_before);
                let (at, seen) = (stream.events.len(), Instant::now());
                stream.bookmarks.push(Bookmark { revision, at, dropped_before, seen });
                progress.send_modify(|progress| progress.bookmarks += 1);
                continue;
            }
            _ => {}
        }
        let event = Event::from(event);
        let is_last = event.id == SENTINEL && Some(event.change) == last;
        progress.send_modify(|progress| {
            progress.events += 1;
            progress.last = Some(event.key());
        });
        stream.events.push(event);
        if is_last {
            stream.end = End::Finished;
            return stream;
        }
    }
}

/// The last of the sentinel's changes that this stream wants, if it wants any.
fn last_of_the_sentinel(stream: &Stream) -> Option<ChangeType> {
    let selector = stream.selector();
    [ChangeType::Deleted, ChangeType::Updated, ChangeType::Created]
        .into_iter()
        .find(|&change| selector.matches(change, SENTINEL))
}

fn ended(status: &Status) -> End {
    let number = |name| status.metadata().get(name)?.to_str().ok()?.parse().ok();
    End::Hub {
        code: status.code(),
        retry_info: status.get_details_retry_info().is_some(),
        revision: number("hub-revision"),
        dropped: number("hub-dropped"),
    }
}

/// A watcher that leaves after a random number of events, again and again, and goes on after the last
/// revision it has seen: one stream each time. It ends with the sentinel.
pub async fn record_reconnecting(client: Client, most: u64, random: fastrand::Rng) -> Vec<Stream> {
    let mut random = random;
    let mut request = WatchDinosaursRequest::default();
    let mut streams = Vec::new();
    loop {
        let name = format!("reconnecting {}", streams.len());
        let recorder = Recorder::start(client.clone(), &name, request.clone()).await;
        let enough = random.u64(1..=most);
        let stream = recorder.leave_after(enough).await;
        let (revision, epoch) = (Revision::new(stream.up_to()), stream.headers.epoch.clone());
        request.after_revision = Some(revision.get());
        request.epoch = epoch;
        let finished = stream.end == End::Finished;
        streams.push(stream);
        if finished {
            return streams;
        }
    }
}

impl Recorder {
    async fn leave_after(mut self, events: u64) -> Stream {
        // As long as it takes: while the writers rest, nothing comes.
        let _ = self.progress.wait_for(|progress| progress.events >= events).await;
        self.leave().await
    }
}
