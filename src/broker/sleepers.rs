use dashmap::DashMap;
use std::task::Waker;

/// The subscriptions that stand at the head and wait. Only they are woken by an append; one that is still sending looks at the log
/// by itself when its connection takes more.
///
/// Measured against a broadcast channel as the doorbell: `benches/doorbell.rs`.
#[derive(Default)]
pub(super) struct Sleepers(DashMap<u64, Waker>);

impl Sleepers {
    /// Puts a subscription to sleep. It must look at the log once more after this: an append may have come in between.
    pub(super) fn add(&self, id: u64, waker: &Waker) {
        match self.0.get_mut(&id) {
            Some(mut known) => known.clone_from(waker),
            None => {
                self.0.insert(id, waker.clone());
            }
        }
    }

    pub(super) fn remove(&self, id: u64) {
        self.0.remove(&id);
    }

    pub(super) fn wake(&self, id: u64) {
        if let Some((_, waker)) = self.0.remove(&id) {
            waker.wake();
        }
    }

    pub(super) fn wake_all(&self) {
        self.0.retain(|_, waker| {
            waker.wake_by_ref();
            false
        });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
