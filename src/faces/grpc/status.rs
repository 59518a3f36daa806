//! Errors as gRPC statuses.

use crate::{
    call::Call,
    error::{DOMAIN, Error, Violation},
};
use http::HeaderMap;
use std::{borrow::Cow, collections::HashMap};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The status of a call that failed. The cause of an internal error is logged here, and never sent.
pub fn status(error: &Error, call: &Call) -> Status {
    if let Error::Internal(cause) = error.innermost() {
        tracing::error!(operation = call.operation(), error = format!("{cause:#}"), "internal error");
    }
    let row = error.row();
    let metadata = error.metadata().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut details = details(call, row.reason, metadata);
    if let Error::Invalid(Violation { field, rule }) = error.innermost() {
        details.add_bad_request_violation(*field, shortened(rule));
    }
    details.set_retry_info(row.retry_after);
    Status::with_error_details(Code::from(row.code.number()), shortened(&error.to_string()), details)
}

/// A status at the end of a stream.
pub(super) fn trailers(status: &Status) -> Result<HeaderMap, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(trailers)
}

/// What every error of the hub carries.
fn details(call: &Call, reason: &str, metadata: HashMap<String, String>) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    if !call.operation().is_empty() {
        details.set_request_info(call.operation(), "");
    }
    details
}

/// The most bytes of a text that may quote a request. It is sent in headers, up to three times, and many
/// clients accept no more than 8 KiB of those.
const LONGEST_TEXT: usize = 400;

/// The text without its middle, if it is too long: the quoted part is between our own words.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    let (head, _) = text.split_at(text.floor_char_boundary(LONGEST_TEXT / 2));
    let (_, tail) = text.split_at(text.ceil_char_boundary(text.len() - LONGEST_TEXT / 2));
    format!("{head}…{tail}").into()
}

/// tonic's codes for an oversized message, the second for a compressed one. It uses them for no other
/// refusal.
fn too_large(status: &Status) -> Option<Error> {
    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
        .then(|| Error::TooLarge(status.message().to_owned()))
}

/// Why tonic cannot read on in a client's stream.
pub fn unreadable(status: &Status) -> Error {
    too_large(status).unwrap_or_else(|| Error::Undecodable(status.message().to_owned()))
}

/// A status that tonic made by itself, with the details that every error of the hub carries, and with what
/// else it says, such as the encodings that are understood.
pub(super) fn explain(said: &Status, call: &Call) -> Status {
    let error = match said.code() {
        // The codec's own code: tonic uses it for nothing else.
        Code::InvalidArgument => Some(Error::Undecodable(said.message().to_owned())),
        _ => too_large(said),
    };
    let mut explained = error.map_or_else(|| with_reason(said, call), |error| status(&error, call));
    *explained.metadata_mut() = said.metadata().clone();
    explained
}

fn with_reason(status: &Status, call: &Call) -> Status {
    let reason = match status.code() {
        Code::Unimplemented => "NOT_IMPLEMENTED",
        Code::NotFound => "NOT_FOUND",
        _ => "PROTOCOL",
    };
    let details = details(call, reason, HashMap::new());
    Status::with_error_details(status.code(), shortened(status.message()), details)
}
