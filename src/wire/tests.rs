//! One event in every form that a spelling has, for their tests.

use super::{Context, Rendition, Seen, rows::JsonRows};
use crate::model::{Change, ChangeType, Revision, Writer};
use std::time::{Duration, UNIX_EPOCH};

/// As it is; as one that enters a filter after a drop; as one that leaves; for five; and a bookmark after a
/// drop.
pub(super) fn all(rendition: Rendition) -> String {
    let change = Change {
        revision: Revision::new(7),
        kind: "#1",
        resource_id: "a\"b",
        change: ChangeType::Updated,
        after: Some("{\"n\":2}"),
        before: Some("{\"n\":1}"),
        captured_at: Some(UNIX_EPOCH + Duration::from_millis(1500)),
        transaction_end: Revision::new(9),
        writer: Writer { actor: Some("me"), ..Writer::default() },
    };
    let (spelling, renderer) = (rendition.spelling(), JsonRows::new(3, None::<[&str; 0]>));
    let context = Context { renderer: &renderer, epoch: "e" };
    let (mut event, mut previous) = (Vec::new(), Vec::new());
    spelling.event(&change, context, &mut event).unwrap();
    spelling.previous(&change, context, &mut previous).unwrap();
    let mut out = event.clone();
    for (seen_as, dropped_before) in [(ChangeType::Created, 4), (ChangeType::Deleted, 0)] {
        let seen = Seen { change: seen_as, previous: &previous, dropped_before };
        spelling.seen(&event, &change, context, seen, &mut out);
    }
    spelling.conflated(&event, 5, &mut out);
    spelling.bookmark("e", Revision::new(8), 2, &mut out);
    String::from_utf8(out).unwrap()
}
