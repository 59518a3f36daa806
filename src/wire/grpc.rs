//! gRPC frames of a kind's own watch event.
//!
//! Protobuf merges what is concatenated, and the last of a scalar counts: what one stream sees in addition is
//! appended to the shared message, under a new header.

use super::{Renderer, Seen, Spelling, Unreadable, envelope, frame};
use crate::model::{Change, ChangeType, Revision};

pub(super) struct Frames;

impl Spelling for Frames {
    fn event(
        &self,
        change: &Change<'_>,
        renderer: &dyn Renderer,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        frame::write(out, |message| envelope::event(change, renderer, message))
    }

    fn previous(
        &self,
        change: &Change<'_>,
        renderer: &dyn Renderer,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        envelope::previous(change, renderer, out)
    }

    fn seen(
        &self,
        spelt: &[u8],
        change: &Change<'_>,
        renderer: &dyn Renderer,
        seen: Seen<'_>,
        out: &mut Vec<u8>,
    ) {
        let dropped = envelope::dropped_before(seen.dropped_before);
        if seen.change == change.change {
            return frame::write_extended(out, spelt, &[&dropped, seen.previous]);
        }
        if seen.change != ChangeType::Deleted {
            return frame::write_extended(
                out,
                spelt,
                &[&envelope::typed(seen.change), &dropped, seen.previous],
            );
        }
        // Without the row, which this stream must not see.
        frame::write(out, |message| {
            envelope::without_row(change, renderer, seen.change, message);
            message.extend_from_slice(&dropped);
            message.extend_from_slice(seen.previous);
        });
    }

    fn conflated(&self, spelt: &[u8], events: u64, out: &mut Vec<u8>) {
        frame::write_extended(out, spelt, &[&envelope::conflated(events)]);
    }

    fn bookmark(&self, revision: Revision, dropped_before: u64, out: &mut Vec<u8>) {
        frame::write(out, |message| {
            message.extend(envelope::bookmark(revision));
            message.extend(envelope::dropped_before(dropped_before));
        });
    }
}
