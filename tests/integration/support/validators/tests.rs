//! Each guarantee is broken by a hand-made history.

use super::{causal::*, *};
use crate::support::history::{Bookmark, Change, Headers, Outcome, Statement, Transaction};
use std::time::Duration;
use trex::proto::rh_trex::v1::{BackpressurePolicy, EventType, WatchDinosaursRequest};

/// Four transactions, of which the third is rolled back; committed one after the other: creates a; updates a,
/// creates b; (creates c); gives a the key d, deletes b.
struct Run {
    history: History,
    journal: Journal,
}

const BROKEN: &str = "the validator passed a broken history";

fn change(change: ChangeType, id: &str, species: &str, before: &str) -> Change {
    Change {
        change,
        id: id.to_owned(),
        after: (!species.is_empty()).then(|| Row::new(species, 7)),
        before: (!before.is_empty()).then(|| before.to_owned()),
        took: None,
    }
}

fn transaction(start: Instant, at: u64, outcome: bool, statements: Vec<Vec<Change>>) -> Transaction {
    let moment = |ms| start + Duration::from_millis(at * 100 + ms);
    let statements = statements.into_iter().zip(0..);
    let outcome = match outcome {
        true => Outcome::Committed { acknowledged: Some(moment(50)) },
        false => Outcome::RolledBack,
    };
    Transaction {
        mark: format!("t{at}"),
        statements: statements.map(|(changes, ms)| Statement { sent: moment(ms), changes }).collect(),
        commit_sent: Some(moment(40)),
        outcome,
    }
}

impl Run {
    fn new() -> Self {
        use ChangeType::{Created, Deleted, Updated};
        let start = Instant::now();
        let transactions = vec![
            transaction(start, 1, true, vec![vec![change(Created, "a", "1", "")]]),
            transaction(
                start,
                2,
                true,
                vec![vec![change(Updated, "a", "2<1", "1")], vec![change(Created, "b", "3", "")]],
            ),
            transaction(start, 3, false, vec![vec![change(Created, "c", "4", "")]]),
            transaction(
                start,
                4,
                true,
                vec![
                    vec![change(Created, "d", "5<2", ""), change(Deleted, "a", "", "2")],
                    vec![change(Deleted, "b", "", "3")],
                ],
            ),
        ];
        let event = |revision, change, id: &str, species: &str| Event {
            revision,
            change,
            id: id.to_owned(),
            after: (!species.is_empty()).then(|| Row::new(species, 7)),
            previous: None,
            dropped_before: 0,
            conflated: 0,
            took: None,
        };
        let stream = Stream {
            name: "plain".into(),
            request: WatchDinosaursRequest::default(),
            timeout: None,
            stalls: false,
            headers: Headers { revision: 10, epoch: "e".into(), seen: start },
            events: vec![
                event(11, Created, "a", "1"),
                event(12, Updated, "a", "2<1"),
                event(13, Created, "b", "3"),
                event(14, Deleted, "a", ""),
                event(15, Created, "d", "5<2"),
                event(16, Deleted, "b", ""),
            ],
            end: End::Finished,
            state: Vec::new(),
            bookmarks: Vec::new(),
            status: None,
        };
        let mut resumed = Stream { name: "resumed".into(), ..stream.clone() };
        resumed.request.after_revision = Some(13);
        resumed.headers.revision = 13;
        resumed.headers.seen = start + Duration::from_millis(390);
        resumed.events.drain(..3);
        Self {
            history: History { streams: vec![stream, resumed] },
            journal: Journal { transactions, table: BTreeMap::from([("d".into(), Row::new("5<2", 7))]) },
        }
    }

    fn plain(&mut self) -> &mut Stream {
        &mut self.history.streams[0]
    }

    fn resumed(&mut self) -> &mut Stream {
        &mut self.history.streams[1]
    }

    fn swap(&mut self, one: usize, two: usize) {
        let events = &mut self.plain().events;
        events.swap(one, two);
        for (at, revision) in [one, two].map(|at| (at, 11 + at as u64)) {
            events[at].revision = revision;
        }
    }

    fn verdict(&self, validator: Validator) -> Verdict {
        validator(&Evidence::new(&self.history, &self.journal))
    }

    /// A stream that lost b's update and creation and says so.
    fn with_a_drop() -> Self {
        let mut run = Self::new();
        let mut slow = Stream { name: "slow".into(), stalls: true, ..run.history.streams[0].clone() };
        slow.events.drain(1..3);
        slow.events[1].dropped_before = 2;
        run.history.streams.push(slow);
        run
    }
}

#[test]
fn a_good_history_passes() {
    let run = Run::new();
    validate(&run.history, &run.journal);
    let run = Run::with_a_drop();
    validate(&run.history, &run.journal);
}

#[test]
#[should_panic(expected = "Ordered: plain: 11 came after 12")]
fn validate_names_what_is_broken() {
    let mut run = Run::new();
    run.plain().events.swap(0, 1);
    validate(&run.history, &run.journal);
}

#[test]
fn subscribed_is_broken_by_what_came_before_the_headers_and_by_what_never_came() {
    let mut run = Run::new();
    run.plain().headers.revision = 11;
    assert!(run.verdict(subscribed).is_err(), "{BROKEN}");
    let mut run = Run::new();
    run.plain().headers.epoch.clear();
    assert!(run.verdict(subscribed).is_err(), "{BROKEN}");
    let mut run = Run::new();
    run.plain().events.remove(2);
    assert!(run.verdict(subscribed).is_err(), "{BROKEN}");
    run.plain().end = End::Left;
    assert!(
        run.verdict(subscribed).is_err(),
        "{BROKEN}: its transaction was acknowledged before the last began"
    );
}

#[test]
fn ordered_is_broken_by_a_step_back_and_by_standing_still() {
    let mut run = Run::new();
    run.plain().events.swap(3, 4);
    assert!(run.verdict(ordered).is_err(), "{BROKEN}");
    let mut run = Run::new();
    run.plain().events[1].revision = 11;
    assert!(run.verdict(ordered).is_err(), "{BROKEN}");
}

#[test]
fn unique_is_broken_by_a_repeat_and_by_a_second_name() {
    let mut run = Run::new();
    let again = Event { revision: 17, ..run.plain().events[0].clone() };
    run.plain().events.push(again);
    assert!(run.verdict(unique).is_err(), "{BROKEN}");
    let mut run = Run::new();
    run.resumed().events[2].revision = 17;
    assert!(run.verdict(unique).is_err(), "{BROKEN}: 16 elsewhere");
    let mut run = Run::new();
    run.resumed().events[2].id = "x".into();
    assert!(run.verdict(unique).is_err(), "{BROKEN}: 16 names b elsewhere");
}

#[test]
fn causal_is_broken_by_an_order_that_real_time_contradicts() {
    let mut run = Run::new();
    run.plain().events.rotate_left(3);
    let events = &mut run.plain().events;
    for (event, revision) in events.iter_mut().zip(11..) {
        event.revision = revision;
    }
    let stream = run.history.streams[0].clone();
    assert!(real_time(&Evidence::new(&run.history, &run.journal), &stream).is_err(), "{BROKEN}");
}

#[test]
fn causal_is_broken_by_a_transaction_apart_and_by_statements_out_of_order() {
    let apart = |run: &Run| together(&Evidence::new(&run.history, &run.journal), &run.history.streams[0]);
    let mut run = Run::new();
    run.swap(0, 1);
    assert!(apart(&run).unwrap_err().contains("apart"));
    let mut run = Run::new();
    run.swap(1, 2);
    assert!(apart(&run).unwrap_err().contains("earlier statement"));
    let mut run = Run::new();
    run.swap(3, 4);
    assert!(apart(&run).unwrap_err().contains("create came before its delete"));
    let mut run = Run::new();
    run.plain().events[2].revision += 1;
    assert!(apart(&run).unwrap_err().contains("stands between"));
}

#[test]
fn causal_is_broken_by_a_row_out_of_its_order() {
    let mut run = Run::new();
    run.swap(0, 1);
    let evidence = Evidence::new(&run.history, &run.journal);
    assert!(rows_in_order(&evidence, &run.history.streams[0]).is_err(), "{BROKEN}");
}

#[test]
fn causal_is_broken_by_a_row_as_it_is_now_and_by_a_wrong_row_before() {
    let mut run = Run::new();
    run.plain().events[1].after = Some(Row::new("2<1", 8));
    assert!(run.verdict(causal).is_err(), "{BROKEN}: another time");
    let mut run = Run::new();
    run.plain().request.include_previous = true;
    assert!(run.verdict(causal).is_err(), "{BROKEN}: nothing before");
    for (at, species) in [(1, "1"), (3, "2<1"), (5, "3")] {
        run.plain().events[at].previous = Some(Row::new(species, 7));
    }
    assert_eq!(run.verdict(causal), Ok(()));
    run.plain().request.include_previous = false;
    assert!(run.verdict(causal).is_err(), "{BROKEN}: not asked for");
}

#[test]
fn complete_is_broken_by_phantoms_by_holes_and_by_another_table() {
    let mut run = Run::new();
    run.plain().events[2].id = "c".into();
    run.plain().events[2].after = Some(Row::new("4", 7));
    assert!(run.verdict(complete).unwrap_err().contains("nobody committed"));
    let mut run = Run::new();
    let cut = run.plain().events.len() - 1;
    run.plain().events.truncate(cut);
    assert!(run.verdict(complete).unwrap_err().contains("never came"));
    let mut run = Run::new();
    run.plain().end = End::Left;
    run.plain().events.remove(3);
    assert!(run.verdict(complete).unwrap_err().contains("and not here"));
    let mut run = Run::new();
    run.journal.table.insert("e".into(), Row::new("9", 7));
    assert!(run.verdict(complete).unwrap_err().contains("the table has"));
}

#[test]
fn attributed_is_broken_by_a_drop_that_is_told_wrongly() {
    for wrong in [0, 1, 3] {
        let mut run = Run::with_a_drop();
        run.history.streams[2].events[1].dropped_before = wrong;
        assert!(run.verdict(attributed).is_err(), "{BROKEN}");
        run.history.streams[2].end = End::Left;
        assert!(run.verdict(attributed).is_err(), "{BROKEN}: a witness shows the gap");
    }
    let mut run = Run::with_a_drop();
    run.history.streams[2].events[2].dropped_before = 1;
    run.history.streams[2].events[1].dropped_before = 1;
    assert!(run.verdict(attributed).is_err(), "{BROKEN}: the sum is right, the place is not");
}

#[test]
fn attributed_is_broken_by_trailers_that_do_not_count() {
    let mut run = Run::with_a_drop();
    let ended = |dropped| End::Hub {
        code: Code::Unavailable,
        retry_info: true,
        revision: Some(16),
        dropped: Some(dropped),
    };
    run.history.streams[2].events.pop();
    run.history.streams[2].end = ended(3);
    assert_eq!(run.verdict(attributed), Ok(()));
    run.history.streams[2].end = ended(2);
    assert!(run.verdict(attributed).is_err(), "{BROKEN}");
}

#[test]
fn resumable_is_broken_by_a_repeat_and_by_a_hole() {
    let mut run = Run::new();
    let again = run.plain().events[2].clone();
    run.resumed().events.insert(0, again);
    assert!(run.verdict(resumable).is_err(), "{BROKEN}");
    let mut run = Run::new();
    run.resumed().events.remove(0);
    assert!(run.verdict(resumable).is_err(), "{BROKEN}");
}

#[test]
fn isolated_is_broken_by_a_loss_of_one_who_reads() {
    let mut run = Run::with_a_drop();
    run.history.streams[2].stalls = false;
    assert!(run.verdict(isolated).is_err(), "{BROKEN}");
}

#[test]
fn honest_end_is_broken_by_ok_by_silence_and_by_a_deadline_of_its_own() {
    let verdict = |code, retry_info, revision| {
        let mut run = Run::new();
        run.plain().end = End::Hub { code, retry_info, revision, dropped: Some(0) };
        run.verdict(honest_end)
    };
    assert_eq!(verdict(Code::Unavailable, true, Some(16)), Ok(()));
    assert!(verdict(Code::Ok, true, Some(16)).is_err(), "{BROKEN}");
    assert!(verdict(Code::Unavailable, false, Some(16)).is_err(), "{BROKEN}");
    assert!(verdict(Code::OutOfRange, false, None).is_err(), "{BROKEN}");
    assert!(verdict(Code::DeadlineExceeded, false, None).is_err(), "{BROKEN}");
}

#[test]
fn types_and_ids_narrow_what_is_owed() {
    let mut run = Run::new();
    let mut typed = Stream { name: "typed".into(), ..run.history.streams[0].clone() };
    typed.request.types = vec![EventType::Deleted.into()];
    typed.events.retain(|event| event.change == ChangeType::Deleted);
    run.history.streams.push(typed);
    validate(&run.history, &run.journal);
    run.history.streams[2].events.pop();
    assert!(run.verdict(complete).is_err(), "{BROKEN}");
}

#[test]
fn marks_decide_what_a_writer_does_not_know() {
    let mut run = Run::new();
    for transaction in &mut run.journal.transactions[2..] {
        transaction.outcome = Outcome::Unknown;
    }
    run.journal.resolve(&["t1", "t2", "t4"].map(str::to_owned).into());
    let outcomes: Vec<_> = run.journal.transactions.iter().map(Transaction::is_committed).collect();
    assert_eq!(outcomes, [true, true, false, true]);
    validate(&run.history, &run.journal);
}

#[test]
#[should_panic(expected = "transaction t2")]
fn marks_that_contradict_a_writer_are_noticed() {
    Run::new().journal.resolve(&["t1", "t4"].map(str::to_owned).into());
}

/// With a stream that began with the state at 13, and has bookmarks.
fn with_a_state() -> Run {
    let mut run = Run::new();
    let mut stated = Stream { name: "stated".into(), ..run.history.streams[1].clone() };
    stated.request = WatchDinosaursRequest {
        send_initial_state: true,
        bookmark_interval: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    stated.state = vec![("a".into(), Row::new("2<1", 7)), ("b".into(), Row::new("3", 7))];
    let seen = |ms| stated.headers.seen + Duration::from_millis(ms);
    let bookmark = |revision, at, ms| Bookmark { revision, at, dropped_before: 0, seen: seen(ms) };
    stated.bookmarks = vec![bookmark(13, 0, 1), bookmark(14, 1, 2), bookmark(16, 3, 3)];
    run.history.streams.push(stated);
    // The witness of the whole past.
    for stream in &mut run.history.streams {
        let zero = |revision: &mut u64| *revision -= 10;
        zero(&mut stream.headers.revision);
        stream.request.after_revision.as_mut().map(zero);
        stream.events.iter_mut().for_each(|event| zero(&mut event.revision));
        stream.bookmarks.iter_mut().for_each(|bookmark| zero(&mut bookmark.revision));
    }
    run
}

#[test]
fn a_state_with_bookmarks_passes() {
    let run = with_a_state();
    validate(&run.history, &run.journal);
}

#[test]
fn exact_state_is_broken_by_any_other_state() {
    let broken = |breaks: fn(&mut Stream)| {
        let mut run = with_a_state();
        breaks(&mut run.history.streams[2]);
        assert!(run.verdict(exact_state).is_err(), "{BROKEN}");
    };
    broken(|stream| stream.state[0].1 = Row::new("1", 7));
    broken(|stream| drop(stream.state.pop()));
    broken(|stream| stream.state.push(("c".into(), Row::new("4", 7))));
    broken(|stream| stream.state.push(stream.state[0].clone()));
    broken(|stream| stream.bookmarks.clear());
    broken(|stream| stream.bookmarks[0].revision = 4);
    broken(|stream| stream.bookmarks[0].at = 1);
    broken(|stream| stream.request.send_initial_state = false);
}

#[test]
fn bookmarked_is_broken_by_one_too_early_too_late_or_unasked() {
    let broken = |breaks: fn(&mut Stream)| {
        let mut run = with_a_state();
        breaks(&mut run.history.streams[2]);
        assert!(run.verdict(bookmarked).is_err(), "{BROKEN}");
    };
    // Early: what it says is complete comes after it.
    broken(|stream| stream.bookmarks[1].revision = 5);
    // Or never.
    broken(|stream| {
        stream.events.remove(1);
        stream.bookmarks[2].at = 2;
    });
    // Late: it takes back what was delivered.
    broken(|stream| stream.bookmarks[2].revision = 5);
    broken(|stream| stream.bookmarks.swap(1, 2));
    broken(|stream| stream.request.bookmark_interval = None);
    // What was told as dropped is not missing.
    let mut run = with_a_state();
    let stream = &mut run.history.streams[2];
    stream.events.remove(1);
    stream.bookmarks[2].at = 2;
    stream.bookmarks[2].dropped_before = 1;
    assert_eq!(run.verdict(bookmarked), Ok(()));
}

#[test]
fn attributed_is_broken_by_an_event_that_stands_for_too_many_or_too_few() {
    // Of a, b and d the newest: 14, 16 and 15.
    let latest = || {
        let mut run = Run::new();
        let mut slow = Stream { name: "slow".into(), stalls: true, ..run.history.streams[0].clone() };
        slow.request.backpressure = BackpressurePolicy::Latest.into();
        slow.events.drain(..3);
        slow.events[0].conflated = 3;
        slow.events[2].conflated = 2;
        run.history.streams.push(slow);
        run
    };
    validate(&latest().history, &latest().journal);
    for (a, b) in [(2, 2), (4, 2), (3, 0), (3, 3)] {
        let mut run = latest();
        run.history.streams[2].events[0].conflated = a;
        run.history.streams[2].events[2].conflated = b;
        assert!(run.verdict(attributed).is_err(), "{BROKEN}");
    }
    let mut run = latest();
    run.history.streams[2].events[0].conflated = 2;
    run.history.streams[2].events[2].conflated = 3;
    assert!(run.verdict(attributed).is_err(), "{BROKEN}: the sum is right, the places are not");
    let mut run = latest();
    run.history.streams[2].request.backpressure = BackpressurePolicy::CatchUp.into();
    assert!(run.verdict(attributed).is_err(), "{BROKEN}: nobody asked");
}
