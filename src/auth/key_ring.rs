//! The API keys of a database, in memory: a key that is not here is asked of nobody.

use super::{
    Claims, Denied, Method, Principal, Scope,
    api_key::{ApiKey, KeyDigest},
};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// Keys are good for this long after they were last compared with the database's.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// The issuer of those who show a key of this hub.
const ISSUER: &str = "trex";

/// A key as the database keeps it.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Names it.
    pub id: String,
    /// Who has it.
    pub name: String,
    /// What is kept of the key.
    pub digest: KeyDigest,
    /// What it is good for; empty: whatever its owner may do.
    pub scopes: Vec<Scope>,
    /// When it ends; `None`: never.
    pub expires: Option<SystemTime>,
}

struct Known {
    digest: KeyDigest,
    principal: Arc<Principal>,
    /// Since the last look.
    used: AtomicBool,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, Known>,
    /// When the database was last asked; `None`: never.
    asked: Option<Instant>,
}

/// The keys that are not revoked.
#[derive(Default)]
pub struct KeyRing(RwLock<State>);

impl KeyRing {
    /// Puts these in the place of those that were there.
    pub fn replace(&self, keys: Vec<StoredKey>, now: Instant) {
        let keys = keys.into_iter().map(|key| (key.id.clone(), Known::new(key))).collect();
        let before = std::mem::replace(&mut *self.0.write(), State { keys, asked: Some(now) });
        // What was used and not yet told stays so.
        let state = self.0.read();
        for (id, known) in before.keys {
            if let Some(same) = state.keys.get(&id) {
                same.used.fetch_or(known.used.into_inner(), Ordering::Relaxed);
            }
        }
    }

    /// Notes that the database still has these.
    pub fn confirm(&self, now: Instant) {
        self.0.write().asked = Some(now);
    }

    /// Who shows this key. An unknown and a wrong one are told alike, and take the same time.
    pub fn check(&self, key: &ApiKey, (now, at): (SystemTime, Instant)) -> Result<Arc<Principal>, Denied> {
        let state = self.0.read();
        if state.asked.is_none_or(|asked| at.saturating_duration_since(asked) > GOOD_FOR) {
            return Err(Denied::Unready("the hub has not seen its API keys for a while"));
        }
        let nobodys = KeyDigest::from_bytes([0; 32]);
        let known = state.keys.get(key.id());
        let fits = key.is(known.map_or(&nobodys, |known| &known.digest));
        let known = known.filter(|_| fits).ok_or(Denied::Key)?;
        if known.principal.is_expired(now) {
            return Err(Denied::Expired);
        }
        known.used.store(true, Ordering::Relaxed);
        Ok(known.principal.clone())
    }

    /// Whether a key of this id is there.
    pub fn has(&self, id: &str) -> bool {
        self.0.read().keys.contains_key(id)
    }

    /// The ids of the keys that were used since this was last asked.
    pub fn take_used(&self) -> Vec<String> {
        let state = self.0.read();
        let used = state.keys.iter().filter(|(_, known)| known.used.swap(false, Ordering::Relaxed));
        used.map(|(id, _)| id.clone()).collect()
    }
}

impl Known {
    fn new(key: StoredKey) -> Self {
        let StoredKey { id, name, digest, scopes, expires } = key;
        let mut claims = Claims::default();
        claims.insert("iss", ISSUER.into());
        claims.insert("sub", name.as_str().into());
        claims.insert("jti", id.as_str().into());
        let principal = Principal {
            method: Method::Key,
            issuer: ISSUER.to_owned(),
            subject: name,
            claims,
            expires,
            key: Some(id),
            scopes,
        };
        Self { digest, principal: Arc::new(principal), used: AtomicBool::new(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_until_they_go_expire_or_the_database_is_away() {
        let (ring, now, at) = (KeyRing::default(), SystemTime::now(), Instant::now());
        let key = ApiKey::from_random([1; 8], [2; 32]);
        let wrong = ApiKey::from_random([1; 8], [3; 32]);
        let other = ApiKey::from_random([9; 8], [2; 32]);
        let check = |key: &ApiKey, now, at| ring.check(key, (now, at));
        assert!(matches!(check(&key, now, at), Err(Denied::Unready(_))));
        let stored = StoredKey {
            id: key.id().to_owned(),
            name: "ci".to_owned(),
            digest: key.digest(),
            scopes: vec!["get".parse().unwrap()],
            expires: Some(now + Duration::from_secs(60)),
        };
        ring.replace(vec![stored.clone()], at);
        let principal = check(&key, now, at).unwrap();
        assert_eq!(principal.name().as_deref(), Some("trex#ci"));
        assert_eq!(principal.claims.text("jti"), Some(key.id()));
        assert!(matches!(check(&wrong, now, at), Err(Denied::Key)));
        assert!(matches!(check(&other, now, at), Err(Denied::Key)));
        assert!(matches!(check(&key, now + Duration::from_secs(60), at), Err(Denied::Expired)));
        ring.replace(vec![stored], at);
        assert_eq!((ring.take_used(), ring.take_used()), (vec![key.id().to_owned()], vec![]));
        let late = at + GOOD_FOR + Duration::from_secs(1);
        assert!(matches!(check(&key, now, late), Err(Denied::Unready(_))));
        ring.confirm(late);
        assert!(check(&key, now, late).is_ok());
        ring.replace(vec![], late);
        assert!(matches!(check(&key, now, late), Err(Denied::Key)) && !ring.has(key.id()));
    }
}
