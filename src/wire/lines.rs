//! Events as lines of JSON: `{"event":{"type":"created",…}}`. A message of a WebSocket is such a line with
//! the watch's id inserted.

use super::{Context, Seen, Spelling, Unreadable, json};
use crate::model::{Change, ChangeType, Revision};

pub(super) struct Lines;

/// What every line begins with, before its type.
const BEGIN: &str = "{\"event\":{\"type\":\"";
/// And ends with.
const END: &[u8] = b"}}\n";

fn begin(name: &str, out: &mut Vec<u8>) {
    json::put(out, format_args!("{BEGIN}{name}\","));
}

/// The members of a line that tells of a change of this type.
fn members(spelt: &[u8], change: ChangeType) -> &[u8] {
    let begin = BEGIN.len() + json::name(change).len() + 2;
    spelt.get(begin..spelt.len().saturating_sub(END.len())).unwrap_or_default()
}

impl Spelling for Lines {
    fn event(&self, change: &Change<'_>, context: Context<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        begin(json::name(change.change), out);
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
        begin(json::name(seen.change), out);
        if seen.hides_row(change) {
            json::members_without_row(change, context, out);
        } else {
            out.extend_from_slice(members(spelt, change.change));
        }
        out.extend_from_slice(seen.previous);
        json::dropped_before(seen.dropped_before, out);
        out.extend_from_slice(END);
    }

    fn conflated(&self, spelt: &[u8], events: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(spelt.get(..spelt.len().saturating_sub(END.len())).unwrap_or_default());
        json::conflated(events, out);
        out.extend_from_slice(END);
    }

    fn bookmark(&self, _: &str, revision: Revision, dropped_before: u64, out: &mut Vec<u8>) {
        begin(json::BOOKMARK, out);
        json::revision(revision, out);
        json::dropped_before(dropped_before, out);
        out.extend_from_slice(END);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use crate::wire::Rendition;

    #[test]
    fn events_are_lines() {
        let spelt = tests::all(Rendition::Lines);
        assert_eq!(
            spelt,
            [
                r#"{"event":{"type":"updated","revision":"7","resource_id":"a\"b","row":{"n":2},"occurred_at":"1970-01-01T00:00:01.5Z","schema_version":"3","transaction_end":"9","actor":"me"}}"#,
                r#"{"event":{"type":"created","revision":"7","resource_id":"a\"b","row":{"n":2},"occurred_at":"1970-01-01T00:00:01.5Z","schema_version":"3","transaction_end":"9","actor":"me","previous":{"n":1},"dropped_before":"4"}}"#,
                r#"{"event":{"type":"deleted","revision":"7","resource_id":"a\"b","occurred_at":"1970-01-01T00:00:01.5Z","schema_version":"3","transaction_end":"9","actor":"me","previous":{"n":1}}}"#,
                r#"{"event":{"type":"updated","revision":"7","resource_id":"a\"b","row":{"n":2},"occurred_at":"1970-01-01T00:00:01.5Z","schema_version":"3","transaction_end":"9","actor":"me","conflated":"5"}}"#,
                r#"{"event":{"type":"bookmark","revision":"8","dropped_before":"2"}}"#,
                "",
            ]
            .join("\n")
        );
    }
}
