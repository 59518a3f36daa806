//! API keys: made, listed, checked for other services, and taken back.

use super::authorize::{Action, Door, Guarded};
use crate::{
    auth::{Authenticator, BadScope, Principal, Scope, api_key::ApiKey},
    call::Call,
    error::Error,
    store::{ApiKeyRow, NewApiKey, Store},
    tls,
};
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// A name may have this many characters.
const LONGEST_NAME: usize = 255;
/// A key may have this many scopes.
const MOST_SCOPES: usize = 100;

/// A key that is wanted.
#[derive(Debug, Default)]
pub struct KeyRequest {
    /// Who will have it.
    pub name: String,
    /// What it is to be good for; empty: whatever its owner may do.
    pub scopes: Vec<String>,
    /// When it is to end; `None`: never.
    pub expires_at: Option<SystemTime>,
}

/// The keys of a database. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    door: Door,
    behind: Guarded<Arc<Means>>,
}

struct Means {
    store: Store,
    authenticator: Arc<Authenticator>,
}

impl Keys {
    /// Of this database, known to this authenticator if it takes keys at all.
    pub fn new(store: Store, authenticator: Arc<Authenticator>, door: Door) -> Self {
        Self { door, behind: Guarded::new(Arc::new(Means { store, authenticator })) }
    }

    /// Makes a key: its text, which is not kept, and what is.
    pub async fn create(&self, call: &Call, request: &KeyRequest) -> Result<(ApiKey, ApiKeyRow), Error> {
        create(&self.enter(call)?.store, request, call.actor()).await
    }

    /// The keys, the newest first; those that are revoked only if `all`.
    pub async fn list(&self, call: &Call, all: bool) -> Result<Vec<ApiKeyRow>, Error> {
        self.enter(call)?.store.api_keys(all).await
    }

    /// Takes a key back.
    pub async fn revoke(&self, call: &Call, id: &str) -> Result<(), Error> {
        revoke(&self.enter(call)?.store, id).await
    }

    /// Who has a key; `None`: nobody.
    pub async fn validate(&self, call: &Call, key: &str) -> Result<Option<Arc<Principal>>, Error> {
        let means = self.enter(call)?;
        let Some(ring) = means.authenticator.keys() else {
            return Err(Error::Unimplemented {
                what: "checking API keys, which --enable-api-keys turns on,",
            });
        };
        let at = (SystemTime::now(), Instant::now());
        Ok(ApiKey::parse(key).and_then(|key| ring.check(&key, at).ok()))
    }

    fn enter(&self, call: &Call) -> Result<&Means, Error> {
        Ok(self.behind.open(&self.door.authorize(call, Action::ManageKeys, None)?))
    }
}

/// Makes a key, on behalf of somebody. For those who have the database, and so need nobody's leave, too.
pub async fn create(
    store: &Store,
    request: &KeyRequest,
    created_by: Option<&str>,
) -> Result<(ApiKey, ApiKeyRow), Error> {
    let KeyRequest { name, scopes, expires_at } = request;
    let is_printable = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if name.trim() != name || !(1..=LONGEST_NAME).contains(&name.len()) || !is_printable(name) {
        let rule = format!("must have 1 to {LONGEST_NAME} printable ASCII characters");
        return Err(Error::invalid("name", rule));
    }
    if scopes.len() > MOST_SCOPES {
        return Err(Error::invalid("scopes", format!("has more than {MOST_SCOPES} entries")));
    }
    let read = scopes.iter().map(|scope| scope.parse::<Scope>()).collect::<Result<Vec<_>, BadScope>>();
    read.map_err(|error| Error::invalid("scopes", error.to_string()))?;
    if expires_at.is_some_and(|expires| expires <= SystemTime::now()) {
        return Err(Error::invalid("expires_at", "must be in the future"));
    }
    let (id, secret) = (random()?, random()?);
    let key = ApiKey::from_random(id, secret);
    let digest = key.digest();
    let new = NewApiKey {
        id: key.id(),
        name,
        digest: digest.as_bytes(),
        scopes,
        created_by,
        expires_at: *expires_at,
    };
    store.add_api_key(&new).await?;
    let row = ApiKeyRow {
        id: key.id().to_owned(),
        name: name.clone(),
        digest: digest.as_bytes().to_vec(),
        scopes: scopes.clone(),
        created_at: SystemTime::now(),
        created_by: created_by.map(str::to_owned),
        expires_at: *expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    Ok((key, row))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    tls::random().map_err(Error::Internal)
}

/// Takes a key back, as [`create`] makes one.
pub async fn revoke(store: &Store, id: &str) -> Result<(), Error> {
    match store.revoke_api_key(id).await? {
        true => Ok(()),
        false => Err(Error::NotFound { kind: "API key".into(), id: id.to_owned() }),
    }
}
