//! A reader falls asleep just as the publisher appends: neither may miss the other.

use super::*;
use crate::model::{ChangeType, Selector, Start};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

const EVENTS: u64 = 50_000;
const PATIENCE: Duration = Duration::from_secs(10);

struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn event(revision: u64) -> Batch {
    let mut batch = empty();
    batch.push(&change(revision, ChangeType::Created, "id", &row("", 0)), 0);
    batch
}

/// Takes all events one by one; `false`: nobody woke it.
fn read(mut subscription: Subscription, taken: &AtomicU64) -> bool {
    let sleeper = Arc::new(Sleeper { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(sleeper.clone());
    while taken.load(Ordering::Relaxed) < EVENTS {
        match subscription.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Step::Frames(_)) => drop(taken.fetch_add(1, Ordering::Release)),
            Poll::Ready(Step::End(ending)) => panic!("{ending:?}"),
            Poll::Pending => {
                let since = std::time::Instant::now();
                while !sleeper.woken.swap(false, Ordering::Acquire) {
                    if since.elapsed() >= PATIENCE {
                        return false;
                    }
                    thread::park_timeout(PATIENCE);
                }
            }
        }
    }
    true
}

#[test]
fn one_that_waits_for_its_state_is_woken_by_the_end() {
    let topic = topic(&Published::default(), 1 << 20);
    let start = Start::AfterStateAt(Revision::ZERO);
    let subscription = topic.subscribe(start, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    let waker = Arc::new(CountingWaker::default());
    let counting = Waker::from(waker.clone());
    let cx = Context::from_waker(&counting);
    assert!(subscription.poll_ending(&cx).is_pending());
    topic.end(Ending::SlowConsumer);
    assert_eq!(waker.0.load(Ordering::SeqCst), 1);
    assert_eq!(subscription.poll_ending(&cx), Poll::Ready(Ending::SlowConsumer));
}

#[test]
fn an_append_wakes_a_reader_that_is_falling_asleep() {
    let topic = topic(&Published::default(), 1 << 20);
    let subscription = topic.subscribe(Start::Now, interest(Selector::ALL, false, Policy::Drop)).unwrap();
    let (taken, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for revision in 1..=EVENTS {
                while taken.load(Ordering::Acquire) + 1 < revision && !over.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                // From nothing to a little longer than the reader takes to fall asleep.
                (0..fastrand::u32(0..300)).for_each(|_| std::hint::spin_loop());
                topic.publish(Some(event(revision)), Revision::new(revision));
            }
        });
        let woken = read(subscription, &taken);
        over.store(true, Ordering::Relaxed);
        assert!(
            woken,
            "event {} was appended, and nobody woke its reader",
            taken.load(Ordering::Relaxed) + 1
        );
    });
}
