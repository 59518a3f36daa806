//! Watchers that resume: whatever ends a stream, they go on after the last revision that they have.

use crate::support::{
    history::{End, Event, Headers, Stream},
    recorder::SENTINEL,
};
use std::time::{Duration, Instant};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tonic::{Code, Status, transport::Endpoint};
use tonic_types::StatusExt;
use trex::{
    client::{Access, Hub, Notice, Watch, WatchOptions, WatchStart},
    model::{ChangeType, Revision},
    proto::rh_trex::v1::{
        BackpressurePolicy, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
    },
};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);
/// A hub that does not answer a call for this long is given up.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// Of those that stall: so little fits on the way that the hub soon finds the connection full.
const NARROW: u32 = 8 << 10;

/// Rows of the test itself begin with this and a number, by which it sees how far everybody is.
pub const BEACON: &str = "beacon-";

/// What to watch and how.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: &'static str,
    /// Taken in turn, one at each attempt.
    pub addresses: Vec<String>,
    pub request: WatchDinosaursRequest,
    /// Whether it may be told to stop reading.
    pub stalls: bool,
    pub by: By,
}

/// What a watcher watches with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The generated client, as any client would do it.
    Generated,
    /// The client of this repository, which has its own way of trying again.
    Client,
    /// `trex watch`, in a process of its own.
    Program,
}

/// How far a watcher is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    pub connected: bool,
    pub beacon: u64,
}

/// All that a watcher recorded.
pub struct Recording {
    /// One per connection.
    pub streams: Vec<Stream>,
    /// When each event came, in the order of the streams.
    pub arrivals: Vec<Instant>,
}

impl Recording {
    /// All streams as one: a stream that resumed has neither hole nor repeat where it was broken.
    pub fn whole(&self) -> Stream {
        let first = self.streams.first().expect("a stream");
        let mut whole =
            Stream { name: format!("{}, whole", first.name), events: Vec::new(), ..first.clone() };
        for stream in &self.streams {
            assert_eq!(stream.headers.epoch, first.headers.epoch, "no fault here begins a new epoch");
            whole.events.extend(stream.events.iter().cloned());
        }
        whole.end = End::Finished;
        whole
    }
}

/// A running watcher. It ends with the sentinel.
pub struct Watcher {
    pub name: &'static str,
    pub stalls: bool,
    pub progress: watch::Receiver<Progress>,
    stalled: watch::Sender<bool>,
    process: watch::Receiver<Option<u32>>,
    task: JoinHandle<Recording>,
}

impl Watcher {
    pub fn start(plan: Plan) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        let (stalled, stalls) = watch::channel(false);
        let (started, process) = watch::channel(None);
        let recorder = Recorder {
            recording: Recording { streams: Vec::new(), arrivals: Vec::new() },
            progress: sender,
            stalled: stalls,
        };
        let (name, may_stall) = (plan.name, plan.stalls);
        let task = match plan.by {
            By::Generated => tokio::spawn(recorder.follow(plan)),
            By::Client => tokio::spawn(recorder.watch(plan)),
            By::Program => tokio::spawn(recorder.read_program(plan, started)),
        };
        Self { name, stalls: may_stall, progress, stalled, process, task }
    }

    /// Whether it stops reading.
    pub fn stall(&self, stall: bool) {
        self.stalled.send_replace(stall);
    }

    /// The process, of one that has its own.
    pub fn process(&self) -> Option<u32> {
        *self.process.borrow()
    }

    /// Waits until its first stream has begun.
    pub async fn until_connected(&self) {
        let mut progress = self.progress.clone();
        progress.wait_for(|progress| progress.connected).await.expect("a watcher that runs");
    }

    /// Waits until it has seen a beacon.
    pub async fn until_beacon(&self, number: u64) -> Instant {
        let mut progress = self.progress.clone();
        let seen = progress.wait_for(|progress| progress.beacon >= number).await;
        assert!(seen.is_ok(), "{}: it ended before beacon {number}", self.name);
        Instant::now()
    }

    /// What it recorded, after the sentinel.
    pub async fn finish(mut self) -> Recording {
        (&mut self.task).await.expect("a watcher that does not panic")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) struct Recorder {
    pub(super) recording: Recording,
    progress: watch::Sender<Progress>,
    stalled: watch::Receiver<bool>,
}

/// Whether the sentinel was seen, with which a watch ends.
pub(super) type Done = bool;

impl Recorder {
    /// By the generated client, as any client would do it.
    async fn follow(mut self, plan: Plan) -> Recording {
        let mut request = plan.request.clone();
        for address in plan.addresses.iter().cycle() {
            match self.connect(&plan, address, &request).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(status) => assert!(may_try_again(&status), "{}: {status:?}", plan.name),
            }
            if let Some(stream) = self.recording.streams.last() {
                request.after_revision = Some(stream.up_to());
                request.epoch = stream.headers.epoch.clone();
            }
            sleep(PAUSE).await;
        }
        self.recording
    }

    async fn connect(
        &mut self,
        plan: &Plan,
        address: &str,
        request: &WatchDinosaursRequest,
    ) -> Result<Done, Status> {
        let mut endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("a URL")
            .connect_timeout(KEEPALIVE)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        if plan.stalls {
            endpoint = endpoint.initial_stream_window_size(NARROW).initial_connection_window_size(NARROW);
        }
        let Ok(channel) = endpoint.connect().await else { return Ok(false) };
        let response = DinosaurServiceClient::new(channel).watch_dinosaurs(request.clone()).await?;
        let text = |name| response.metadata().get(name).and_then(|value| value.to_str().ok());
        let headers = Headers {
            revision: text("hub-revision").and_then(|text| text.parse().ok()).expect("hub-revision"),
            epoch: text("hub-epoch").expect("hub-epoch").to_owned(),
            seen: Instant::now(),
        };
        self.begin(plan, request.clone(), headers);
        let mut messages = response.into_inner();
        loop {
            let stalled = *self.stalled.borrow_and_update();
            let message = tokio::select! {
                biased;
                Ok(()) = self.stalled.changed() => continue,
                message = messages.message(), if !stalled => message,
            };
            match message {
                Ok(Some(event)) => {
                    if self.received(Event::from(event)) {
                        return Ok(true);
                    }
                }
                Ok(None) => {
                    self.end(ended(&Status::new(Code::Ok, "")));
                    return Ok(false);
                }
                Err(status) => {
                    self.end(ended(&status));
                    return Ok(false);
                }
            }
        }
    }

    /// By the client of this repository.
    async fn watch(mut self, plan: Plan) -> Recording {
        let options = WatchOptions {
            types: Vec::new(),
            resource_ids: Vec::new(),
            filter: String::new(),
            start: WatchStart::Now,
            backpressure: BackpressurePolicy::CatchUp,
        };
        let mut watch = Watch::new(Hub::new(&plan.addresses[0], &Access::default()).expect("a URL"), options);
        let mut position = None;
        loop {
            match watch.next().await.unwrap_or_else(|status| panic!("{}: {status:?}", plan.name)) {
                Notice::Connected { revision, epoch, .. } => {
                    let request = WatchDinosaursRequest { after_revision: position, ..plan.request.clone() };
                    position = Some(revision.get());
                    let headers = Headers { revision: revision.get(), epoch, seen: Instant::now() };
                    self.begin(&plan, request, headers);
                }
                Notice::Event(event) => {
                    position = Some(event.revision);
                    if self.received(Event::from(*event)) {
                        return self.recording;
                    }
                }
                Notice::Complete { revision, dropped } => {
                    assert_eq!(dropped, 0, "{}: with CATCH_UP nothing is dropped", plan.name);
                    self.complete(revision);
                    position = Some(revision.get());
                }
                Notice::Disconnected { .. } => {}
            }
        }
    }

    pub(super) fn begin(&mut self, plan: &Plan, request: WatchDinosaursRequest, headers: Headers) {
        let name = format!("{} #{}", plan.name, self.recording.streams.len());
        self.recording.streams.push(Stream {
            name,
            request,
            timeout: None,
            stalls: plan.stalls && plan.request.backpressure() == BackpressurePolicy::Drop,
            headers,
            state: Vec::new(),
            events: Vec::new(),
            bookmarks: Vec::new(),
            status: None,
            end: End::Left,
        });
        self.progress.send_modify(|progress| progress.connected = true);
    }

    pub(super) fn received(&mut self, event: Event) -> Done {
        let beacon = event.id.strip_prefix(BEACON).and_then(|number| number.parse().ok());
        if let Some(number) = beacon {
            self.progress.send_modify(|progress| progress.beacon = number);
        }
        let done = event.id == SENTINEL && event.change == ChangeType::Deleted;
        self.recording.arrivals.push(Instant::now());
        self.stream().events.push(event);
        if done {
            self.end(End::Finished);
        }
        done
    }

    /// Bookmarked: nothing that was wanted and has a number up to this can be missing, and a stream may begin
    /// after it.
    fn complete(&mut self, revision: Revision) {
        let stream = self.stream();
        assert!(revision.get() >= stream.up_to(), "{}: a bookmark went back to {revision}", stream.name);
    }

    fn stream(&mut self) -> &mut Stream {
        self.recording.streams.last_mut().expect("it has begun")
    }

    fn end(&mut self, end: End) {
        self.stream().end = end;
    }
}

/// An end of the hub's own, which has trailers, or that of a connection.
fn ended(status: &Status) -> End {
    let number = |name| status.metadata().get(name)?.to_str().ok()?.parse().ok();
    if std::error::Error::source(status).is_some() && status.get_details_error_info().is_none() {
        return End::Left;
    }
    End::Hub {
        code: status.code(),
        retry_info: status.get_details_retry_info().is_some(),
        revision: number("hub-revision"),
        dropped: number("hub-dropped"),
    }
}

/// A refusal with which no fault excuses the hub is none: neither is this history unknown or compacted, nor
/// has the hub an error of its own.
pub fn may_try_again(status: &Status) -> bool {
    match status.get_details_error_info() {
        Some(_) => status.code() == Code::Unavailable && status.get_details_retry_info().is_some(),
        None => std::error::Error::source(status).is_some(),
    }
}
