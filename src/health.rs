//! Whether the hub can do its work, and why not. Other modules report here what they learn, and listen here
//! for changes.

use crate::{error::chain, model::KindName};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Transitions that a slow listener may miss before it sees only the newest.
const NOTICES: usize = 16;

/// A transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Ready.
    Serving,
    /// Not ready.
    NotServing,
}

/// The state of the hub.
pub struct Health {
    state: Mutex<State>,
    notices: async_broadcast::Sender<Notice>,
    /// Keeps the channel open while nobody listens.
    listeners: async_broadcast::InactiveReceiver<Notice>,
}

#[derive(Debug, Default)]
struct State {
    database: bool,
    /// Why it is not in sight, as last reported: it is reported again when it changes.
    told: String,
    /// Whether the capture was checked: before that, its faults are not known.
    inspected: bool,
    capture_faults: BTreeMap<KindName, Vec<String>>,
    draining: bool,
}

impl State {
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining {
            reasons.push("shutting down".to_owned());
        }
        if !self.database {
            reasons.push("the database is not in sight".to_owned());
        }
        if self.database && !self.inspected {
            reasons.push("the triggers have not been looked at yet".to_owned());
        }
        reasons.extend(self.capture_faults.values().flatten().cloned());
        reasons
    }
}

impl Default for Health {
    fn default() -> Self {
        let (mut notices, receiver) = async_broadcast::broadcast(NOTICES);
        notices.set_overflow(true);
        Self { state: Mutex::default(), notices, listeners: receiver.deactivate() }
    }
}

impl Health {
    /// Why the hub is not ready; empty: it is.
    pub fn reasons(&self) -> Vec<String> {
        self.state.lock().reasons()
    }

    /// Transitions from now on.
    pub fn notices(&self) -> async_broadcast::Receiver<Notice> {
        self.listeners.activate_cloned()
    }

    /// The database answers, and the log is being followed.
    pub fn database_seen(&self) {
        if !self.change(|state| std::mem::replace(&mut state.database, true)) {
            tracing::info!("the database is in sight");
        }
    }

    /// The connection that follows the log is gone, or could not be made.
    pub fn database_lost(&self, error: &dyn std::error::Error) {
        let error = chain(error);
        let news = self.change(|state| {
            let seen = std::mem::replace(&mut state.database, false);
            let told = std::mem::replace(&mut state.told, error.clone());
            seen || told != error
        });
        if news {
            tracing::warn!(error, "the database is out of sight");
        } else {
            tracing::debug!(error, "the database is still out of sight");
        }
    }

    /// What is wrong with the capture of a kind.
    pub fn capture(&self, kind: &KindName, faults: Vec<String>) {
        for fault in &faults {
            tracing::error!(
                kind = kind.as_str(),
                fault,
                "changes are not captured; `trex migrate` mends this"
            );
        }
        self.change(|state| state.capture_faults.insert(kind.clone(), faults));
    }

    /// The capture of every kind was checked.
    pub fn inspected(&self) {
        self.change(|state| state.inspected = true);
    }

    /// Forgets what was wrong with kinds that are not watched any more.
    pub fn keep(&self, is_watched: impl Fn(&KindName) -> bool) {
        self.change(|state| state.capture_faults.retain(|kind, _| is_watched(kind)));
    }

    /// The hub is about to stop.
    pub fn draining(&self) {
        self.change(|state| state.draining = true);
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let before = state.reasons().is_empty();
        let result = change(&mut state);
        let after = state.reasons().is_empty();
        if before != after {
            // Cannot fail: the channel is open, and overflow makes room.
            let _ = self.notices.try_broadcast(if after { Notice::Serving } else { Notice::NotServing });
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_are_told_once() {
        let health = Health::default();
        let mut notices = health.notices();
        health.database_seen();
        health.database_seen();
        assert_eq!(health.reasons(), ["the triggers have not been looked at yet"]);
        health.inspected();
        health.capture(&"Dinosaur".into(), vec!["a trigger is missing".into()]);
        assert_eq!(health.reasons(), ["a trigger is missing"]);
        health.keep(|kind| *kind == "Dinosaur");
        assert_eq!(health.reasons(), ["a trigger is missing"]);
        health.keep(|_| false);
        health.draining();
        let told: Vec<_> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
        assert_eq!(told, [Notice::Serving, Notice::NotServing, Notice::Serving, Notice::NotServing]);
    }
}
