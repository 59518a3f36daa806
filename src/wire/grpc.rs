//! gRPC frames of a kind's own watch event.
//!
//! Protobuf merges what is concatenated, and the last of a scalar counts: what one stream sees in addition is
//! appended to the shared message, under a new header.

use super::{Context, Seen, Spelling, Unreadable, envelope, frame};
use crate::model::{Change, Revision};

pub(super) struct Frames;

impl Spelling for Frames {
    fn event(&self, change: &Change<'_>, context: Context<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        frame::write(out, |message| envelope::event(change, context.renderer, message))
    }

    fn previous(
        &self,
        change: &Change<'_>,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        envelope::previous(change, context.renderer, out)
    }

    fn seen(
        &self,
        spelt: &[u8],
        change: &Change<'_>,
        context: Context<'_>,
        seen: Seen<'_>,
        out: &mut Vec<u8>,
    ) {
        let dropped = envelope::dropped_before(seen.dropped_before);
        if seen.change == change.change {
            return frame::write_extended(out, spelt, &[&dropped, seen.previous]);
        }
        if !seen.hides_row(change) {
            return frame::write_extended(
                out,
                spelt,
                &[&envelope::typed(seen.change), &dropped, seen.previous],
            );
        }
        // Without the row, which this stream must not see.
        frame::write(out, |message| {
            envelope::without_row(change, context.renderer, seen.change, message);
            message.extend_from_slice(&dropped);
            message.extend_from_slice(seen.previous);
        });
    }

    fn conflated(&self, spelt: &[u8], events: u64, out: &mut Vec<u8>) {
        frame::write_extended(out, spelt, &[&envelope::conflated(events)]);
    }

    fn bookmark(&self, _: &str, revision: Revision, dropped_before: u64, out: &mut Vec<u8>) {
        frame::write(out, |message| {
            message.extend(envelope::bookmark(revision));
            message.extend(envelope::dropped_before(dropped_before));
        });
    }
}
