//! Events as an SSE stream has them (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). An
//! event's id is a position to resume from: the epoch, the revision, and the policy under which it was seen.
//! Rows hold no line breaks, so an event is three lines and an empty one.

use super::{Context, Seen, Spelling, Unreadable, json};
use crate::model::{Change, ChangeType, Revision};

pub(super) struct Sse;

/// Stands in an id in the place of a policy where there is none.
pub const NO_POLICY: &str = "0";

/// What every event ends with.
const END: &[u8] = b"}\n\n";

/// Appends the line with the id of a position.
pub fn id(epoch: &str, revision: Revision, out: &mut Vec<u8>) {
    json::put(out, format_args!("id: {epoch}:{revision}:{NO_POLICY}\n"));
}

/// Says how many events were lost; of none, nothing is said. It has no id: a reader that is cut off here is
/// told again.
fn dropped(events: u64, out: &mut Vec<u8>) {
    if events > 0 {
        json::put(out, format_args!("event: dropped\ndata: {{\"count\":\"{events}\"}}\n\n"));
    }
}

fn begin(name: &str, out: &mut Vec<u8>) {
    json::put(out, format_args!("event: {name}\n"));
}

/// The lines before the members.
fn head(name: &str, change: &Change<'_>, context: Context<'_>, out: &mut Vec<u8>) {
    begin(name, out);
    if change.revision > Revision::ZERO {
        id(context.epoch, change.revision, out);
    }
    out.extend_from_slice(b"data: {");
}

/// What follows the first line of an event of this type, to the end of its members.
fn rest(spelt: &[u8], change: ChangeType) -> &[u8] {
    let first = "event: \n".len() + json::name(change).len();
    spelt.get(first..spelt.len().saturating_sub(END.len())).unwrap_or_default()
}

impl Spelling for Sse {
    fn event(&self, change: &Change<'_>, context: Context<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        head(json::name(change.change), change, context, out);
        let written = json::members(change, context, out);
        out.extend_from_slice(END);
        written
    }

    fn previous(
        &self,
        change: &Change<'_>,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        json::previous(change, context, out)
    }

    fn seen(
        &self,
        spelt: &[u8],
        change: &Change<'_>,
        context: Context<'_>,
        seen: Seen<'_>,
        out: &mut Vec<u8>,
    ) {
        dropped(seen.dropped_before, out);
        if seen.hides_row(change) {
            head(json::name(seen.change), change, context, out);
            json::members_without_row(change, context, out);
        } else {
            begin(json::name(seen.change), out);
            out.extend_from_slice(rest(spelt, change.change));
        }
        out.extend_from_slice(seen.previous);
        out.extend_from_slice(END);
    }

    fn conflated(&self, spelt: &[u8], events: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(spelt.get(..spelt.len().saturating_sub(END.len())).unwrap_or_default());
        json::conflated(events, out);
        out.extend_from_slice(END);
    }

    fn bookmark(&self, epoch: &str, revision: Revision, dropped_before: u64, out: &mut Vec<u8>) {
        dropped(dropped_before, out);
        begin(json::BOOKMARK, out);
        id(epoch, revision, out);
        out.extend_from_slice(b"data: {");
        json::revision(revision, out);
        out.extend_from_slice(END);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use crate::wire::Rendition;

    const ABOUT: &str =
        r#""occurred_at":"1970-01-01T00:00:01.5Z","schema_version":"3","transaction_end":"9","actor":"me""#;

    #[test]
    fn events_have_a_name_and_a_position() {
        let row = format!(r#""revision":"7","resource_id":"a\"b","row":{{"n":2}},{ABOUT}"#);
        let gone = format!(r#""revision":"7","resource_id":"a\"b",{ABOUT}"#);
        let expected = format!(
            "event: updated\nid: e:7:0\ndata: {{{row}}}\n\n\
             event: dropped\ndata: {{\"count\":\"4\"}}\n\n\
             event: created\nid: e:7:0\ndata: {{{row},\"previous\":{{\"n\":1}}}}\n\n\
             event: deleted\nid: e:7:0\ndata: {{{gone},\"previous\":{{\"n\":1}}}}\n\n\
             event: updated\nid: e:7:0\ndata: {{{row},\"conflated\":\"5\"}}\n\n\
             event: dropped\ndata: {{\"count\":\"2\"}}\n\n\
             event: bookmark\nid: e:8:0\ndata: {{\"revision\":\"8\"}}\n\n"
        );
        assert_eq!(tests::all(Rendition::Sse), expected);
    }
}
