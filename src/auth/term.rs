//! How long a stream may go on: until its caller's credential ends, or until what it was granted is no longer
//! granted.

use super::Principal;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
};

/// Why a stream may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The token or the certificate has expired.
    Expired,
    /// The API key was revoked.
    Revoked,
    /// What was granted is not granted any more.
    GrantGone,
    /// It is granted, and other rows or columns are.
    PolicyChanged,
    /// The connection is as old as it may become.
    ConnectionTooOld,
}

/// Says, when asked, whether something that a stream stands on is over.
type Check = Box<dyn Fn() -> Option<Over> + Send + Sync>;

/// A stream's leave to go on. Cheap to clone.
#[derive(Clone)]
pub struct Term(Arc<Inner>);

struct Inner {
    principal: Option<Arc<Principal>>,
    over: OnceLock<Over>,
    waker: AtomicWaker,
    /// What it was granted. Locked for a look, with nothing locked after it but what a check needs.
    checks: Mutex<Vec<Check>>,
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("over", &self.0.over).finish_non_exhaustive()
    }
}

impl Term {
    /// Ends it. The first reason stands.
    pub fn end(&self, why: Over) {
        self.0.end(why);
    }

    /// Adds a condition: it is over when `check` says so.
    pub fn stands_on(&self, check: impl Fn() -> Option<Over> + Send + Sync + 'static) {
        self.0.checks.lock().push(Box::new(check));
    }

    /// Ready when it is over. One task may wait at a time.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<Over> {
        if let Some(over) = self.0.over.get() {
            return Poll::Ready(*over);
        }
        self.0.waker.register(cx.waker());
        // It may have ended before the waker was seen.
        self.0.over.get().map_or(Poll::Pending, |over| Poll::Ready(*over))
    }
}

impl Inner {
    fn end(&self, why: Over) {
        let _ = self.over.set(why);
        self.waker.wake();
    }
}

/// The terms of the streams that are open.
#[derive(Default)]
pub struct Terms(Mutex<Vec<Weak<Inner>>>);

impl Terms {
    /// A new one, of a stream of this caller.
    pub fn begin(&self, principal: Option<Arc<Principal>>) -> Term {
        let inner = Arc::new(Inner {
            principal,
            over: OnceLock::new(),
            waker: AtomicWaker::new(),
            checks: Mutex::default(),
        });
        let term = Term(inner);
        self.add(&term);
        term
    }

    fn add(&self, term: &Term) {
        let mut known = self.0.lock();
        // A long life has many streams, one after the other.
        if known.len() >= 64 && known.len().is_power_of_two() {
            known.retain(|known| known.strong_count() > 0);
        }
        known.push(Arc::downgrade(&term.0));
    }

    /// Adds a stream that has a term already, or gives it one.
    pub fn join(&self, term: Option<Term>) -> Term {
        match term {
            Some(term) => {
                self.add(&term);
                term
            }
            None => self.begin(None),
        }
    }

    /// Ends those whose caller's credential is over, and those that stand on something that is.
    pub fn sweep(&self, credential: impl Fn(&Principal) -> Option<Over>) {
        for open in self.open() {
            let of_caller = open.principal.as_deref().and_then(&credential);
            let over = of_caller.or_else(|| open.checks.lock().iter().find_map(|check| check()));
            if let Some(over) = over {
                open.end(over);
            }
        }
    }

    /// Ends all of them.
    pub fn end_all(&self, why: Over) {
        self.open().iter().for_each(|open| open.end(why));
    }

    /// The streams that are open and not yet told.
    fn open(&self) -> Vec<Arc<Inner>> {
        let mut open = Vec::new();
        self.0.lock().retain(|known| match known.upgrade() {
            Some(inner) if inner.over.get().is_none() => {
                open.push(inner);
                true
            }
            _ => false,
        });
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_term_ends_once_and_for_its_first_reason() {
        let (terms, gone) = (Terms::default(), Arc::new(AtomicBool::new(false)));
        let term = terms.begin(None);
        let seen = gone.clone();
        term.stands_on(move || seen.load(Ordering::Relaxed).then_some(Over::GrantGone));
        let cx = Context::from_waker(noop_waker_ref());
        terms.sweep(|_| Some(Over::Expired));
        assert_eq!(term.poll_over(&cx), Poll::Pending, "it has no credential");
        gone.store(true, Ordering::Relaxed);
        terms.sweep(|_| None);
        assert_eq!(term.poll_over(&cx), Poll::Ready(Over::GrantGone));
        terms.end_all(Over::ConnectionTooOld);
        assert_eq!(term.poll_over(&cx), Poll::Ready(Over::GrantGone));
        drop((term, terms.begin(None)));
        assert!(terms.open().is_empty(), "what is over or gone is forgotten");
    }
}
