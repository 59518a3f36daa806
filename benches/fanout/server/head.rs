//! The least that can tell a stream how much to send: a number, and who waits for it to grow.

use super::Feed;
use crate::client::{EVENT, FRAME};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Frames in a piece: of the size of the hub's largest segments.
pub(super) const FRAMES: usize = 64 * 1024 / FRAME;

/// What is sent again and again.
pub(super) static FRAMES_OF_NOTHING: LazyLock<Bytes> = LazyLock::new(|| {
    let mut frame = vec![0, 0, 0, 0, EVENT as u8];
    frame.resize(FRAME, 0);
    frame.repeat(FRAMES).into()
});

#[derive(Default)]
struct State {
    number: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

/// How many events there have been.
#[derive(Clone, Default)]
pub(super) struct Head(Arc<State>);

impl Head {
    /// Somebody who has had all events until now.
    pub(super) fn follow(&self) -> Follower {
        Follower { head: self.clone(), passed: self.0.number.load(Ordering::Acquire) }
    }
}

impl Feed for Head {
    fn append(&mut self, events: u64) -> anyhow::Result<()> {
        self.0.number.fetch_add(events, Ordering::Release);
        let waiting = std::mem::take(&mut *self.0.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

/// Where a stream stands.
pub(super) struct Follower {
    head: Head,
    passed: u64,
}

impl Follower {
    /// Passes at least one event and at most this many.
    pub(super) fn poll_pass(&mut self, most: usize, cx: &Context<'_>) -> Poll<usize> {
        let state = &self.head.0;
        let ahead = |passed: u64| state.number.load(Ordering::Acquire) - passed;
        if ahead(self.passed) == 0 {
            state.waiting.lock().push(cx.waker().clone());
            if ahead(self.passed) == 0 {
                return Poll::Pending;
            }
        }
        let events = usize::try_from(ahead(self.passed)).unwrap_or(most).min(most);
        self.passed += events as u64;
        Poll::Ready(events)
    }
}
