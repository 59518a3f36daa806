//! Hears bells on its own connection and yields wake-ups, never data.

use super::heard::Heard;
use crate::backoff::Backoff;
use crate::{
    error::chain,
    store::{Bell, BellConnection, Target},
    telemetry::Metrics,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How often a silent connection is probed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// And given up after this.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(
    target: Target,
    metrics: Arc<Metrics>,
    (heard, tables): (watch::Sender<Heard>, Arc<Notify>),
    stop: CancellationToken,
) {
    let listening = listen_for_ever(&target, &metrics, &heard, &tables);
    stop.run_until_cancelled(listening).await;
    metrics.listener_connected.set(0);
}

async fn listen_for_ever(target: &Target, metrics: &Metrics, heard: &watch::Sender<Heard>, tables: &Notify) {
    let mut backoff = Backoff::default();
    loop {
        match timeout(HEARTBEAT, BellConnection::open(target)).await {
            Ok(Ok(mut connection)) => {
                backoff.reset();
                metrics.listener_connected.set(1);
                // The follower looks once more: what was committed while nobody listened rang no bell.
                heard.send_modify(Heard::connect);
                tables.notify_one();
                let why = listen(&mut connection, metrics, heard, tables).await;
                tracing::warn!(why, "the listening connection ended");
                metrics.listener_connected.set(0);
                metrics.listener_reconnects.inc();
                heard.send_modify(Heard::disconnect);
            }
            Ok(Err(error)) => {
                tracing::debug!(error = chain(&error), "cannot listen")
            }
            Err(_) => tracing::debug!("cannot listen: the server does not answer"),
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// Listens until the connection fails, and says why it did.
async fn listen(
    connection: &mut BellConnection,
    metrics: &Metrics,
    heard: &watch::Sender<Heard>,
    tables: &Notify,
) -> &'static str {
    loop {
        match timeout(HEARTBEAT, connection.next()).await {
            Ok(None) => return "closed",
            Ok(Some(bell)) => {
                let mut next = Some(bell);
                heard.send_modify(|heard| {
                    while let Some(bell) = next {
                        note(bell, metrics, heard, tables);
                        next = connection.try_next();
                    }
                });
            }
            Err(_) => match timeout(HEARTBEAT_TIMEOUT, connection.heartbeat()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return "failed",
                Err(_) => return "silent",
            },
        }
    }
}

fn note(bell: Bell, metrics: &Metrics, heard: &mut Heard, tables: &Notify) {
    match bell {
        Bell::Doorbell => {
            metrics.doorbell_rings.inc();
            heard.ring();
        }
        Bell::Sealed(revision) => heard.announce(revision),
        Bell::Tables => tables.notify_one(),
    }
}
