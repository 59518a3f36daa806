//! Whether a pooler stands before Postgres.

use super::Settings;
use crate::{
    feed,
    store::{DatabaseError, keeps_sessions},
};
use std::time::Duration;
use tokio::time::timeout;

/// For the look for a pooler, which a server that says nothing must not hold up.
const PROBE: Duration = Duration::from_secs(10);

/// Polls where sessions are not kept. This comes before anything is set on a session, which somebody else
/// would get next.
pub(super) async fn poll_behind_one(settings: &mut Settings) {
    if settings.capture.wakeups == feed::Wakeups::Poll {
        return;
    }
    match timeout(PROBE, keeps_sessions(&settings.target)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            tracing::warn!(
                "a pooler that keeps no session stands before Postgres, so the hub polls, as with --wakeups \
                 poll; \
                 a direct connection is faster, and `trex doctor` says more"
            );
            settings.capture.wakeups = feed::Wakeups::Poll;
        }
        // A start that migrates ends with what is wrong; one that does not waits for its database.
        unknown if !settings.migrate => {
            let error = match unknown {
                Ok(Err(error)) => DatabaseError::from(error).to_string(),
                _ => format!("no answer within {PROBE:?}"),
            };
            tracing::warn!(%error, "not known whether a pooler stands before Postgres: if one does, give \
                                    --wakeups poll");
        }
        _ => {}
    }
}
