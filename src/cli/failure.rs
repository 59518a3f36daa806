//! What a command says of a call that failed: what went wrong, and what to do.

use super::listeners::{ADMIN, GRPC};
use crate::client::{cause, tls_fault};
use std::{error::Error, iter};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// Which listener of a hub a command asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// Everybody's.
    Api,
    /// The operator's.
    Admin,
}

impl Listener {
    fn name(self) -> String {
        match self {
            Self::Api => format!("the gRPC listener of a hub ({GRPC} by default, --grpc-server-bindaddress)"),
            Self::Admin => {
                format!("the admin listener of a hub ({ADMIN} by default, --admin-server-bindaddress)")
            }
        }
    }
}

/// Of a call to the hub at `server`.
pub(super) fn explain(server: &str, listener: Listener, status: &Status) -> anyhow::Error {
    let (name, cause) = (listener.name(), cause(status));
    let details = status.get_details_error_info();
    let info = details.as_ref();
    if let Some(fault) = tls_fault(status) {
        return anyhow::anyhow!("{server} {fault}");
    }
    match status.code() {
        // A hub says what it does not have, unless it knows nothing of the call.
        Code::Unimplemented if !info.is_some_and(|info| info.metadata.contains_key("what")) => {
            anyhow::anyhow!("{server} is not {name}: name that one with --server")
        }
        // What a hub says itself has a reason.
        code if info.is_some() => anyhow::anyhow!("{code:?}: {cause}"),
        Code::Unavailable => {
            anyhow::anyhow!("no hub answers at {server} ({cause}): start one, or name {name} with --server")
        }
        _ if timed_out(status) => {
            anyhow::anyhow!("the hub at {server} does not answer in time: try again, or look at its log")
        }
        // What the transport makes of an answer that is no gRPC depends on which of its sides notices first.
        Code::Unknown | Code::Internal | Code::Cancelled => {
            anyhow::anyhow!("{server} does not answer as {name} ({cause}): name that one with --server")
        }
        code => anyhow::anyhow!("{code:?}: {cause}"),
    }
}

/// Whether the limit on a call has passed, on this side or on the hub's.
fn timed_out(status: &Status) -> bool {
    let mut sources = iter::successors(status.source(), |&error| error.source());
    status.code() == Code::DeadlineExceeded || sources.any(|error| error.is::<TimeoutExpired>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_that_has_passed_is_a_timeout() {
        let said = |status: &Status| explain("hub:9001", Listener::Admin, status).to_string();
        for status in
            [Status::from_error(Box::new(TimeoutExpired(()))), Status::deadline_exceeded("too long")]
        {
            assert!(said(&status).contains("does not answer in time"), "{status}");
        }
        for status in [Status::cancelled("stream"), Status::internal("h2 error"), Status::unknown("frame")] {
            assert!(said(&status).contains("does not answer as the admin listener"), "{status}");
        }
    }
}
