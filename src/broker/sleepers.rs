use parking_lot::Mutex;
use std::{collections::HashMap, task::Waker};

/// The subscriptions that wait at the head. An append wakes only these; one that is still sending looks at
/// the log itself when its connection takes more.
///
/// One lock, held for an insertion: cheaper than a sharded map, whose shards an append would all have to
/// visit. `benches/doorbell.rs` measures it against a broadcast channel.
#[derive(Default)]
pub(super) struct Sleepers(Mutex<HashMap<u64, Waker>>);

impl Sleepers {
    /// Puts a subscription to sleep. It must look at the log once more after this: an append may have come in
    /// between.
    pub(super) fn add(&self, id: u64, waker: &Waker) {
        self.0.lock().insert(id, waker.clone());
    }

    pub(super) fn remove(&self, id: u64) {
        self.0.lock().remove(&id);
    }

    pub(super) fn wake(&self, id: u64) {
        // The lock is released first, here and below: a woken subscription may sleep again at once.
        let waker = self.0.lock().remove(&id);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn wake_all(&self) {
        let wakers: Vec<Waker> = self.0.lock().drain().map(|(_, waker)| waker).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
