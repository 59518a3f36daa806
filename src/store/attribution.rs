//! Whom a call's writes are recorded under.

use std::sync::Arc;

tokio::task_local! {
    /// Of the call under way.
    pub static ATTRIBUTION: Attribution;
}

/// What a call says of itself, for the columns of that name in `hub.change`. What is `None` is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Who calls, according to somebody who is trusted to know.
    pub actor: Option<Arc<str>>,
    /// The caller's trace.
    pub trace: Option<Arc<str>>,
}

impl Attribution {
    /// Of the call under way, if it says anything.
    pub fn of_this_call() -> Option<Self> {
        ATTRIBUTION.try_with(Clone::clone).ok().filter(|said| *said != Self::default())
    }
}
