//! Keeps the public keys of the issuers as these publish them.

use super::fetch::{Place, fetch};
use crate::{
    auth::{
        Authenticator,
        jwks::{KeySet, MOST_BYTES},
        jwt::{Issuer, Verifier},
    },
    tls::{self, FileFault},
};
use anyhow::Context;
use std::{
    collections::HashMap,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A file is looked at this often,
const FILE: Duration = Duration::from_secs(10);
/// and an address this often,
const URL: Duration = Duration::from_secs(300);
/// or sooner if a token names a key that is not known, though not sooner than this after the time before.
const SOONEST: Duration = Duration::from_secs(15);
/// Keys are good for this long after they were last read.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// Where an issuer's keys are.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// At an address.
    Url(Place),
}

impl KeySource {
    /// At an address: `https`, or `http` on this machine.
    ///
    /// # Errors
    ///
    /// It is none of them.
    pub fn url(text: &str) -> anyhow::Result<Self> {
        Place::from_str(text).map(Self::Url)
    }

    async fn read(&self) -> anyhow::Result<KeySet> {
        let bytes = match self {
            Self::File(path) => tls::read(path)?.into(),
            Self::Url(place) => fetch(place, MOST_BYTES).await.with_context(|| place.to_string())?,
        };
        Ok(KeySet::parse(&bytes)?)
    }

    fn pause(&self) -> Duration {
        match self {
            Self::File(_) => FILE,
            Self::Url(_) => URL,
        }
    }
}

/// An issuer, and where its keys are.
#[derive(Debug, Clone)]
pub struct Issuing {
    /// The `iss` of its tokens.
    pub name: String,
    /// Its keys.
    pub source: KeySource,
}

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Who is trusted.
    pub issuers: Vec<Issuing>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// How far the clocks of issuers may be off.
    pub leeway: Duration,
    /// A token may be valid for at most this long; `None`: for any time.
    pub longest_life: Option<Duration>,
}

impl TokenRules {
    /// What checks tokens by these rules, with the keys that are in files.
    ///
    /// # Errors
    ///
    /// A file has no keys. What an address has is not asked yet: it may be down.
    pub fn verifier(&self) -> Result<Verifier, FileFault> {
        let mut issuers = HashMap::new();
        for Issuing { name, source } in &self.issuers {
            let keys = match source {
                KeySource::File(path) => {
                    KeySet::parse(&tls::read(path)?).map_err(|error| FileFault::new(path, error))?
                }
                KeySource::Url(_) => KeySet::default(),
            };
            issuers.insert(name.clone(), Issuer { keys, audiences: self.audiences.clone() });
        }
        Ok(Verifier { issuers, leeway: self.leeway, longest_life: self.longest_life })
    }
}

/// Follows the keys of an issuer, until `stop`.
pub(crate) async fn follow(authenticator: Arc<Authenticator>, issuing: Issuing, stop: CancellationToken) {
    let Issuing { name, source } = issuing;
    let follow = async {
        let (mut read, mut told) = (Instant::now(), String::new());
        let mut unknown = authenticator.unknown_keys();
        loop {
            match source.read().await {
                Ok(keys) => {
                    read = Instant::now();
                    told.clear();
                    authenticator.update_tokens(|verifier| set(verifier, &name, keys));
                }
                Err(error) => {
                    let fault = format!("{error:#}");
                    if fault != told {
                        tracing::warn!(issuer = name, fault, "its keys cannot be read: those before stay");
                        told = fault;
                    }
                    if read.elapsed() > GOOD_FOR {
                        authenticator.update_tokens(|verifier| set(verifier, &name, KeySet::default()));
                    }
                }
            }
            let pause = if told.is_empty() { source.pause() } else { source.pause().min(SOONEST) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = asked(&mut unknown) => {}
            }
        }
    };
    stop.run_until_cancelled(follow).await;
}

/// A token names a key that is not known, and it is time to look again.
async fn asked(unknown: &mut watch::Receiver<()>) {
    tokio::time::sleep(SOONEST).await;
    if unknown.changed().await.is_err() {
        std::future::pending().await
    }
}

fn set(verifier: &mut Verifier, name: &str, keys: KeySet) {
    if let Some(issuer) = verifier.issuers.get_mut(name) {
        issuer.keys = keys;
    }
}
