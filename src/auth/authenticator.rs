//! Who calls: the one place where credentials are looked at, for every face.

use super::{
    Denied, KeyRing, Over, Principal, Term, Terms,
    api_key::ApiKey,
    certificate,
    jwt::{Refusal, Verifier},
};
use parking_lot::RwLock;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// What a call shows of its caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offered<'a> {
    /// What stands in its `authorization` header, or that there are several.
    pub authorization: Option<Result<&'a [u8], Several>>,
    /// The certificate of its connection, in DER, whose authority has been checked.
    pub certificate: Option<&'a [u8]>,
}

/// A header that may stand once stands several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Several;

/// Knows who calls.
#[derive(Default)]
pub struct Authenticator {
    /// Whether somebody must be known to call.
    required: bool,
    tokens: Option<RwLock<Arc<Verifier>>>,
    keys: Option<Arc<KeyRing>>,
    terms: Terms,
    /// Methods that may be called by nobody.
    open: Vec<String>,
    /// Rung when a token names a key that its issuer is not known to have.
    unknown_key: watch::Sender<()>,
}

impl Authenticator {
    /// One that accepts these, beside certificates; `required`: a call of nobody is refused.
    pub fn new(required: bool, tokens: Option<Verifier>, keys: Option<Arc<KeyRing>>) -> Self {
        let tokens = tokens.map(|verifier| RwLock::new(Arc::new(verifier)));
        Self { required, tokens, keys, ..Self::default() }
    }

    /// The same, which leaves these methods open to nobody: `/package.Service/Method`, or
    /// `/package.Service/*`.
    pub fn leaving_open(self, methods: Vec<String>) -> Self {
        Self { open: methods, ..self }
    }

    /// Whether a method may be called by nobody.
    pub fn is_open(&self, method: &str) -> bool {
        self.open.iter().any(|open| match open.strip_suffix('*') {
            Some(begin) if begin.ends_with('/') => method.starts_with(begin),
            _ => open == method,
        })
    }

    /// Whether a call of nobody is refused.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The API keys, if they are accepted.
    pub fn keys(&self) -> Option<&Arc<KeyRing>> {
        self.keys.as_ref()
    }

    /// Changes what tokens are checked with.
    pub fn update_tokens(&self, change: impl FnOnce(&mut Verifier)) {
        if let Some(tokens) = &self.tokens {
            let mut verifier = Verifier::clone(&*tokens.read());
            change(&mut verifier);
            *tokens.write() = Arc::new(verifier);
        }
    }

    /// Changes when a token names a key that its issuer is not known to have.
    pub fn unknown_keys(&self) -> watch::Receiver<()> {
        self.unknown_key.subscribe()
    }

    /// Who calls. `None`: nobody that is known, which is all right.
    pub fn authenticate(
        &self,
        offered: Offered<'_>,
        at: (SystemTime, Instant),
    ) -> Result<Option<Arc<Principal>>, Denied> {
        let accepts_any = self.tokens.is_some() || self.keys.is_some();
        let principal = match offered {
            // Two credentials in one call: the token counts.
            Offered { authorization: Some(value), .. } if accepts_any => {
                Some(self.bearer(value.map_err(|Several| Denied::Scheme(self.wanted()))?, at)?)
            }
            Offered { certificate: Some(der), .. } => match certificate::principal(der, at.0) {
                Ok(principal) => Some(Arc::new(principal)),
                Err(denied) if self.required => return Err(denied),
                Err(_) => None,
            },
            Offered { .. } if self.required => return Err(Denied::Nobody(self.wanted())),
            Offered { .. } => None,
        };
        match principal {
            // Cut names could collide.
            Some(principal) if principal.name().is_none() => Err(Denied::Token(Refusal::Claim("sub"))),
            principal => Ok(principal),
        }
    }

    fn bearer(&self, value: &[u8], at: (SystemTime, Instant)) -> Result<Arc<Principal>, Denied> {
        let scheme = || Denied::Scheme(self.wanted());
        let text = std::str::from_utf8(value).map_err(|_| scheme())?;
        let (name, credential) = text.split_once(' ').ok_or_else(scheme)?;
        let credential = credential.trim();
        if !name.eq_ignore_ascii_case("bearer") || credential.is_empty() {
            return Err(scheme());
        }
        if let (true, Some(keys)) = (ApiKey::is_one(credential), &self.keys) {
            return keys.check(&ApiKey::parse(credential).ok_or(Denied::Key)?, at);
        }
        let Some(tokens) = &self.tokens else { return Err(scheme()) };
        let verifier = tokens.read().clone();
        verifier.verify(credential, at.0).map(Arc::new).map_err(|refusal| match refusal {
            Refusal::Expired => Denied::Expired,
            refusal => {
                if matches!(refusal, Refusal::UnknownKey { .. }) {
                    self.unknown_key.send_replace(());
                }
                Denied::Token(refusal)
            }
        })
    }

    /// What a caller may show.
    fn wanted(&self) -> &'static str {
        match (&self.tokens, &self.keys) {
            (Some(_), Some(_)) => {
                "send `authorization: Bearer …` with a token of the hub's issuer or an API key of this hub"
            }
            (Some(_), None) => "send `authorization: Bearer …` with a token of the hub's issuer",
            (None, Some(_)) => {
                "send `authorization: Bearer …` with an API key of this hub (trex keys create makes one)"
            }
            (None, None) => "show a client certificate, on the listener that asks for one",
        }
    }

    /// The leave of a stream to go on; `None`: nothing can end it.
    pub fn begin_term(&self, principal: Option<Arc<Principal>>) -> Option<Term> {
        (self.required || principal.is_some()).then(|| self.terms.begin(principal))
    }

    /// Ends the streams whose leave is over.
    pub fn sweep(&self, now: SystemTime) {
        self.terms.sweep(|principal| match (&principal.key, &self.keys) {
            (Some(id), Some(keys)) if !keys.has(id) => Some(Over::Revoked),
            _ if principal.is_expired(now) => Some(Over::Expired),
            _ => None,
        });
    }

    /// Streams are looked at this often.
    pub const SWEEP: Duration = Duration::from_millis(250);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::StoredKey;

    #[test]
    fn somebody_must_be_known_where_that_is_demanded() {
        let at = (SystemTime::now(), Instant::now());
        let key = ApiKey::from_random([1; 8], [2; 32]);
        let ring = Arc::new(KeyRing::default());
        let stored = StoredKey {
            id: key.id().to_owned(),
            name: "x".repeat(2000),
            digest: key.digest(),
            scopes: Vec::new(),
            expires: None,
        };
        let named = StoredKey { name: "ci".to_owned(), ..stored.clone() };
        ring.replace(vec![named], at.1);
        let strict = Authenticator::new(true, None, Some(ring.clone()));
        let of = |value: &str| {
            let offered = Offered { authorization: Some(Ok(value.as_bytes())), ..Offered::default() };
            strict.authenticate(offered, at)
        };
        let bearer = format!("bearer {}", key.reveal());
        assert_eq!(of(&bearer).unwrap().unwrap().subject, "ci");
        for odd in ["", "Bearer", "Bearer ", "Basic eDp5", key.reveal(), "Bearer eyJ.e30.x"] {
            assert!(matches!(of(odd), Err(Denied::Scheme(_))), "{odd}");
        }
        assert!(matches!(of("Bearer trex_nonsense"), Err(Denied::Key)));
        assert!(matches!(strict.authenticate(Offered::default(), at), Err(Denied::Nobody(_))));
        let twice = Offered { authorization: Some(Err(Several)), ..Offered::default() };
        assert!(matches!(strict.authenticate(twice, at), Err(Denied::Scheme(_))));
        ring.replace(vec![stored], at.1);
        assert!(matches!(of(&bearer), Err(Denied::Token(_))), "a name that is too long");
        assert!(Authenticator::default().authenticate(twice, at).unwrap().is_none(), "nobody is asked");
    }
}
