//! One error for every use case, and the one table from it to the codes of the protocols. It knows no
//! protocol's library and no database: faces make answers of it, and the store makes it from what Postgres
//! says. Causes are logged by the faces and never sent.

use crate::model::{Epoch, KindName, Removal, Revision};
use std::{borrow::Cow, time::Duration};

/// The domain of every error, as an `ErrorInfo` names it.
pub const DOMAIN: &str = "trex.hub";

/// An error and its causes, in one line; a repeated message is said once.
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

/// What is wrong with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// There is none.
    Missing,
    /// It proves nothing.
    Invalid,
    /// It proves nothing any more: a new one will do.
    Expired,
    /// It was taken back.
    Revoked,
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
    /// Nobody is known to call.
    #[error("{why}")]
    Unauthenticated {
        /// What is wrong.
        credential: Credential,
        /// The same in words, and what would help; nothing of the credential.
        why: Cow<'static, str>,
    },
    /// The caller may not do that.
    #[error("{why}")]
    Denied {
        /// What it may not do.
        why: Cow<'static, str>,
        /// Whether it was granted before.
        revoked: bool,
    },
    /// The caller may see other rows or columns than it did.
    #[error("other rows or columns may be seen by now; begin with the state")]
    PolicyChanged,
    /// The caller does as much as it may.
    #[error("{what}")]
    Quota {
        /// Of what.
        what: &'static str,
    },
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
    /// The table is not attached.
    #[error("{table} is not attached; trex attach '{table}' attaches it")]
    NotAttached {
        /// The table, as SQL writes its name.
        table: String,
    },
    /// The table cannot be attached.
    #[error("{why}")]
    CannotAttach {
        /// Why, and what would help.
        why: String,
    },
    /// The kind is not watched any more.
    #[error("{kind} is no longer watched: \
             {}", match why { Removal::Dropped => "its table was \
                 dropped", Removal::Detached => "its table was detached" })]
    Removed {
        /// The kind.
        kind: KindName,
        /// Why.
        why: Removal,
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
    /// Rows became others without events of their own.
    #[error(
        "{kind} has rows that changed without events at revision {revision}: {why}; list again and watch from there"
    )]
    StateChanged {
        /// The kind.
        kind: KindName,
        /// Where.
        revision: Revision,
        /// How.
        why: String,
    },
    /// Rows are called by other ids than before.
    #[error("{kind} has another key since revision {revision}; list again and watch from there")]
    KeyChanged {
        /// The kind.
        kind: KindName,
        /// Since when.
        revision: Revision,
    },
    /// A column that a watch names is not there any more.
    #[error("{kind} has no column {column} any more")]
    ColumnGone {
        /// The kind.
        kind: KindName,
        /// The column.
        column: String,
    },
    /// A column that a watch's filter tests has a type now that the filter does not fit.
    #[error("column {column} of {kind} has another type now, which the filter does not fit")]
    ColumnChanged {
        /// The kind.
        kind: KindName,
        /// The column.
        column: String,
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
    /// The row has changed since the caller saw it.
    #[error("the row has changed since it was seen; get it again")]
    RowChanged,
    /// The database took a row without an error, but does not have it.
    #[error("a trigger of the table left it out")]
    LeftOut,
    /// Another stream goes on with this import.
    #[error("another stream goes on with this import, or it has expired")]
    ImportTakenOver,
    /// The client of an import knows more of it than the database.
    #[error(
        "the import is not known up to item {acknowledged} but to {known}: it has expired, or the database \
         was restored"
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
        /// How many items from there on may have been created nevertheless.
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

    /// The error's row of the table. An interrupted call has its cause's row.
    pub fn row(&self) -> Row {
        match self {
            Self::Invalid(_) => Row::new(Code::InvalidArgument, 400, "INVALID_FIELD"),
            Self::Undecodable(_) => Row::new(Code::InvalidArgument, 400, "UNDECODABLE"),
            Self::Unauthenticated { credential, .. } => {
                Row::new(Code::Unauthenticated, 401, credential.reason())
            }
            Self::Denied { revoked: false, .. } => Row::new(Code::PermissionDenied, 403, "PERMISSION_DENIED"),
            Self::Denied { revoked: true, .. } => Row::new(Code::PermissionDenied, 403, "PERMISSION_REVOKED"),
            Self::PolicyChanged => Row::new(Code::OutOfRange, 410, "POLICY_CHANGED"),
            Self::Quota { .. } => Row::new(Code::ResourceExhausted, 429, "QUOTA").again_after(SOON),
            Self::NotFound { .. } => Row::new(Code::NotFound, 404, "NOT_FOUND"),
            Self::NotAttached { .. } => Row::new(Code::NotFound, 404, "TABLE_NOT_ATTACHED"),
            Self::CannotAttach { .. } => Row::new(Code::FailedPrecondition, 409, "CANNOT_ATTACH"),
            Self::Removed { why: Removal::Dropped, .. } => Row::new(Code::NotFound, 404, "TABLE_DROPPED"),
            Self::Removed { why: Removal::Detached, .. } => Row::new(Code::NotFound, 404, "TABLE_DETACHED"),
            Self::AlreadyExists { .. } => Row::new(Code::AlreadyExists, 409, "ALREADY_EXISTS"),
            Self::RevisionCompacted { .. } => Row::new(Code::OutOfRange, 410, "REVISION_COMPACTED"),
            Self::RevisionUnknown { .. } => Row::new(Code::OutOfRange, 410, "REVISION_UNKNOWN"),
            Self::EpochChanged { .. } => Row::new(Code::OutOfRange, 410, "EPOCH_CHANGED"),
            Self::StateChanged { .. } => Row::new(Code::OutOfRange, 410, "STATE_CHANGED"),
            Self::KeyChanged { .. } => Row::new(Code::OutOfRange, 410, "KEY_CHANGED"),
            Self::ColumnGone { .. } => Row::new(Code::InvalidArgument, 400, "COLUMN_GONE"),
            Self::ColumnChanged { .. } => Row::new(Code::InvalidArgument, 400, "COLUMN_CHANGED"),
            Self::TooMany { .. } => Row::new(Code::ResourceExhausted, 429, "TOO_MANY").again_after(SOON),
            Self::SlowConsumer => Row::new(Code::ResourceExhausted, 429, "SLOW_CONSUMER").again_after(SOON),
            Self::TooLarge(_) => Row::new(Code::ResourceExhausted, 413, "TOO_LARGE"),
            Self::Refused { .. } => Row::new(Code::InvalidArgument, 422, "REFUSED_BY_DATABASE"),
            Self::LeftOut => Row::new(Code::InvalidArgument, 422, "REFUSED_BY_DATABASE"),
            Self::RowChanged => Row::new(Code::Aborted, 409, "ROW_CHANGED"),
            Self::ImportTakenOver => Row::new(Code::Aborted, 409, "IMPORT_TAKEN_OVER"),
            Self::ImportUnknown { .. } => Row::new(Code::OutOfRange, 410, "IMPORT_UNKNOWN"),
            Self::ImportDiffers { .. } => Row::new(Code::FailedPrecondition, 409, "IMPORT_DIFFERS"),
            Self::Interrupted { cause, .. } => cause.row(),
            Self::Unimplemented { .. } => Row::new(Code::Unimplemented, 501, "NOT_IMPLEMENTED"),
            Self::Unavailable { retry_after, .. } => {
                Row::new(Code::Unavailable, 503, "UNAVAILABLE").again_after(*retry_after)
            }
            Self::DeadlineExceeded => Row::new(Code::DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
            Self::Internal(_) => Row::new(Code::Internal, 500, "INTERNAL"),
        }
    }

    /// What programs may read besides its code: names and values.
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
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
                metadata.extend(progress.map(|(name, value)| (name, value.to_string())));
                metadata
            }
            Self::NotFound { kind, id } => vec![("kind", kind.to_string()), ("id", id.clone())],
            Self::NotAttached { table } => vec![("table", table.clone())],
            Self::AlreadyExists { kind } | Self::Removed { kind, .. } => vec![("kind", kind.to_string())],
            Self::RevisionCompacted { asked, oldest } => {
                vec![("asked", asked.to_string()), ("oldest_revision", oldest.to_string())]
            }
            Self::RevisionUnknown { asked, head } => {
                vec![("asked", asked.to_string()), ("head_revision", head.to_string())]
            }
            Self::EpochChanged { current } => vec![("epoch", current.to_string())],
            Self::StateChanged { kind, revision, .. } | Self::KeyChanged { kind, revision } => {
                vec![("kind", kind.to_string()), ("revision", revision.to_string())]
            }
            Self::ColumnGone { kind, column } | Self::ColumnChanged { kind, column } => {
                vec![("kind", kind.to_string()), ("column", column.clone())]
            }
            Self::Unimplemented { what } => vec![("what", (*what).to_owned())],
            _ => vec![],
        }
    }

    /// Itself, or why the call was interrupted.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::Interrupted { cause, .. } => cause.innermost(),
            error => error,
        }
    }
}

impl Credential {
    /// For programs.
    const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "UNAUTHENTICATED",
            Self::Invalid => "CREDENTIAL_INVALID",
            Self::Expired => "TOKEN_EXPIRED",
            Self::Revoked => "CREDENTIAL_REVOKED",
        }
    }
}

/// How long a caller who was turned away for lack of room is told to wait.
const SOON: Duration = Duration::from_secs(1);

/// What the protocols call an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The code, as gRPC has it.
    pub code: Code,
    /// The HTTP status.
    pub http: u16,
    /// For programs; finer than the code.
    pub reason: &'static str,
    /// After how long the same call may succeed; `None`: waiting does not help.
    pub retry_after: Option<Duration>,
}

impl Row {
    const fn new(code: Code, http: u16, reason: &'static str) -> Self {
        Self { code, http, reason, retry_after: None }
    }

    const fn again_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }
}

/// The codes of gRPC that errors have, by their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[expect(missing_docs, reason = "they mean what gRPC says that they mean")]
pub enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// The number on the wire.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests;
