//! How events are encoded for the wire.
//!
//! A [`Rendition`] is one encoding of a kind's events. Its bytes are the same for every stream, so the log
//! has them made once and hands out slices; where a stream sees something else, or more, that is encoded for
//! this stream.

pub mod envelope;
pub mod frame;
mod grpc;
mod json;
mod lines;
pub mod rows;
mod schema;
mod sse;
#[cfg(test)]
mod tests;

pub use sse::{NO_POLICY, id as sse_id};

use crate::model::{Change, ChangeType, Revision, filter::Malformed};

/// Writes the rows of a kind.
pub trait Renderer: Send + Sync + 'static {
    /// Appends a row, which the database wrote as a JSON object of its columns, as a protobuf message. A row
    /// that does not fit the kind is an error; what was appended then is of no use.
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// Appends a row as a JSON object without line breaks. A row that does not fit the kind is an error; what
    /// was appended then is of no use. If the kind does not say otherwise, it is what the database wrote.
    fn json(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        rows::on_one_line(row, out);
        Ok(())
    }

    /// The version of the description by which rows are written, for events that carry it; `None`: the kind
    /// is compiled.
    fn schema_version(&self) -> Option<u64> {
        None
    }
}

/// A row does not fit its kind.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum Unreadable {
    /// It is not what the kind's own code expects.
    Row(#[from] serde_json::Error),
    /// It is no JSON object.
    Json(#[from] Malformed),
}

/// The encodings that a stream can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendition {
    /// gRPC frames of the kind's own watch event.
    Grpc,
    /// Events of an SSE stream.
    Sse,
    /// Lines of JSON, each an event.
    Lines,
}

impl Rendition {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Grpc, Self::Sse, Self::Lines];

    /// Their numbers, from 0.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its rendition.
    pub fn spelling(self) -> &'static dyn Spelling {
        match self {
            Self::Grpc => &grpc::Frames,
            Self::Sse => &sse::Sse,
            Self::Lines => &lines::Lines,
        }
    }
}

/// What an event is spelt with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Writes its rows.
    pub renderer: &'a dyn Renderer,
    /// The history that its revision belongs to.
    pub epoch: &'a str,
}

/// How one stream sees an event, where that is not what all streams see.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The type that the stream sees. An update that is seen as DELETED shows no row: the stream must not see
    /// the row as it is now.
    pub change: ChangeType,
    /// What the rendition's `previous` wrote; empty: the row before is not shown.
    pub previous: &'a [u8],
    /// How many events the stream lost before it, and has not been told of yet.
    pub dropped_before: u64,
}

impl Seen<'_> {
    /// Whether an event that shows a row is seen without it.
    fn hides_row(&self, change: &Change<'_>) -> bool {
        self.change == ChangeType::Deleted && change.change != ChangeType::Deleted
    }
}

/// Encodes events; each method appends.
pub trait Spelling {
    /// An event as every stream without special wishes sees it. It is encoded in any case: a row that does
    /// not fit its kind is left out, and is the error.
    fn event(&self, change: &Change<'_>, context: Context<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// The addition that shows the row before, for [`Seen::previous`]. A row that does not fit its kind is
    /// left out, and is the error.
    fn previous(
        &self,
        change: &Change<'_>,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable>;

    /// An event, which `event` encoded, as one stream sees it.
    fn seen(
        &self,
        spelt: &[u8],
        change: &Change<'_>,
        context: Context<'_>,
        seen: Seen<'_>,
        out: &mut Vec<u8>,
    );

    /// An event, which `event` or `seen` encoded, that stands for this many: at least two.
    fn conflated(&self, spelt: &[u8], events: u64, out: &mut Vec<u8>);

    /// A bookmark of this epoch, which reports this many lost events.
    fn bookmark(&self, epoch: &str, revision: Revision, dropped_before: u64, out: &mut Vec<u8>);
}
