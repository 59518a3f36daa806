//! Bulk calls of any kind: from messages to items, and from acknowledgements to messages.

use super::{status, unreadable};
use crate::{
    call::Call,
    error::Error,
    proto::{codec::Streamed, rh_trex::v1 as pb},
    service::import::{Acknowledgement, Failures, Item, Session},
};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Status, Streaming, metadata::MetadataMap};

/// The request header that makes a bulk creation resumable.
const IMPORT_ID: &str = "import-id";
const IMPORT_ID_BYTES: usize = 128;

/// The `import-id` of a request, if it has one.
pub fn import_id(metadata: &MetadataMap) -> Result<Option<String>, Error> {
    let Some(value) = metadata.get(IMPORT_ID) else { return Ok(None) };
    let id = value.to_str().map_err(|_| bad_import_id(IMPORT_ID))?;
    checked_import_id(IMPORT_ID, id).map(Some)
}

fn bad_import_id(field: &'static str) -> Error {
    Error::invalid(field, format!("must have 1 to {IMPORT_ID_BYTES} visible ASCII characters"))
}

/// An import's id, from a field of a request.
pub fn checked_import_id(field: &'static str, id: &str) -> Result<String, Error> {
    let is_fit = (1..=IMPORT_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_fit { Ok(id.to_owned()) } else { Err(bad_import_id(field)) }
}

/// The items of a client's stream. `read` says what a message is: an item, one that is wrong, or, as an outer
/// error, the end of the stream.
pub fn items<M: Send + 'static>(
    messages: Streaming<Streamed<M>>,
    read: impl Fn(M) -> Result<Item, Error> + Send,
) -> impl Stream<Item = Result<Item, Error>> + Unpin + Send {
    messages.map(move |message| match message {
        Ok(Streamed::Message(message)) => read(message),
        Ok(Streamed::Undecodable { why, .. }) => Ok(Err(Error::Undecodable(why))),
        Err(status) => Err(unreadable(&status)),
    })
}

/// A bulk stream's acknowledgements, beginning with the opening one.
pub fn acknowledgements<S>(
    call: Call,
    opening: impl Future<Output = Result<(Session<S>, Acknowledgement), Error>> + Send + 'static,
) -> impl Stream<Item = Result<Acknowledgement, Status>> + Send
where
    S: Stream<Item = Result<Item, Error>> + Unpin + Send + 'static,
{
    enum Stage<F, S> {
        Opening(F),
        Open(Box<Session<S>>),
        Ended,
    }
    stream::unfold((Stage::Opening(Box::pin(opening)), call), async |(stage, call)| {
        let (result, session) = match stage {
            Stage::Opening(opening) => match opening.await {
                Ok((session, first)) => (Ok(first), Some(Box::new(session))),
                Err(error) => (Err(error), None),
            },
            Stage::Open(mut session) => (session.next().await?, Some(session)),
            Stage::Ended => return None,
        };
        let stage = match session {
            Some(session) if result.is_ok() => Stage::Open(session),
            _ => Stage::Ended,
        };
        Some((result.map_err(|error| status(&error, &call)), (stage, call)))
    })
}

/// Failures as the API writes them, and how many are left out.
pub fn failed_items(call: &Call, failures: Failures) -> (Vec<pb::Error>, u64) {
    let error = |failure: crate::store::Failure| pb::Error {
        id: failure.reason.into_owned(),
        kind: "Error".to_owned(),
        href: String::new(),
        code: failure.code,
        reason: failure.message,
        operation_id: call.operation().to_owned(),
        // An import has at most `i32::MAX` items.
        index: i32::try_from(failure.index).ok(),
    };
    (failures.first.into_iter().map(error).collect(), failures.omitted)
}
