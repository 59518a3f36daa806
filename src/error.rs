//! One error for every use case, and the one table from it to gRPC and HTTP. Causes are logged here and never sent.

use crate::model::{Epoch, KindName, Revision};
use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

tokio::task_local! {
    /// The id of the call under way, by which its errors and its log line are found.
    pub static OPERATION: Arc<str>;
}

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "trex.hub";

/// An error and its causes, in one line; what two layers call the same is said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.dedup();
    causes.join(": ")
}

/// A field that breaks a rule of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's name in the request.
    pub field: &'static str,
    /// The rule.
    pub rule: Cow<'static, str>,
}

/// Why a use case failed, in the words of its caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field breaks a rule.
    #[error("{}: {}", .0.field, .0.rule)]
    Invalid(Violation),
    /// The bytes are no message of this type.
    #[error("the request does not decode: {0}")]
    Undecodable(String),
    /// No such resource.
    #[error("{kind} with id {id:?} not found")]
    NotFound {
        /// The kind.
        kind: KindName,
        /// The id that was asked for.
        id: String,
    },
    /// The resource exists already.
    #[error("{kind} exists already")]
    AlreadyExists {
        /// The kind.
        kind: KindName,
    },
    /// The history after this revision is no longer kept.
    #[error("revision {asked} is compacted; the oldest that a watch can resume after is {oldest}")]
    RevisionCompacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest that can be had.
        oldest: Revision,
    },
    /// The revision has not been given to any event yet.
    #[error("revision {asked} is unknown; the newest is {head}")]
    RevisionUnknown {
        /// What was asked for.
        asked: Revision,
        /// The newest.
        head: Revision,
    },
    /// Revisions of that epoch mean nothing in this one.
    #[error("the history is now {current}; list again and watch from there")]
    EpochChanged {
        /// The epoch being served.
        current: Epoch,
    },
    /// The hub or one of its parts has as much as it may take.
    #[error("{what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// A watch fell further behind than it may, and asked to be ended then.
    #[error(
        "the stream fell further behind than its buffer; it can resume after the revision in the trailers"
    )]
    SlowConsumer,
    /// The database refuses a row.
    #[error("the database refuses it: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// Why, as Postgres numbers it.
        sqlstate: String,
        /// The constraint that it breaks, if it is one.
        constraint: Option<String>,
        /// Why, in the words of the database or of the application's trigger.
        message: String,
    },
    /// The database takes a row without a word, and does not have it.
    #[error("a trigger of the table left it out")]
    LeftOut,
    /// Another stream goes on with this import.
    #[error("another stream goes on with this import, or it has expired")]
    ImportTakenOver,
    /// The client of an import knows more of it than the database.
    #[error(
        "the import is not known up to item {acknowledged} but to {known}: it has expired, or the database was restored"
    )]
    ImportUnknown {
        /// What the client has handled.
        acknowledged: u64,
        /// What the database knows.
        known: u64,
    },
    /// A stream that has every item of an import has fewer than are decided.
    #[error("the import has {known} items already, and the stream ended after {sent}: these are others")]
    ImportDiffers {
        /// How many are decided.
        known: u64,
        /// How many have come.
        sent: u64,
    },
    /// A bulk call ended before its client did.
    #[error("{cause}")]
    Interrupted {
        /// Why.
        #[source]
        cause: Box<Error>,
        /// Every item below is decided.
        next_index: u64,
        /// How many of them were created.
        created: u64,
        /// How many of them failed.
        failed: u64,
        /// How many items from there on may be in all the same.
        uncertain: u64,
    },
    /// A message is larger than the hub takes.
    #[error("the request is too large: {0}")]
    TooLarge(String),
    /// A feature of the API that this hub does not have.
    #[error("{what} is not implemented by this hub")]
    Unimplemented {
        /// The field or call.
        what: &'static str,
    },
    /// Not now.
    #[error("{why}")]
    Unavailable {
        /// What is missing.
        why: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The caller's time, or the hub's limit, ran out.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// A fault of the hub or its database.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// A field that breaks a rule.
    pub fn invalid(field: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(Violation { field, rule: rule.into() })
    }

    /// The table: gRPC code, HTTP status, reason.
    fn row(&self) -> (Code, u16, &'static str) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, 400, "INVALID_FIELD"),
            Self::Undecodable(_) => (Code::InvalidArgument, 400, "UNDECODABLE"),
            Self::NotFound { .. } => (Code::NotFound, 404, "NOT_FOUND"),
            Self::AlreadyExists { .. } => (Code::AlreadyExists, 409, "ALREADY_EXISTS"),
            Self::RevisionCompacted { .. } => (Code::OutOfRange, 410, "REVISION_COMPACTED"),
            Self::RevisionUnknown { .. } => (Code::OutOfRange, 410, "REVISION_UNKNOWN"),
            Self::EpochChanged { .. } => (Code::OutOfRange, 410, "EPOCH_CHANGED"),
            Self::TooMany { .. } => (Code::ResourceExhausted, 429, "TOO_MANY"),
            Self::SlowConsumer => (Code::ResourceExhausted, 429, "SLOW_CONSUMER"),
            Self::TooLarge(_) => (Code::ResourceExhausted, 413, "TOO_LARGE"),
            Self::Refused { .. } | Self::LeftOut => (Code::InvalidArgument, 422, "REFUSED_BY_DATABASE"),
            Self::ImportTakenOver => (Code::Aborted, 409, "IMPORT_TAKEN_OVER"),
            Self::ImportUnknown { .. } => (Code::OutOfRange, 410, "IMPORT_UNKNOWN"),
            Self::ImportDiffers { .. } => (Code::FailedPrecondition, 409, "IMPORT_DIFFERS"),
            Self::Interrupted { cause, .. } => cause.row(),
            Self::Unimplemented { .. } => (Code::Unimplemented, 501, "NOT_IMPLEMENTED"),
            Self::Unavailable { .. } => (Code::Unavailable, 503, "UNAVAILABLE"),
            Self::DeadlineExceeded => (Code::DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
            Self::Internal(_) => (Code::Internal, 500, "INTERNAL"),
        }
    }

    /// The HTTP status.
    pub fn http_status(&self) -> u16 {
        self.row().1
    }

    /// The number of the gRPC code.
    pub fn grpc_code(&self) -> i32 {
        self.row().0.into()
    }

    /// What an `ErrorInfo` calls it.
    pub fn reason(&self) -> &'static str {
        self.row().2
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs = match self {
            Self::ImportUnknown { acknowledged, known } => {
                vec![("acknowledged", acknowledged.to_string()), ("known", known.to_string())]
            }
            Self::ImportDiffers { known, sent } => {
                vec![("known", known.to_string()), ("sent", sent.to_string())]
            }
            Self::Interrupted { cause, next_index, created, failed, uncertain } => {
                let progress = [
                    ("next_index", next_index),
                    ("created", created),
                    ("failed", failed),
                    ("uncertain", uncertain),
                ];
                let mut metadata = cause.metadata();
                metadata.extend(progress.map(|(key, value)| (key.to_owned(), value.to_string())));
                return metadata;
            }
            Self::NotFound { kind, id } => vec![("kind", kind.to_string()), ("id", id.clone())],
            Self::AlreadyExists { kind } => vec![("kind", kind.to_string())],
            Self::RevisionCompacted { asked, oldest } => {
                vec![("asked", asked.to_string()), ("oldest_revision", oldest.to_string())]
            }
            Self::RevisionUnknown { asked, head } => {
                vec![("asked", asked.to_string()), ("head_revision", head.to_string())]
            }
            Self::EpochChanged { current } => vec![("epoch", current.to_string())],
            Self::Unimplemented { what } => vec![("what", (*what).to_owned())],
            _ => vec![],
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            Self::TooMany { .. } | Self::SlowConsumer => Some(Duration::from_secs(1)),
            Self::Interrupted { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }

    /// Itself, or why the call was interrupted.
    fn innermost(&self) -> &Self {
        match self {
            Self::Interrupted { cause, .. } => cause.innermost(),
            error => error,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let operation = OPERATION.try_with(Arc::clone).unwrap_or_else(|_| Arc::from(""));
        if let Error::Internal(cause) = error.innermost() {
            tracing::error!(operation = &*operation, error = format!("{cause:#}"), "internal error");
        }
        let (code, _, reason) = error.row();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, error.metadata());
        if let Error::Invalid(Violation { field, rule }) = error.innermost() {
            details.add_bad_request_violation(*field, shortened(rule));
        }
        if let Some(retry_after) = error.retry_after() {
            details.set_retry_info(Some(retry_after));
        }
        if !operation.is_empty() {
            details.set_request_info(&*operation, "");
        }
        Status::with_error_details(code, shortened(&error.to_string()), details)
    }
}

/// Bytes of a text that may quote a request. It travels in headers, up to three times, and many clients take no more than 8 KiB of those.
const LONGEST_TEXT: usize = 400;

/// Without its middle, if it is too long: what is quoted stands between words of ours.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    let (head, _) = text.split_at(text.floor_char_boundary(LONGEST_TEXT / 2));
    let (_, tail) = text.split_at(text.ceil_char_boundary(text.len() - LONGEST_TEXT / 2));
    format!("{head}…{tail}").into()
}

/// What tonic says of an oversized message: of its own refusals only that has these codes, the second if the message is compressed.
fn too_large(status: &Status) -> Option<Error> {
    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
        .then(|| Error::TooLarge(status.message().to_owned()))
}

/// Why tonic cannot read a client's stream on.
pub fn unreadable(status: &Status) -> Error {
    too_large(status).unwrap_or_else(|| Error::Undecodable(status.message().to_owned()))
}

/// A status that tonic made by itself, with the details that every error of the hub carries, and with what else it says, such as the
/// encodings that are understood.
pub fn explain(status: &Status) -> Status {
    let mut explained = too_large(status).map_or_else(|| with_reason(status), Status::from);
    *explained.metadata_mut() = status.metadata().clone();
    explained
}

fn with_reason(status: &Status) -> Status {
    let reason = match status.code() {
        Code::Unimplemented => "NOT_IMPLEMENTED",
        Code::NotFound => "NOT_FOUND",
        _ => "PROTOCOL",
    };
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(status.code(), shortened(status.message()), details)
}
