//! What streams with a filter should show, made of the writers' journals: a run as it would have been if the
//! filter's rows were all.

use crate::support::history::{Change, Event, History, Journal, Row, Stream};
use std::collections::HashMap;
use trex::model::ChangeType::{Created, Deleted, Updated};

/// Whether a row is wanted, decided without the code under test.
pub type Oracle = fn(&str, &Row) -> bool;

/// The journal of a filter's rows: an update that enters is a create, one that leaves a delete, and what
/// happens to others nothing.
pub fn journal(journal: &Journal, wants: Oracle) -> Journal {
    let changes = journal.transactions.iter().flat_map(|transaction| transaction.changes());
    let contents: HashMap<_, _> = changes
        .filter_map(|change| {
            Some((content(&change.id, change.after.as_ref()?.mark()), change.after.clone()?))
        })
        .collect();
    let seen = |change: &Change| {
        let before = change.before.as_deref().map(|mark| &contents[&content(&change.id, mark)]);
        let old = before.is_some_and(|row| wants(&change.id, row));
        let new = change.after.as_ref().is_some_and(|row| wants(&change.id, row));
        let before = || change.before.clone();
        Some(match (old, new) {
            (false, false) => return None,
            (false, true) => Change { change: Created, before: None, ..change.clone() },
            (true, true) => Change { change: Updated, ..change.clone() },
            (true, false) => Change { change: Deleted, after: None, took: before(), ..change.clone() },
        })
    };
    let mut seen_by_filter = journal.clone();
    for transaction in &mut seen_by_filter.transactions {
        for statement in &mut transaction.statements {
            statement.changes = statement.changes.iter().filter_map(seen).collect();
        }
    }
    seen_by_filter.table.retain(|id, row| wants(id, row));
    seen_by_filter
}

fn content(id: &str, mark: &str) -> (String, String) {
    (id.to_owned(), mark.to_owned())
}

/// Streams with the filter and with `include_previous`, in terms of that journal.
pub fn history(streams: Vec<Stream>) -> History {
    let taking = |event: Event| match (event.change, &event.previous) {
        (Deleted, Some(row)) => Event { took: Some(row.mark().to_owned()), ..event },
        _ => event,
    };
    let streams = streams
        .into_iter()
        .map(|stream| Stream { events: stream.events.into_iter().map(taking).collect(), ..stream });
    History { streams: streams.collect() }
}
