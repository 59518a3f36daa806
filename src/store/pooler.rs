//! Whether a pooler stands before Postgres that keeps no session. It is asked before anything is set on a
//! session: behind such a pooler the setting would stay on a server's session, which the next transaction of
//! somebody else gets.

use super::{Driven, Target};
use std::time::Duration;
use tokio::time::timeout;

/// With more connections than a small pool has sessions, two of them share one.
const CONNECTIONS: usize = 4;
/// Each asks this often, so that a large and busy pool has given one of them another session by then.
const ROUNDS: usize = 6;
/// A connection beside the first that has no answer by then is done without: a pooler that does keep sessions
/// lets it wait for the end of another.
const PATIENCE: Duration = Duration::from_secs(3);

/// A server's session: its process, and when its server started, for a URL may name several servers.
type Session = (i32, u64);

/// Whether each connection has a server's session of its own. Changes nothing.
pub async fn keeps_sessions(target: &Target) -> Result<bool, tokio_postgres::Error> {
    let first = target.open().await?;
    let mut seen = Seen(vec![Some(session(&first).await?)]);
    let mut connections = vec![Some(first)];
    for _ in 1..CONNECTIONS {
        // A server that is full has told what it can.
        let Ok(Ok(another)) = timeout(PATIENCE, target.open()).await else { break };
        connections.push(Some(another));
        seen.0.push(None);
    }
    for round in 0..ROUNDS {
        for turn in 0..connections.len() {
            // To and fro: a pooler that hands its sessions out in turn could give each connection the same
            // one again.
            let number = if round % 2 == 0 { turn } else { connections.len() - 1 - turn };
            let Some(connection) = connections.get_mut(number) else { continue };
            let Some(client) = connection.as_ref() else { continue };
            match timeout(PATIENCE, session(client)).await {
                Ok(session) => {
                    if !seen.is_own(number, session?) {
                        return Ok(false);
                    }
                }
                Err(_) => *connection = None,
            }
        }
    }
    Ok(true)
}

/// In a transaction of its own, and without a prepared statement, which a pooler may lose between two
/// messages.
async fn session(client: &Driven) -> Result<Session, tokio_postgres::Error> {
    let sql = "SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time())::float8";
    let rows = client.query_typed(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok((0, 0)) };
    Ok((row.try_get(0)?, row.try_get::<_, f64>(1)?.to_bits()))
}

/// The session of each connection, as far as it has said.
struct Seen(Vec<Option<Session>>);

impl Seen {
    /// Notes the session of a connection. `false`: it had another one before, or another connection has had
    /// this one.
    fn is_own(&mut self, connection: usize, session: Session) -> bool {
        let others = self.0.iter().enumerate().filter(|(_, known)| known.is_some());
        let own =
            others.into_iter().all(|(number, known)| (number == connection) == (*known == Some(session)));
        if let Some(slot) = self.0.get_mut(connection) {
            *slot = Some(session);
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_one_connection_s_and_stays_so() {
        let judged = |answers: &[(usize, i32)]| {
            let mut seen = Seen(vec![None; 3]);
            answers.iter().all(|&(connection, pid)| seen.is_own(connection, (pid, 1)))
        };
        assert!(judged(&[(0, 10), (1, 11), (2, 12), (2, 12), (1, 11), (0, 10)]));
        assert!(!judged(&[(0, 10), (1, 10)]), "two share one");
        assert!(!judged(&[(0, 10), (1, 11), (0, 12)]), "one has changed it");
        assert!(!judged(&[(0, 10), (1, 11), (0, 11)]), "both");
        let mut two_servers = Seen(vec![None; 2]);
        assert!(two_servers.is_own(0, (10, 1)) && two_servers.is_own(1, (10, 2)));
    }
}
