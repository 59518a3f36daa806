//! API keys, and what the hubs of a database share in secret.

use super::Store;
use crate::error::Error;
use std::time::SystemTime;

/// A key as the database keeps it.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    /// Names it.
    pub id: String,
    /// Who has it.
    pub name: String,
    /// The SHA-256 of the key.
    pub digest: Vec<u8>,
    /// What it is good for; empty: whatever its owner may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: SystemTime,
    /// By whom, if that is known.
    pub created_by: Option<String>,
    /// When it ends; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// When it was taken back; `None`: it was not.
    pub revoked_at: Option<SystemTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<SystemTime>,
}

/// A key to be kept.
#[derive(Debug)]
pub struct NewApiKey<'a> {
    /// Names it.
    pub id: &'a str,
    /// Who has it.
    pub name: &'a str,
    /// The SHA-256 of the key.
    pub digest: &'a [u8],
    /// What it is good for.
    pub scopes: &'a [String],
    /// Who makes it.
    pub created_by: Option<&'a str>,
    /// When it ends.
    pub expires_at: Option<SystemTime>,
}

impl Store {
    /// Counts the changes of the keys.
    pub async fn key_ring_version(&self) -> Result<i64, Error> {
        let rows = self.run("key_ring_version", "SELECT version FROM hub.key_ring", &[]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
    }

    /// The keys, the newest first; those that are revoked only if `all`.
    pub async fn api_keys(&self, all: bool) -> Result<Vec<ApiKeyRow>, Error> {
        let sql =
            "SELECT id, name, digest, scopes, created_at, created_by, expires_at, revoked_at, last_used_at
                   FROM hub.api_key WHERE $1 OR revoked_at IS NULL ORDER BY created_at DESC, id";
        let rows = self.run("api_keys", sql, &[&all]).await?;
        let key = |row: &tokio_postgres::Row| {
            Ok(ApiKeyRow {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                digest: row.try_get(2)?,
                scopes: row.try_get(3)?,
                created_at: row.try_get(4)?,
                created_by: row.try_get(5)?,
                expires_at: row.try_get(6)?,
                revoked_at: row.try_get(7)?,
                last_used_at: row.try_get(8)?,
            })
        };
        rows.iter().map(key).collect()
    }

    /// Keeps a new key.
    pub async fn add_api_key(&self, key: &NewApiKey<'_>) -> Result<(), Error> {
        let NewApiKey { id, name, digest, scopes, created_by, expires_at } = key;
        let sql = "WITH counted AS (UPDATE hub.key_ring SET version = version + 1)
                   INSERT INTO hub.api_key (id, name, digest, scopes, created_by, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6)";
        self.run("add_api_key", sql, &[id, name, digest, scopes, created_by, expires_at]).await.map(drop)
    }

    /// Takes a key back. Whether there was one that was not.
    pub async fn revoke_api_key(&self, id: &str) -> Result<bool, Error> {
        let sql = "WITH revoked AS (UPDATE hub.api_key SET revoked_at = clock_timestamp() WHERE id = $1
                     AND revoked_at IS NULL RETURNING id),
                     counted AS (UPDATE hub.key_ring SET version = version + 1
                       WHERE EXISTS (SELECT FROM revoked))
                   SELECT id FROM revoked";
        Ok(!self.run("revoke_api_key", sql, &[&id]).await?.is_empty())
    }

    /// Notes that these keys were used by now.
    pub async fn note_api_keys(&self, ids: &[String]) -> Result<(), Error> {
        let sql = "UPDATE hub.api_key SET last_used_at = clock_timestamp() WHERE id = ANY ($1)";
        self.run("note_api_keys", sql, &[&ids]).await.map(drop)
    }

    /// What the hubs of this database share under a name: `fresh`, unless one of them has come first.
    pub async fn shared_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, Error> {
        let add = "INSERT INTO hub.secret (name, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.run("share_secret", add, &[&name, &fresh]).await?;
        let rows =
            self.run("shared_secret", "SELECT bytes FROM hub.secret WHERE name = $1", &[&name]).await?;
        let row = rows.first().ok_or_else(|| Error::Internal(anyhow::anyhow!("hub.secret lacks {name}")))?;
        Ok(row.try_get(0)?)
    }
}
