//! A call: its name in the logs, who makes it, and until when its caller waits. One value is made where a
//! call comes in and is handed, as an argument, to everything that is done for it: use cases, writes to the
//! database, the body of its answer.

use crate::auth::{Principal, Term};
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// A call under way. Cloning it is cheap. The default is nobody's call: what the hub does by itself.
#[derive(Debug, Clone, Default)]
pub struct Call(Arc<Particulars>);

/// What is known of a call when it comes in.
#[derive(Debug, Default)]
pub struct Particulars {
    /// Names the call in the hub's log, in its errors and in a header of its answer; empty: it has no name.
    pub operation: Box<str>,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// Who the client is, as it has proved; `None`: it has proved nothing.
    pub principal: Option<Arc<Principal>>,
    /// Whom its changes are recorded under: who it has proved to be, or is said to be by somebody who is
    /// trusted to know.
    pub actor: Option<Box<str>>,
    /// The caller's place in a trace, as a `traceparent` of <https://www.w3.org/TR/trace-context/> says it.
    pub trace: Option<Box<str>>,
    /// When the caller stops waiting for an answer, or the hub does; `None`: never.
    pub deadline: Option<Instant>,
    /// Until when it may go on; `None`: nothing but its client, its deadline or a drain ends it.
    pub term: Option<Term>,
}

impl From<Particulars> for Call {
    fn from(particulars: Particulars) -> Self {
        Self(Arc::new(particulars))
    }
}

impl Call {
    /// Names the call in the hub's log; empty: it has no name.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The client's address.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// Who the client is, as it has proved.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.0.principal.as_ref()
    }

    /// Under whose name this call's changes are recorded; `None`: nobody's.
    pub fn actor(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }

    /// Until when a stream may go on.
    pub fn term(&self) -> Option<&Term> {
        self.0.term.as_ref()
    }

    /// The caller's place in a trace.
    pub fn trace(&self) -> Option<&str> {
        self.0.trace.as_deref()
    }

    /// When the caller stops waiting for an answer, or the hub does.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Whether this call's changes are recorded with an actor or a trace.
    pub fn is_attributed(&self) -> bool {
        self.actor().is_some() || self.trace().is_some()
    }
}
