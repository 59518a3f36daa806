//! The watch client that follows the contract: it reconnects, resumes after the last revision it has seen, and delivers nothing twice.

use crate::{
    model::Revision,
    proto::rh_trex::v1::{
        DinosaurWatchEvent, EventType, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
    },
};
use std::{str::FromStr, time::Duration};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// What to watch.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// Only these types; empty: all.
    pub types: Vec<EventType>,
    /// Only these resources; empty: all.
    pub resource_ids: Vec<String>,
    /// Start after this revision; `None`: now.
    pub after: Option<Revision>,
    /// The epoch of `after`.
    pub epoch: Option<String>,
}

/// What happens to a watch.
#[derive(Debug)]
pub enum Notice {
    /// The hub answered: everything after this revision will come.
    Connected {
        /// Where the stream begins.
        revision: u64,
        /// The history that revisions belong to.
        epoch: String,
    },
    /// An event.
    Event(Box<DinosaurWatchEvent>),
    /// The stream ended; it goes on where it stopped.
    Disconnected {
        /// Why.
        why: String,
        /// When.
        retry_in: Duration,
    },
}

/// A watch that survives its connections.
pub struct Watch {
    endpoint: Endpoint,
    options: WatchOptions,
    stream: Option<Streaming<DinosaurWatchEvent>>,
    pause: Duration,
    /// Waited for before the next attempt.
    due: Option<Duration>,
}

impl Watch {
    /// A watch of the hub at a URL; connects at the first [`Watch::next`].
    pub fn new(server: String, options: WatchOptions) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_str(&server)?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        Ok(Self { endpoint, options, stream: None, pause: FIRST_PAUSE, due: None })
    }

    /// The next notice. An error is final: the hub cannot go on from where this watch stands, or does not understand it.
    pub async fn next(&mut self) -> Result<Notice, Status> {
        if let Some(due) = self.due.take() {
            tokio::time::sleep(due).await;
        }
        let outcome = match &mut self.stream {
            None => self.connect().await,
            Some(stream) => stream
                .message()
                .await
                .and_then(|event| event.ok_or_else(|| Status::unavailable("the stream ended")))
                .map(|event| {
                    self.options.after = Some(Revision::new(event.revision));
                    Notice::Event(Box::new(event))
                }),
        };
        match outcome {
            Ok(notice) => Ok(notice),
            Err(status) if is_final(status.code()) => Err(status),
            Err(status) => Ok(self.disconnected(&status)),
        }
    }

    async fn connect(&mut self) -> Result<Notice, Status> {
        let channel: Channel =
            self.endpoint.connect().await.map_err(|error| Status::unavailable(chain(&error)))?;
        let request = WatchDinosaursRequest {
            types: self.options.types.iter().map(|&kind| kind.into()).collect(),
            resource_ids: self.options.resource_ids.clone(),
            after_revision: self.options.after.map(Revision::get),
            epoch: self.options.epoch.clone().unwrap_or_default(),
            ..Default::default()
        };
        let response = DinosaurServiceClient::new(channel).watch_dinosaurs(request).await?;
        let header = |name| {
            response.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (revision, epoch) = (header("hub-revision").parse().unwrap_or(0), header("hub-epoch"));
        // From now on this is where the watch stands, even if its first event never comes.
        self.options.after = Some(Revision::new(revision));
        self.options.epoch = Some(epoch.clone());
        self.stream = Some(response.into_inner());
        self.pause = FIRST_PAUSE;
        Ok(Notice::Connected { revision, epoch })
    }

    fn disconnected(&mut self, status: &Status) -> Notice {
        self.stream = None;
        let asked = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        let retry_in = asked.unwrap_or_default().max(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0));
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        self.due = Some(retry_in);
        Notice::Disconnected { why: format!("{:?}: {}", status.code(), status.message()), retry_in }
    }
}

/// Whether trying again cannot help.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
