use super::*;
use crate::model::ChangeType;
use crate::wire::frame;

/// Events `revisions`, each with a message of `size` bytes that all equal the low byte of its revision.
fn batch(revisions: impl IntoIterator<Item = u64>, size: usize) -> Batch {
    let mut batch = Batch::default();
    for number in revisions {
        let change = if number % 2 == 0 { ChangeType::Updated } else { ChangeType::Created };
        let id = format!("r{}", number % 3);
        batch.push((Revision::new(number), change, &id), 0, |message, previous| {
            message.resize(message.len() + size, number as u8);
            previous.push(number as u8);
        });
    }
    batch
}

fn read_all(log: &Log, mut ordinal: u64) -> Vec<u64> {
    let mut revisions = Vec::new();
    while let Place::In(segment, index) = log.locate(ordinal) {
        for (at, entry) in segment.entries().iter().enumerate().skip(index) {
            let framed = segment.frames(at..at + 1);
            assert!(framed[frame::HEADER..].iter().all(|&byte| byte == entry.revision.get() as u8));
            assert_eq!(segment.previous(at), [entry.revision.get() as u8]);
            assert_eq!(segment.resource_id(at), format!("r{}", entry.revision.get() % 3));
            revisions.push(entry.revision.get());
        }
        ordinal = segment.end_ordinal();
    }
    revisions
}

#[test]
fn small_appends_stay_in_one_piece() {
    let log = Log::new(Revision::new(10));
    for number in 11..=60 {
        log.append(batch([number], 100), Revision::new(number));
    }
    let Place::In(segment, 0) = log.locate(0) else { panic!("the first event is there") };
    assert_eq!(segment.len(), 50);
    assert_eq!(segment.frames(0..50).len(), 50 * (100 + frame::HEADER));
    assert_eq!(read_all(&log, 0), (11..=60).collect::<Vec<_>>());
    assert_eq!(log.size().events, 50);
}

#[test]
fn positions_are_found_by_revision() {
    let log = Log::new(Revision::new(10));
    log.append(batch((12..=2000).step_by(2), 100), Revision::new(2001));
    assert_eq!(log.first_after(Revision::new(10)), Ok(0));
    assert_eq!(log.first_after(Revision::new(12)), Ok(1));
    assert_eq!(log.first_after(Revision::new(13)), Ok(1));
    assert_eq!(log.first_after(Revision::new(2001)), Ok(log.next()));
    assert_eq!(log.first_after(Revision::new(9)), Err(Outside::TooOld { floor: Revision::new(10) }));
    assert_eq!(log.first_after(Revision::new(2002)), Err(Outside::Ahead { head: Revision::new(2001) }));
}

#[test]
fn trimming_keeps_what_it_says() {
    let log = Log::new(Revision::ZERO);
    let limit = 100_000;
    let mut end = 0;
    for _ in 0..100 {
        log.append(batch(end + 1..=end + 100, 100), Revision::new(end + 100));
        end += 100;
        if let Some(first_kept) = log.excess(limit) {
            log.trim(first_kept, first_kept);
            assert!(log.size().bytes <= limit);
            assert!(matches!(log.locate(first_kept), Place::In(_, 0)));
            assert!(matches!(log.locate(first_kept - 1), Place::Trimmed));
            assert_eq!(log.first_after(Revision::new(first_kept)), Ok(first_kept));
            assert!(log.first_after(Revision::new(first_kept - 1)).is_err());
        }
    }
    let held = log.size().events;
    assert!((500..10_000).contains(&held), "{held}");
    assert_eq!(read_all(&log, end - held), (end - held + 1..=end).collect::<Vec<_>>());
}

#[test]
fn an_event_over_the_limit_stays_alone() {
    let log = Log::new(Revision::ZERO);
    log.append(batch(1..=3, 50_000), Revision::new(3));
    let first_kept = log.excess(10_000).unwrap();
    log.trim(first_kept, first_kept);
    assert_eq!(read_all(&log, 2), [3]);
    assert_eq!(log.size().events, 1);
}

#[test]
fn a_batch_makes_segments_of_a_bounded_size() {
    const LIMIT: usize = 64 * 1024;
    let log = Log::new(Revision::ZERO);
    log.append(batch(1..=1000, 172), Revision::new(1000));
    let mut ordinal = 0;
    while let Place::In(segment, 0) = log.locate(ordinal) {
        let bytes = segment.frames(0..segment.len()).len();
        let last = segment.end_ordinal() == log.next();
        assert!(bytes <= LIMIT && (last || bytes + 172 + frame::HEADER > LIMIT), "{bytes}");
        ordinal = segment.end_ordinal();
    }
    assert_eq!(ordinal, 1000);
    assert_eq!(read_all(&log, 0), (1..=1000).collect::<Vec<_>>());
}
