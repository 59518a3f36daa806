//! Keeps the API keys in memory as the database has them, and ends the streams whose credentials are over.

use crate::{
    auth::{Authenticator, KeyRing, StoredKey, api_key::KeyDigest},
    error::{Error, chain},
    store::{ApiKeyRow, Store},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// Whether the keys have changed is looked at this often: what is taken back ends within a second.
const LOOK: Duration = Duration::from_millis(400);
/// Which keys were used is noted this often.
const NOTE: Duration = Duration::from_secs(60);

/// Follows the keys of the database, until `stop`.
pub(crate) async fn follow(store: Store, ring: Arc<KeyRing>, stop: CancellationToken) {
    let follow = async {
        let (mut known, mut noted, mut told) = (None, Instant::now(), false);
        loop {
            match look(&store, &ring, known).await {
                Ok(version) => (known, told) = (Some(version), false),
                // Once: the hub says elsewhere that its database is away.
                Err(error) if !told => {
                    tracing::warn!(error = chain(&error), "reading the API keys");
                    told = true;
                }
                Err(_) => {}
            }
            if noted.elapsed() >= NOTE {
                noted = Instant::now();
                note(&store, &ring).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    stop.run_until_cancelled(follow).await;
    note(&store, &ring).await;
}

/// Reads the keys, if they are not those of this version. Returns the version that is there.
async fn look(store: &Store, ring: &KeyRing, known: Option<i64>) -> Result<i64, Error> {
    // Before the keys are read: what changes meanwhile is read again.
    let version = store.key_ring_version().await?;
    if known == Some(version) {
        ring.confirm(Instant::now());
        return Ok(version);
    }
    let keys: Vec<_> = store.api_keys(false).await?.into_iter().filter_map(stored).collect();
    ring.replace(keys, Instant::now());
    Ok(version)
}

/// One that cannot be read is good for nothing.
fn stored(row: ApiKeyRow) -> Option<StoredKey> {
    let digest = KeyDigest::from_bytes(row.digest.try_into().ok()?);
    let scopes = row.scopes.iter().map(|scope| scope.parse().ok()).collect::<Option<_>>()?;
    Some(StoredKey { id: row.id, name: row.name, digest, scopes, expires: row.expires_at })
}

async fn note(store: &Store, ring: &KeyRing) {
    let used = ring.take_used();
    if !used.is_empty()
        && let Err(error) = store.note_api_keys(&used).await
    {
        tracing::debug!(error = chain(&error), "noting the API keys that were used");
    }
}

/// Ends the streams whose credentials are over, until `stop`.
pub(crate) async fn sweep(authenticator: Arc<Authenticator>, stop: CancellationToken) {
    let sweep = async {
        let mut ticks = tokio::time::interval(Authenticator::SWEEP);
        loop {
            ticks.tick().await;
            authenticator.sweep(SystemTime::now());
        }
    };
    stop.run_until_cancelled(sweep).await;
}
