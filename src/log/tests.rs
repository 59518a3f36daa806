use super::*;
use crate::{
    model::{Change, ChangeType, Writer},
    wire::{Context, Renderer, Rendition, Unreadable},
};
use std::sync::atomic::AtomicUsize;

const RENDITION: Rendition = Rendition::Grpc;

/// Writes rows as they are, and counts them.
#[derive(Default)]
struct AsTheyAre(AtomicUsize);

impl Renderer for AsTheyAre {
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.0.fetch_add(1, Ordering::Relaxed);
        out.extend_from_slice(row.as_bytes());
        Ok(())
    }
}

/// The texts of the event of a revision, with a row of this many bytes.
struct Told {
    id: String,
    after: String,
    before: String,
    actor: String,
}

impl Told {
    fn new(number: u64, size: usize) -> Self {
        let letter = |of: u64| char::from(b'a' + (of % 26) as u8).to_string();
        Self {
            id: format!("r{}", number % 3),
            after: letter(number).repeat(size),
            before: letter(number + 1),
            // The same for some events in a row.
            actor: letter(number / 4),
        }
    }

    fn change(&self, number: u64) -> Change<'_> {
        let is_update = number.is_multiple_of(2);
        Change {
            revision: Revision::new(number),
            kind: "Test",
            resource_id: &self.id,
            change: if is_update { ChangeType::Updated } else { ChangeType::Created },
            after: Some(&self.after),
            before: is_update.then_some(&*self.before),
            captured_at: Change::moment(number as i64).filter(|_| !number.is_multiple_of(5)),
            writer: Writer {
                actor: Some(&self.actor),
                origin: None,
                trace: Some(&*self.actor).filter(|_| number.is_multiple_of(7)),
            },
            transaction_end: Revision::new(number / 4 * 4 + 3),
        }
    }
}

fn batch_by(renderer: &Arc<AsTheyAre>, revisions: impl IntoIterator<Item = u64>, size: usize) -> Batch {
    let mut batch = Batch::new("Test".into(), renderer.clone());
    for number in revisions {
        batch.push(&Told::new(number, size).change(number), number);
    }
    batch
}

fn append_by(
    renderer: &Arc<AsTheyAre>,
    log: &Log,
    revisions: impl IntoIterator<Item = u64>,
    size: usize,
    head: u64,
) {
    log.append(batch_by(renderer, revisions, size), Revision::new(head), Parts::default());
}

/// Checks that every event is found as it was given, and encoded.
fn read_all(log: &Log, mut ordinal: u64, size: usize) -> Vec<u64> {
    let mut revisions = Vec::new();
    while let Place::In(segment, index) = log.locate(ordinal) {
        for (at, entry) in segment.entries().iter().enumerate().skip(index) {
            let number = entry.revision.get();
            let (told, found) = (Told::new(number, size), segment.change(at));
            let change = told.change(number);
            assert_eq!(format!("{found:?}"), format!("{change:?}"));
            assert_eq!((entry.sealed_at, segment.resource_id(at)), (number, &*told.id));
            let (mut spelt, mut previous) = (Vec::new(), Vec::new());
            let (spelling, renderer) = (RENDITION.spelling(), AsTheyAre::default());
            let context = Context { renderer: &renderer, epoch: "" };
            spelling.event(&change, context, &mut spelt).unwrap();
            spelling.previous(&change, context, &mut previous).unwrap();
            assert_eq!(segment.frames(RENDITION, at..at + 1), spelt);
            assert_eq!(
                (segment.spelt(RENDITION, at), segment.previous(RENDITION, at)),
                (&*spelt, &*previous)
            );
            revisions.push(number);
        }
        ordinal = segment.end_ordinal();
    }
    revisions
}

#[test]
fn small_appends_stay_in_one_piece() {
    let (log, renderer) = (Log::new(Revision::new(10)), Arc::default());
    for number in 11..=60 {
        append_by(&renderer, &log, [number], 100, number);
    }
    let Place::In(segment, 0) = log.locate(0) else { panic!("the first event is there") };
    assert_eq!(segment.len(), 50);
    let one_by_one: Vec<_> = (0..50).flat_map(|at| segment.spelt(RENDITION, at).to_vec()).collect();
    assert_eq!(segment.frames(RENDITION, 0..50), one_by_one);
    assert_eq!(read_all(&log, 0, 100), (11..=60).collect::<Vec<_>>());
    assert_eq!(log.size().events, 50);
}

#[test]
fn what_was_made_is_not_made_again_and_what_nobody_needs_is_not_made() {
    let (log, renderer) = (Log::new(Revision::ZERO), Arc::<AsTheyAre>::default());
    append_by(&renderer, &log, 1..=10, 10, 10);
    assert_eq!(renderer.0.load(Ordering::Relaxed), 0);
    let Place::In(segment, 0) = log.locate(0) else { panic!("the first event is there") };
    let first = segment.frames(RENDITION, 0..10);
    assert_eq!(segment.frames(RENDITION, 0..10).as_ptr(), first.as_ptr(), "a slice of the same");
    assert_eq!(renderer.0.load(Ordering::Relaxed), 10);
    // Once it was asked for, the segment keeps it as it grows.
    for number in 11..=20 {
        append_by(&renderer, &log, [number], 10, number);
        assert_eq!(renderer.0.load(Ordering::Relaxed), number as usize);
    }
    let Place::In(segment, 0) = log.locate(0) else { panic!("the first event is there") };
    assert_eq!(segment.frames(RENDITION, 0..10), first);
    segment.frames(RENDITION, 0..20);
    assert_eq!(renderer.0.load(Ordering::Relaxed), 20);
    // Made before anybody sees it, if somebody is known to need it.
    let events = [Part::Events(RENDITION)].into_iter().collect();
    log.append(batch_by(&renderer, 21..=21, 20_000), Revision::new(21), events);
    assert_eq!(renderer.0.load(Ordering::Relaxed), 21);
}

#[test]
fn what_is_made_counts() {
    let (log, renderer) = (Log::new(Revision::ZERO), Arc::default());
    append_by(&renderer, &log, 1..=10, 1000, 10);
    let before = log.size().bytes;
    assert!((10_000..12_000).contains(&before), "{before}");
    let Place::In(segment, 0) = log.locate(0) else { panic!("the first event is there") };
    segment.frames(RENDITION, 0..10);
    log.recount();
    let after = log.size().bytes;
    assert!((before + 10_000..before + 12_000).contains(&after), "{after}");
    append_by(&renderer, &log, 11..=11, 100_000, 11);
    log.trim(10, 10);
    assert!((100_000..102_000).contains(&log.size().bytes), "{}", log.size().bytes);
}

#[test]
fn events_are_written_by_what_they_came_with() {
    let (log, one, two) =
        (Log::new(Revision::ZERO), Arc::<AsTheyAre>::default(), Arc::<AsTheyAre>::default());
    append_by(&one, &log, [1], 10, 1);
    append_by(&two, &log, [2], 10, 2);
    assert_eq!(read_all(&log, 0, 10), [1, 2]);
    // The second is an update, and has a row before.
    assert_eq!((one.0.load(Ordering::Relaxed), two.0.load(Ordering::Relaxed)), (1, 2));
}

#[test]
fn positions_are_found_by_revision() {
    let log = Log::new(Revision::new(10));
    append_by(&Arc::default(), &log, (12..=2000).step_by(2), 100, 2001);
    assert_eq!(log.first_after(Revision::new(10)), Ok(0));
    assert_eq!(log.first_after(Revision::new(12)), Ok(1));
    assert_eq!(log.first_after(Revision::new(13)), Ok(1));
    assert_eq!(log.first_after(Revision::new(2001)), Ok(log.next()));
    assert_eq!(log.first_after(Revision::new(9)), Err(Outside::TooOld { floor: Revision::new(10) }));
    assert_eq!(log.first_after(Revision::new(2002)), Err(Outside::Ahead { head: Revision::new(2001) }));
}

#[test]
fn trimming_keeps_what_it_says() {
    let (log, renderer) = (Log::new(Revision::ZERO), Arc::default());
    let limit = 100_000;
    let mut end = 0;
    for _ in 0..100 {
        append_by(&renderer, &log, end + 1..=end + 100, 100, end + 100);
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
    assert_eq!(read_all(&log, end - held, 100), (end - held + 1..=end).collect::<Vec<_>>());
}

#[test]
fn an_event_over_the_limit_stays_alone() {
    let log = Log::new(Revision::ZERO);
    append_by(&Arc::default(), &log, 1..=3, 50_000, 3);
    let first_kept = log.excess(10_000).unwrap();
    log.trim(first_kept, first_kept);
    assert_eq!(read_all(&log, 2, 50_000), [3]);
    assert_eq!(log.size().events, 1);
}

#[test]
fn a_batch_makes_segments_of_a_bounded_size() {
    const LIMIT: usize = 64 * 1024;
    let log = Log::new(Revision::ZERO);
    append_by(&Arc::default(), &log, 1..=1000, 172, 1000);
    let mut ordinal = 0;
    while let Place::In(segment, 0) = log.locate(ordinal) {
        // A row, its id, and what an envelope takes at the most.
        let event = 172 + 2 + 32;
        let last = segment.end_ordinal() == log.next();
        let bytes = segment.len() * event;
        assert!(bytes <= LIMIT && (last || bytes + event > LIMIT), "{bytes}");
        assert!(segment.frames(RENDITION, 0..segment.len()).len() <= LIMIT);
        ordinal = segment.end_ordinal();
    }
    assert_eq!(ordinal, 1000);
    assert_eq!(read_all(&log, 0, 172), (1..=1000).collect::<Vec<_>>());
}
