//! The contract of a watch (DESIGN section 3): each guarantee that exists today, by its name, as a function
//! over what was recorded.

/// Fails with a message unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

mod causal;
mod newest;
mod state;
#[cfg(test)]
mod tests;

use state::replay;
pub use state::{bookmarked, exact_state};

use super::history::{End, Event, Evidence, History, Journal, Row, Stream};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};
use tonic::Code;
use trex::model::ChangeType;

/// What a validator says against a history.
pub type Verdict = Result<(), String>;
type Validator = fn(&Evidence<'_>) -> Verdict;

const ALL: [(&str, Validator); 11] = [
    ("Subscribed", subscribed),
    ("Ordered", ordered),
    ("Unique", unique),
    ("Causal", causal),
    ("Complete", complete),
    ("Attributed", attributed),
    ("Resumable", resumable),
    ("Exact state", exact_state),
    ("Bookmarked", bookmarked),
    ("Isolated", isolated),
    ("Honest end", honest_end),
];

/// Puts a history through all validators; panics with everything that they say against it.
pub fn validate(history: &History, journal: &Journal) {
    let evidence = Evidence::new(history, journal);
    let broken: Vec<_> = ALL
        .iter()
        .filter_map(|(name, validator)| Some(format!("{name}: {}", validator(&evidence).err()?)))
        .collect();
    assert!(broken.is_empty(), "broken guarantees:\n  {}", broken.join("\n  "));
}
/// Nothing up to `hub-revision` is delivered; whatever was committed after the headers were seen is.
pub fn subscribed(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let (name, headers) = (&stream.name, &stream.headers);
        ensure!(!headers.epoch.is_empty(), "{name}: no hub-epoch");
        if let Some(asked) = stream.request.after_revision {
            ensure!(headers.revision == asked, "{name}: starts after {}, not {asked}", headers.revision);
        }
        if let Some(event) = stream.events.iter().find(|event| event.revision <= headers.revision) {
            return Err(format!("{name}: {} is not after hub-revision {}", event.revision, headers.revision));
        }
        let delivered: HashSet<_> = stream.events.iter().map(Event::key).collect();
        let (selector, end) = (stream.selector(), begun_by_the_last(evidence, stream));
        let owed = evidence.journal.committed().map(|(_, transaction)| transaction).filter(|transaction| {
            transaction.commit_sent.is_some_and(|sent| sent > headers.seen)
                && (stream.end == End::Finished
                    || transaction.acknowledged().zip(end).is_some_and(|(done, end)| done < end))
        });
        if stream.dropped() + stream.conflated() > 0 {
            continue; // Attributed counts those
        }
        for change in owed.flat_map(|transaction| transaction.changes()) {
            ensure!(
                !selector.matches(change.change, &change.id) || delivered.contains(&change.key()),
                "{name}: {change:?} was committed after the headers were seen, and never came"
            );
        }
    }
    Ok(())
}

/// When the transaction of a stream's last event made its first change: what was acknowledged before that
/// precedes it.
fn begun_by_the_last(evidence: &Evidence<'_>, stream: &Stream) -> Option<Instant> {
    evidence.transaction(evidence.entry(stream.events.last()?)?).first_sent()
}

/// Revisions strictly increase on a stream.
pub fn ordered(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        for pair in stream.events.windows(2) {
            let (one, two) = (pair[0].revision, pair[1].revision);
            ensure!(one < two, "{}: {two} came after {one}", stream.name);
        }
    }
    Ok(())
}

/// No event comes twice on a stream, and a revision names one event: on all streams, and after every
/// reconnect, the same.
pub fn unique(evidence: &Evidence<'_>) -> Verdict {
    let mut names = HashMap::new();
    let mut numbers = HashMap::new();
    for stream in &evidence.history.streams {
        let (name, epoch) = (&stream.name, stream.headers.epoch.as_str());
        let mut seen = HashSet::new();
        for event in &stream.events {
            let key = event.key();
            ensure!(seen.insert(key.clone()), "{name}: {key:?} came again, as {}", event.revision);
            let named = names.entry((epoch, event.revision)).or_insert_with(|| key.clone());
            ensure!(*named == key, "{name}: {} is {key:?} here and {named:?} elsewhere", event.revision);
            let number = *numbers.entry((epoch, key)).or_insert(event.revision);
            ensure!(
                number == event.revision,
                "{name}: {:?} is {} here and {number} elsewhere",
                event.key(),
                event.revision
            );
        }
    }
    Ok(())
}

/// A transaction whose first change was made after another's commit was acknowledged comes after it; a row's
/// events come in the order they happened; a transaction's events stay together; every event carries the row
/// as it was at that change.
pub fn causal(evidence: &Evidence<'_>) -> Verdict {
    evidence.history.streams.iter().try_for_each(|stream| {
        causal::real_time(evidence, stream)
            .and_then(|()| causal::together(evidence, stream))
            .and_then(|()| causal::rows_in_order(evidence, stream))
            .and_then(|()| causal::as_it_was(evidence, stream))
            .map_err(|message| format!("{}: {message}", stream.name))
    })
}

/// Only what was committed is delivered, and what was not dropped is delivered; a stream that saw everything
/// leads to the final table.
pub fn complete(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let name = &stream.name;
        if let Some(phantom) = stream.events.iter().find(|event| evidence.entry(event).is_none()) {
            return Err(format!("{name}: nobody committed {phantom:?}"));
        }
        if stream.request.after_revision.is_none() {
            nothing_is_missing(evidence, stream)?;
        }
        if stream.end == End::Finished && stream.dropped() == 0 {
            let missing = unaccounted(evidence, stream);
            ensure!(missing == 0, "{name}: {missing} committed changes never came");
        }
        let from_the_start = evidence
            .journal
            .transactions
            .iter()
            .all(|transaction| transaction.first_sent().is_none_or(|sent| sent > stream.headers.seen));
        if (from_the_start || stream.request.send_initial_state)
            && stream.end == End::Finished
            && stream.request.types.is_empty()
            && stream.dropped() == 0
        {
            leads_to_the_table(stream, &evidence.journal.table)
                .map_err(|message| format!("{name}: {message}"))?;
        }
    }
    Ok(())
}

fn leads_to_the_table(stream: &Stream, table: &BTreeMap<String, Row>) -> Verdict {
    let rows = replay(&stream.state, &stream.events);
    let selector = stream.selector();
    let table: BTreeMap<_, _> = table
        .iter()
        .filter(|(id, _)| selector.wants_resource(id))
        .map(|(id, row)| (id.as_str(), row))
        .collect();
    for (id, row) in &table {
        ensure!(
            rows.get(id) == Some(row),
            "the table has {row:?} as {id}, the stream leads to {:?}",
            rows.get(id)
        );
    }
    ensure!(rows.len() == table.len(), "the stream leads to {} rows, not {}", rows.len(), table.len());
    Ok(())
}

/// Of what other streams show between this one's start and its end, nothing is missing that was not dropped.
fn nothing_is_missing(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    if stream.dropped() + stream.conflated() > 0 || matches!(stream.end, End::Hub { dropped: Some(1..), .. })
    {
        return Ok(()); // Attributed counts those
    }
    let delivered: HashSet<_> = stream.events.iter().map(|event| event.revision).collect();
    let mut wanted = evidence.wanted(stream, stream.headers.revision, stream.up_to());
    match wanted.find(|event| !delivered.contains(&event.revision)) {
        Some(event) => {
            Err(format!("{}: {} came on another stream and not here", stream.name, event.revision))
        }
        None => Ok(()),
    }
}

/// Of the changes that a finished stream wants, those that certainly come after its start (they have a later
/// number, or were committed after its headers were seen), less those that it delivered or that stand for
/// others, less those that it says it dropped.
fn unaccounted(evidence: &Evidence<'_>, stream: &Stream) -> i64 {
    let (selector, headers) = (stream.selector(), &stream.headers);
    let owed = evidence.book.iter().filter(|(key, entry)| {
        let number = evidence.numbers.get(&(headers.epoch.as_str(), (*key).clone()));
        let sent_later = || evidence.transaction(**entry).commit_sent.is_some_and(|sent| sent > headers.seen);
        selector.matches(entry.change.change, &entry.change.id)
            && number.map_or_else(sent_later, |&number| number > headers.revision)
    });
    owed.count() as i64 - stream.events.len() as i64 - stream.conflated() as i64 - stream.dropped() as i64
}

/// What is delivered and what is dropped add up to what matched, to the event: at every gap where another
/// stream shows what was in it, in the trailers, and in total.
pub fn attributed(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let name = &stream.name;
        if stream.end == End::Finished {
            let missing = unaccounted(evidence, stream);
            ensure!(missing == 0, "{name}: delivered + dropped is {missing} short of what matched");
        }
        if evidence.history.streams.iter().any(|witness| shows_all_of(witness, stream)) {
            if stream.conflated() > 0 {
                newest::of_each_resource(evidence, stream)?;
            } else {
                gaps_are_told(evidence, stream)?;
            }
        }
        if let End::Hub { revision: Some(_), dropped: Some(dropped), .. } = stream.end {
            let last = stream.events.last().map_or(stream.headers.revision, |event| event.revision);
            // A bookmark tells what was dropped up to it.
            let last = stream.bookmarks.last().map_or(last, |bookmark| bookmark.revision.max(last));
            let untold = evidence.wanted(stream, last, stream.up_to()).count() as u64;
            let lost = stream.dropped() + untold;
            ensure!(dropped == lost, "{name}: hub-dropped is {dropped}, and {lost} were lost");
        }
    }
    Ok(())
}

/// Whether a stream lost nothing, and covers all of another.
fn shows_all_of(witness: &Stream, stream: &Stream) -> bool {
    witness.selector().is_all()
        && witness.dropped() + witness.conflated() == 0
        && witness.headers.epoch == stream.headers.epoch
        && witness.headers.revision <= stream.headers.revision
        && witness.up_to() >= stream.up_to()
}

fn gaps_are_told(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    let mut last = stream.headers.revision;
    for (at, event) in stream.events.iter().enumerate() {
        let missed = evidence.wanted(stream, last, event.revision.saturating_sub(1)).count() as u64;
        let told = stream.told_before(at);
        ensure!(
            missed == told,
            "{}: before {} {missed} are missing, and {told} are told",
            stream.name,
            event.revision,
        );
        last = event.revision;
    }
    Ok(())
}

/// A stream that starts after a revision begins with what follows it, and goes on with neither hole nor
/// repeat.
pub fn resumable(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let (Some(after), name) = (stream.request.after_revision, &stream.name) else { continue };
        if let Some(event) = stream.events.iter().find(|event| event.revision <= after) {
            return Err(format!("{name}: {} was asked not to come again", event.revision));
        }
        nothing_is_missing(evidence, stream)?;
    }
    Ok(())
}

/// Whoever reads loses nothing, whatever others do.
pub fn isolated(evidence: &Evidence<'_>) -> Verdict {
    for stream in evidence.history.streams.iter().filter(|stream| !stream.stalls) {
        let told = match stream.end {
            End::Hub { dropped: Some(dropped), .. } => dropped,
            _ => 0,
        };
        let lost = stream.dropped().max(told);
        ensure!(lost == 0, "{} always read, and lost {lost}", stream.name);
    }
    Ok(())
}

/// Only the client ends a stream with OK. The hub says when to try again, where the stream stopped and what
/// it lost; a deadline is one that was asked for.
pub fn honest_end(evidence: &Evidence<'_>) -> Verdict {
    for stream in &evidence.history.streams {
        let End::Hub { code, retry_info, revision, dropped } = &stream.end else { continue };
        let name = &stream.name;
        match code {
            Code::Ok => return Err(format!("{name}: the hub ended it with OK")),
            Code::DeadlineExceeded => {
                ensure!(stream.timeout.is_some(), "{name}: a deadline that nobody asked for");
                continue;
            }
            Code::Unavailable => ensure!(retry_info, "{name}: UNAVAILABLE does not say when to try again"),
            _ => {}
        }
        ensure!(
            revision.is_some() && dropped.is_some(),
            "{name}: {code:?} without hub-revision and hub-dropped"
        );
    }
    Ok(())
}
