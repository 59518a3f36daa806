//! The parts of Causal.

use super::*;

/// From the last event to the first: nothing that comes later was acknowledged before this one's transaction
/// began.
pub(super) fn real_time(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    let mut earliest: Option<(Instant, &Event)> = None;
    for event in stream.events.iter().rev() {
        let Some(transaction) = evidence.entry(event).map(|entry| evidence.transaction(entry)) else {
            continue;
        };
        if let (Some((acknowledged, later)), Some(began)) = (earliest, transaction.first_sent()) {
            ensure!(
                began <= acknowledged,
                "{} was committed {:?} before {} began, and came after it",
                later.revision,
                began - acknowledged,
                event.revision
            );
        }
        if let Some(done) = transaction.acknowledged()
            && earliest.is_none_or(|(earliest, _)| done < earliest)
        {
            earliest = Some((done, event));
        }
    }
    Ok(())
}

/// The events of a transaction are next to each other, its statements in order, a statement's deletes before
/// its creates.
pub(super) fn together(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    let mut closed = HashSet::new();
    let plain = stream.selector().is_all() && stream.request.filter.is_empty() && stream.conflated() == 0;
    for pair in stream.events.windows(2) {
        let (Some(one), Some(two)) = (evidence.entry(&pair[0]), evidence.entry(&pair[1])) else { continue };
        let revision = pair[1].revision;
        if one.transaction != two.transaction {
            closed.insert(one.transaction);
            ensure!(!closed.contains(&two.transaction), "{revision} is apart from its transaction");
            continue;
        }
        ensure!(
            !plain || pair[1].dropped_before > 0 || revision == pair[0].revision + 1,
            "something stands between {} and {revision}, of one transaction",
            pair[0].revision
        );
        ensure!(one.statement <= two.statement, "{revision} is of an earlier statement than the one before");
        // One update may make rows enter a filter and others leave it, in any order.
        ensure!(
            !stream.request.filter.is_empty()
                || one.statement != two.statement
                || (pair[0].change, pair[1].change) != (ChangeType::Created, ChangeType::Deleted),
            "{revision}: a statement's create came before its delete"
        );
    }
    Ok(())
}

/// Each event of a row replaces the content that the row's event before it left. What a stream has not seen
/// yet, or may have lost, is taken as it comes.
pub(super) fn rows_in_order(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    if !stream.request.types.is_empty() {
        return Ok(());
    }
    let mut rows: HashMap<&str, Option<&str>> =
        stream.state.iter().map(|(id, row)| (id.as_str(), Some(row.mark()))).collect();
    for (at, event) in stream.events.iter().enumerate() {
        if stream.told_before(at) > 0 {
            rows.clear();
        }
        let Some(entry) = evidence.entry(event) else { continue };
        let now = event.after.as_ref().map(Row::mark);
        // One that stands for others replaced what the newest of those left.
        if let Some(before) = rows.insert(&event.id, now).filter(|_| event.stands_for() == 1) {
            let happened = entry.change.before.as_deref();
            ensure!(
                before == happened,
                "{} of {} replaced {happened:?}, and came after {before:?}",
                event.revision,
                event.id
            );
        }
    }
    Ok(())
}

pub(super) fn as_it_was(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    let written = |id: &str, mark: &str| {
        [ChangeType::Created, ChangeType::Updated].iter().find_map(|&change| {
            let key = crate::support::history::Key::new(change, id, Some(&Row::new(mark, 0)));
            evidence.book.get(&key)?.change.after.as_ref()
        })
    };
    for event in &stream.events {
        let Some(entry) = evidence.entry(event) else { continue };
        let (revision, change) = (event.revision, entry.change);
        ensure!(event.after == change.after, "{revision} carries {:?}, not {:?}", event.after, change.after);
        let previous = match &change.before {
            Some(mark) if stream.request.include_previous => written(&event.id, mark),
            _ => None,
        };
        ensure!(
            event.previous.as_ref() == previous,
            "{revision} has {:?} as the row before, not {previous:?}",
            event.previous
        );
    }
    Ok(())
}
