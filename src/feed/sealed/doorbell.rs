//! How the hub waits for changes, for anybody who asks.

use parking_lot::Mutex;

/// How the hub learns of changes, at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DoorbellState {
    /// Not at all: it is not connected to its database.
    #[default]
    Away,
    /// Writers ring.
    Armed,
    /// Writers ring again; some that saw it busy may not have finished.
    Settling,
    /// It seals at short intervals, and writers need not ring.
    Busy,
    /// It polls.
    Polling,
    /// It should hear bells but cannot, and polls.
    Deaf,
}

/// Where the tailer reports how it waits.
#[derive(Debug, Default)]
pub struct Doorbell(Mutex<DoorbellState>);

impl Doorbell {
    pub(super) fn set(&self, state: DoorbellState) {
        *self.0.lock() = state;
    }

    /// How it waits.
    pub fn state(&self) -> DoorbellState {
        *self.0.lock()
    }
}
