//! Initial states and bookmarks.

use super::Verdict;
use crate::support::history::{End, Event, Evidence, Row, Stream};
use std::collections::BTreeMap;

/// What events make of a state.
pub(super) fn replay<'a>(
    state: &'a [(String, Row)],
    events: impl IntoIterator<Item = &'a Event>,
) -> BTreeMap<&'a str, &'a Row> {
    let mut rows: BTreeMap<_, _> = state.iter().map(|(id, row)| (id.as_str(), row)).collect();
    for event in events {
        match &event.after {
            Some(row) => rows.insert(&event.id, row),
            None => rows.remove(event.id.as_str()),
        };
    }
    rows
}

/// An initial state names no row twice, is there only if it was asked for, and is what the events up to its
/// revision lead to, as a stream from the very beginning shows them. A bookmark with that revision ends it.
pub fn exact_state(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let (name, revision) = (&stream.name, stream.headers.revision);
        if !stream.request.send_initial_state {
            ensure!(stream.state.is_empty(), "{name}: a state that nobody asked for");
            continue;
        }
        let state: BTreeMap<_, _> = stream.state.iter().map(|(id, row)| (id.as_str(), row)).collect();
        ensure!(state.len() == stream.state.len(), "{name}: the state has a row twice");
        let (first, complete) =
            (stream.bookmarks.first(), !stream.events.is_empty() || stream.end == End::Finished);
        ensure!(!complete || first.is_some(), "{name}: nothing ends the state");
        let Some(first) = first else { continue };
        ensure!(
            (first.revision, first.at) == (revision, 0),
            "{name}: the state at {revision} ends with {first:?}"
        );
        let witness = |other: &&Stream| {
            other.headers.revision == 0
                && other.headers.epoch == stream.headers.epoch
                && other.selector().is_all()
                && other.dropped() == 0
                && other.up_to() >= revision
        };
        let Some(witness) = evidence.history.streams.iter().find(witness) else { continue };
        let before = witness.events.iter().take_while(|event| event.revision <= revision);
        let selector = stream.selector();
        let mut truth = replay(&witness.state, before);
        truth.retain(|id, _| selector.wants_resource(id));
        for (id, row) in &truth {
            ensure!(
                state.get(id) == Some(row),
                "{name}: {id} was {row:?} at {revision}, and is {:?}",
                state.get(id)
            );
        }
        let extra = state.keys().find(|id| !truth.contains_key(*id));
        ensure!(extra.is_none(), "{name}: {extra:?} was not there at {revision}");
    }
    Ok(())
}

/// Bookmarks come if they were asked for. Each stands at or after everything delivered before it and before
/// everything delivered after it, and up to it nothing that is wanted is missing and was not told as dropped.
pub fn bookmarked(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let name = &stream.name;
        let asked = stream.request.bookmark_interval.is_some();
        let most = if asked { usize::MAX } else { usize::from(stream.request.send_initial_state) };
        ensure!(stream.bookmarks.len() <= most, "{name}: bookmarks that nobody asked for");
        let mut last = stream.headers.revision;
        for bookmark in &stream.bookmarks {
            let revision = bookmark.revision;
            let (before, after) = stream.events.split_at(bookmark.at);
            ensure!(revision >= last, "{name}: a bookmark at {revision} after one at {last}");
            last = revision;
            if let Some(event) = before.last().filter(|event| event.revision > revision) {
                return Err(format!("{name}: {} came before a bookmark at {revision}", event.revision));
            }
            if let Some(event) = after.first().filter(|event| event.revision <= revision) {
                return Err(format!("{name}: {} came after a bookmark at {revision}", event.revision));
            }
            let told = stream.bookmarks.iter().take_while(|other| other.seen <= bookmark.seen);
            let told: u64 = before
                .iter()
                .map(|event| event.dropped_before)
                .chain(told.map(|other| other.dropped_before))
                .sum();
            let came = before.iter().map(Event::stands_for).sum::<u64>();
            let known = evidence.wanted(stream, stream.headers.revision, revision).count() as u64;
            ensure!(
                known <= came + told,
                "{name}: {known} are wanted up to a bookmark at {revision}, {came} came and {told} were \
                 dropped",
            );
        }
    }
    Ok(())
}
