//! How an event is spelt on the wire.
//!
//! A [`Rendition`] is a spelling of all the events of a kind. What it makes of the events is the same for every stream, so the log has it
//! made once and hands out slices; what a stream sees otherwise, or in addition, is spelt for that stream.

pub mod envelope;
pub mod frame;
mod grpc;
pub mod rows;

use crate::model::{Change, ChangeType, Revision, filter::Malformed};

/// Writes the rows of a kind.
pub trait Renderer: Send + Sync + 'static {
    /// Appends a row, which the database wrote as a JSON object of its columns, as a protobuf message. A row that does not fit the kind
    /// is an error; what was appended then is of no use.
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// Of the description that rows are written under, for events that say so; `None`: the kind is compiled, and its events do not.
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

/// The spellings that a stream can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendition {
    /// gRPC frames of the kind's own watch event.
    Grpc,
}

impl Rendition {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 1] = [Self::Grpc];

    /// Their numbers, from 0.
    pub fn index(self) -> usize {
        self as usize
    }

    /// How it spells.
    pub fn spelling(self) -> &'static dyn Spelling {
        match self {
            Self::Grpc => &grpc::Frames,
        }
    }
}

/// How one stream sees an event, where that is not what all streams see.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// As what. An update that is seen as DELETED shows no row: what the row is now is none of the stream's.
    pub change: ChangeType,
    /// What the spelling's `previous` wrote; empty: the row before is not shown.
    pub previous: &'a [u8],
    /// How many events the stream lost before it, and was not told of yet.
    pub dropped_before: u64,
}

/// Spells events. Appends to what is there.
pub trait Spelling {
    /// An event as every stream sees it that asks for nothing else. It is spelt in any case: a row that does not fit its kind is left
    /// out, and is the error.
    fn event(
        &self,
        change: &Change<'_>,
        renderer: &dyn Renderer,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable>;

    /// What shows the row before of an event, for [`Seen::previous`]. A row that does not fit its kind is left out, and is the error.
    fn previous(
        &self,
        change: &Change<'_>,
        renderer: &dyn Renderer,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable>;

    /// An event, which `event` spelt, as one stream sees it.
    fn seen(
        &self,
        spelt: &[u8],
        change: &Change<'_>,
        renderer: &dyn Renderer,
        seen: Seen<'_>,
        out: &mut Vec<u8>,
    );

    /// An event, which `event` or `seen` spelt, that stands for so many: two at least.
    fn conflated(&self, spelt: &[u8], events: u64, out: &mut Vec<u8>);

    /// A bookmark, which tells of so many events that were lost.
    fn bookmark(&self, revision: Revision, dropped_before: u64, out: &mut Vec<u8>);
}
