//! The clients that follow the contracts, and the models for clients in other languages: of a watch here, of
//! an import in its own file.
//!
//! A watch keeps one position: the epoch, and the revision up to which it has delivered everything. Events
//! and bookmarks move it. Whenever a stream ends, for whatever reason, it asks for what comes after that
//! position, so nothing is delivered twice and nothing is skipped. When the hub says that the position means
//! nothing any more (REVISION_COMPACTED, EPOCH_CHANGED, POLICY_CHANGED), a watch that began with the initial
//! state begins with it again and says so; any other ends, because only its user knows what to do then.

mod hub;
mod import;

pub use hub::{Access, BadAddress, Bearer, Hub, Link, Token};
pub use import::{Decided, Import, ImportNotice, ImportOptions};

use crate::{
    backoff::Backoff,
    error::chain,
    model::Revision,
    proto::rh_trex::v1::{
        BackpressurePolicy, DinosaurWatchEvent, EventType, WatchDinosaursRequest,
        dinosaur_service_client::DinosaurServiceClient,
    },
};
use std::{error::Error, io, iter, time::Duration};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// Between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Keeps the position of a quiet watch from falling behind what is retained.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);

/// What to watch.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Only these types; empty: all.
    pub types: Vec<EventType>,
    /// Only these resources; empty: all.
    pub resource_ids: Vec<String>,
    /// Only what this filter wants, in the language of AIP-160; empty: all.
    pub filter: String,
    /// Where to begin.
    pub start: WatchStart,
    /// What the hub does when this client is too slow.
    pub backpressure: BackpressurePolicy,
}

/// Where a watch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchStart {
    /// With what happens from now on.
    Now,
    /// With what happened after this revision; of this epoch, if one is named.
    After(Revision, Option<String>),
    /// With the current rows, and then what happens.
    State,
}

/// What happens to a watch.
#[derive(Debug)]
pub enum Notice {
    /// The hub answered: everything after this revision will come; with the state, first the rows at that
    /// revision.
    Connected {
        /// Where the stream begins.
        revision: Revision,
        /// The history that revisions belong to.
        epoch: String,
        /// Whether the state comes first. What was known before is void: a row that was deleted meanwhile is
        /// not named.
        state: bool,
    },
    /// An event, or a row of the state (its type is SNAPSHOT).
    Event(Box<DinosaurWatchEvent>),
    /// Everything up to this revision has been delivered, the state included, except for drops that were
    /// reported.
    Complete {
        /// Up to here.
        revision: Revision,
        /// How many matching events were dropped since the notice before: with policy DROP only, as
        /// `dropped_before` of an event.
        dropped: u64,
    },
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
    hub: Hub,
    options: WatchOptions,
    /// Where it stands, of `options.start`'s kind: `State` until the state is complete.
    position: WatchStart,
    stream: Option<Streaming<DinosaurWatchEvent>>,
    epoch: String,
    /// What the hub calls that which may be seen, to be said again with the position.
    policy: String,
    /// Grows until something new is delivered: a hub that answers and then fails is no better than none.
    backoff: Backoff,
    /// The pause before the next attempt.
    due: Option<Duration>,
}

impl Watch {
    /// A watch of a hub; connects at the first [`Watch::next`].
    pub fn new(hub: Hub, options: WatchOptions) -> Self {
        let position = options.start.clone();
        let epoch = String::new();
        let policy = String::new();
        Self { hub, options, position, stream: None, epoch, policy, backoff: BACKOFF, due: None }
    }

    /// The next notice. An error is final: the hub cannot go on from where this watch stands, or does not
    /// understand it.
    pub async fn next(&mut self) -> Result<Notice, Status> {
        if let Some(due) = self.due.take() {
            tokio::time::sleep(due).await;
        }
        let outcome = match &mut self.stream {
            None => self.connect().await,
            Some(stream) => {
                let event = stream
                    .message()
                    .await
                    .and_then(|event| event.ok_or_else(|| Status::unavailable("the stream ended")));
                event.map(|event| self.received(event))
            }
        };
        match outcome {
            Ok(notice) => Ok(notice),
            Err(status) if status.code() == Code::OutOfRange && self.options.start == WatchStart::State => {
                self.position = WatchStart::State;
                Ok(self.disconnected(&status))
            }
            Err(status) if is_final(&status) && !self.hub.has_another_token(&status) => Err(status),
            Err(status) => Ok(self.disconnected(&status)),
        }
    }

    fn received(&mut self, event: DinosaurWatchEvent) -> Notice {
        let revision = Revision::new(event.revision);
        match event.r#type() {
            // The state is complete only at the bookmark that follows it.
            EventType::Snapshot => Notice::Event(Box::new(event)),
            EventType::Bookmark => {
                self.backoff.reset();
                self.position = WatchStart::After(revision, Some(self.epoch.clone()));
                Notice::Complete { revision, dropped: event.dropped_before }
            }
            _ => {
                self.backoff.reset();
                self.position = WatchStart::After(revision, Some(self.epoch.clone()));
                Notice::Event(Box::new(event))
            }
        }
    }

    async fn connect(&mut self) -> Result<Notice, Status> {
        let response =
            DinosaurServiceClient::new(self.hub.connect().await?).watch_dinosaurs(self.request()).await?;
        let header = |name| {
            response.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let revision = Revision::new(
            header("hub-revision").parse().map_err(|_| Status::internal("no hub-revision in the headers"))?,
        );
        (self.epoch, self.policy) = (header("hub-epoch"), header("hub-policy"));
        let state = self.position == WatchStart::State;
        if !state {
            // From now on this is where the watch stands, even if its first event never comes.
            self.position = WatchStart::After(revision, Some(self.epoch.clone()));
        }
        self.stream = Some(response.into_inner());
        Ok(Notice::Connected { revision, epoch: self.epoch.clone(), state })
    }

    fn request(&self) -> WatchDinosaursRequest {
        let (after, epoch) = match &self.position {
            WatchStart::After(revision, epoch) => (Some(revision.get()), epoch.clone().unwrap_or_default()),
            WatchStart::Now | WatchStart::State => (None, String::new()),
        };
        WatchDinosaursRequest {
            types: self.options.types.iter().map(|&kind| kind.into()).collect(),
            resource_ids: self.options.resource_ids.clone(),
            filter: self.options.filter.clone(),
            after_revision: after,
            epoch,
            send_initial_state: self.position == WatchStart::State,
            backpressure: self.options.backpressure.into(),
            policy: self.policy.clone(),
            bookmark_interval: prost_types::Duration::try_from(BOOKMARK_INTERVAL).ok(),
            ..Default::default()
        }
    }

    fn disconnected(&mut self, status: &Status) -> Notice {
        self.stream = None;
        let asked = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        let retry_in = asked.unwrap_or_default().max(self.backoff.next_pause());
        self.due = Some(retry_in);
        Notice::Disconnected { why: format!("{:?}: {}", status.code(), cause(status)), retry_in }
    }
}

/// The message of a status, with its cause where it was made on this side.
pub(crate) fn cause(status: &Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), chain)
}

/// Whether trying again cannot help.
pub(crate) fn is_final(status: &Status) -> bool {
    tls_fault(status).is_some()
        || matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::PermissionDenied
                | Code::Unauthenticated
        )
}

/// What is wrong with TLS, and what to do, if that is why there is no connection.
pub(crate) fn tls_fault(status: &Status) -> Option<String> {
    let sources = iter::successors(status.source(), |&error| error.source());
    let mut faults = sources.filter_map(|error| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error.downcast_ref().or_else(|| inner?.downcast_ref::<rustls::Error>())
    });
    faults.find_map(|fault| match fault {
        rustls::Error::InvalidMessage(_) => {
            Some("does not speak https: its listener has no TLS; write http://, or name another".to_owned())
        }
        rustls::Error::InvalidCertificate(_) => {
            Some(format!("shows a certificate that is not trusted ({fault}): name its CA with --ca-file"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(server: &str) -> Watch {
        let options = WatchOptions {
            types: vec![],
            resource_ids: vec![],
            filter: String::new(),
            start: WatchStart::Now,
            backpressure: BackpressurePolicy::Drop,
        };
        Watch::new(Hub::new(server, &Access::default()).unwrap(), options)
    }

    #[test]
    fn pauses_grow_until_the_watch_moves_on() {
        let mut watch = watch("localhost:1");
        let retry_in = |watch: &mut Watch| match watch.disconnected(&Status::unavailable("")) {
            Notice::Disconnected { retry_in, .. } => retry_in,
            other => panic!("{other:?}"),
        };
        let event = |of: EventType| DinosaurWatchEvent { r#type: of.into(), ..Default::default() };
        for _ in 0..6 {
            // The state begins again each time, and is never complete.
            watch.received(event(EventType::Snapshot));
            retry_in(&mut watch);
        }
        assert!(retry_in(&mut watch) >= Duration::from_secs(2));
        for moves_on in [EventType::Bookmark, EventType::Created] {
            watch.received(event(moves_on));
            assert!(retry_in(&mut watch) <= Duration::from_millis(100));
            retry_in(&mut watch);
        }
    }

    #[test]
    fn a_bookmark_tells_what_was_dropped() {
        let bookmark = DinosaurWatchEvent {
            r#type: EventType::Bookmark.into(),
            revision: 9,
            dropped_before: 4,
            ..Default::default()
        };
        let notice = watch("localhost:1").received(bookmark);
        assert!(
            matches!(notice, Notice::Complete { revision, dropped: 4 } if revision.get() == 9),
            "{notice:?}"
        );
    }
}
