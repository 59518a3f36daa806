//! What an SSE stream says beside its events: that it is open, that it ends, and whether its reader is to
//! come again. An `EventSource` does come again by itself, with the id of the last event, unless it is
//! answered with 204; after an empty id it comes as if for the first time.

use super::problem::Problem;
use crate::{
    model::{Epoch, Revision},
    wire,
};
use serde_json::Value;
use std::{io::Write, time::Duration};

/// A reader that was cut off comes again after this many milliseconds.
const RETRY: u64 = 1000;

/// What a reader is to do that is not served, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Forget its position, and begin as its address says.
    Anew,
    /// Come again with its position, after this.
    Later(Duration),
    /// Not come again: its next request will be answered 204.
    Never,
}

impl Again {
    /// What this problem calls for.
    pub(super) fn after(problem: &Problem) -> Self {
        match problem.status() {
            "OUT_OF_RANGE" => Self::Anew,
            "UNAVAILABLE" | "RESOURCE_EXHAUSTED" | "DEADLINE_EXCEEDED" | "ABORTED" | "INTERNAL" => {
                // A crowd that was turned away at once is not to come again at once.
                let pause = problem.retry_after().unwrap_or(Duration::from_millis(RETRY));
                Self::Later(pause.mul_f64(1.0 + fastrand::f64()))
            }
            _ => Self::Never,
        }
    }
}

/// The first event. A stream that begins with a state has no position before the state is complete.
pub(super) fn open(what: &Value, position: Option<(&Epoch, Revision)>) -> Vec<u8> {
    let mut out = format!("retry: {RETRY}\nevent: open\n").into_bytes();
    if let Some((epoch, revision)) = position {
        wire::sse_id(epoch.as_str(), revision, &mut out);
    }
    data(what, &mut out);
    out
}

/// Events with this policy in their ids. A line of data ends with a brace, so no row is taken for an id.
pub(super) fn marked(events: &[u8], mark: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.len());
    for line in events.split_inclusive(|byte| *byte == b'\n') {
        let id = line.strip_suffix(b"\n").filter(|line| line.starts_with(b"id: "));
        match id.and_then(|id| id.strip_suffix(wire::NO_POLICY.as_bytes())) {
            Some(position) => {
                out.extend_from_slice(position);
                out.extend_from_slice(mark.as_bytes());
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// The last event.
pub(super) fn end(what: &Value, again: Again) -> Vec<u8> {
    let mut out = match again {
        Again::Anew => b"id:\n".to_vec(),
        Again::Later(pause) => format!("retry: {}\n", pause.as_millis()).into_bytes(),
        Again::Never => Vec::new(),
    };
    out.extend_from_slice(b"event: end\n");
    data(what, &mut out);
    out
}

/// JSON has no line breaks, as it is written here.
fn data(what: &Value, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "data: {what}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use serde_json::json;

    #[test]
    fn only_what_cannot_be_resumed_makes_a_reader_forget() {
        let after = |error: Error| Again::after(&error.into());
        let gone = Error::RevisionCompacted { asked: Revision::new(1), oldest: Revision::new(2) };
        assert_eq!(after(gone), Again::Anew);
        let drains = Error::Unavailable { why: "drain", retry_after: Duration::from_secs(3) };
        let Again::Later(pause) = after(drains) else { panic!() };
        assert!((3.0..6.0).contains(&pause.as_secs_f64()));
        assert!(matches!(after(Error::SlowConsumer), Again::Later(_)));
        assert_eq!(after(Error::invalid("filter", "is none")), Again::Never);
        assert_eq!(after(Error::NotAttached { table: "t".into() }), Again::Never);
    }

    #[test]
    fn a_policy_stands_in_ids_and_nowhere_else() {
        let events = b"event: x\nid: e:10:0\ndata: {\"id\":\"id: e:7:0\"}\n\nid:\nevent: end\n";
        let marked = String::from_utf8(marked(events, "m")).unwrap();
        assert_eq!(marked, "event: x\nid: e:10:m\ndata: {\"id\":\"id: e:7:0\"}\n\nid:\nevent: end\n");
    }

    #[test]
    fn the_first_and_the_last_event_say_where_a_reader_stands() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let epoch = Epoch::new("e");
        assert_eq!(
            text(open(&json!({}), Some((&epoch, Revision::new(7))))),
            "retry: 1000\nevent: open\nid: e:7:0\ndata: {}\n\n"
        );
        assert_eq!(text(open(&json!({}), None)), "retry: 1000\nevent: open\ndata: {}\n\n");
        assert_eq!(text(end(&json!({}), Again::Anew)), "id:\nevent: end\ndata: {}\n\n");
        assert_eq!(text(end(&json!({}), Again::Never)), "event: end\ndata: {}\n\n");
        let later = Again::Later(Duration::from_millis(1500));
        assert_eq!(text(end(&json!({}), later)), "retry: 1500\nevent: end\ndata: {}\n\n");
    }
}
