//! How callers are known, and what they may do.

use super::Settings;
use crate::{
    auth::{Authenticator, KeyRing, PolicyCell},
    feed::Pipeline,
    service::Door,
    store::Store,
    tls,
    upkeep::{self, TokenRules, read_policy},
};
use anyhow::Context;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A database that is away is asked again this often.
const AGAIN: Duration = Duration::from_secs(1);

/// How callers are known, and what they may do. With all of it off, nobody is asked, and may do everything.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// By tokens; `None`: not.
    pub tokens: Option<TokenRules>,
    /// By API keys.
    pub keys: bool,
    /// The file that says what they may do; `None`: everything.
    pub policy: Option<PathBuf>,
    /// Methods of gRPC that may be called by nobody, as `/package.Service/Method`, or `/package.Service/*`.
    pub open_methods: Vec<String>,
}

impl Authentication {
    /// Whether a call of nobody is refused.
    pub fn is_required(&self) -> bool {
        self.tokens.is_some() || self.keys || self.policy.is_some()
    }
}

/// What asks callers, and lets them in.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) door: Door,
    policy: PolicyCell,
}

impl Access {
    /// To what a hub has, as its settings say.
    pub(super) fn new(settings: &Settings, pipeline: &Pipeline) -> anyhow::Result<Self> {
        let wanted = &settings.authentication;
        let tokens =
            wanted.tokens.as_ref().map(TokenRules::verifier).transpose().context("--jwk-cert-file")?;
        let keys = wanted.keys.then(|| Arc::new(KeyRing::default()));
        let authenticator = Authenticator::new(wanted.is_required(), tokens, keys);
        let authenticator = Arc::new(authenticator.leaving_open(wanted.open_methods.clone()));
        let policy = match &wanted.policy {
            Some(file) => PolicyCell::new(read_policy(file).context("--acl-file")?),
            None => PolicyCell::default(),
        };
        let door = Door::new(policy.clone(), pipeline.catalog.clone());
        Ok(Self { authenticator, door, policy })
    }

    /// Keeps it as it is in the database, at issuers and in files, until `stop`.
    pub(super) fn spawn(
        &self,
        settings: &Settings,
        store: &Store,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        let wanted = &settings.authentication;
        let issuers = wanted.tokens.as_ref().map(|rules| rules.issuers.clone()).unwrap_or_default();
        upkeep::spawn_authentication(&self.authenticator, issuers, store, stop, tasks);
        if let Some(file) = &wanted.policy {
            tasks.spawn(upkeep::follow_policy(file.clone(), self.policy.clone(), stop.clone()));
            tasks.spawn(share(self.door.clone(), store.clone(), stop.clone()));
        }
    }
}

/// Finds what the hubs of this database name sights with.
async fn share(door: Door, store: Store, stop: CancellationToken) {
    let share = async {
        let fresh = match tls::random::<32>() {
            Ok(fresh) => fresh,
            Err(error) => return tracing::error!(%error, "the policy lets nobody in"),
        };
        loop {
            match store.shared_secret("policy", &fresh).await.map(TryInto::try_into) {
                Ok(Ok(secret)) => return door.share(secret),
                Ok(Err(_)) => return tracing::error!("hub.secret is odd: the policy lets nobody in"),
                Err(error) => {
                    tracing::debug!(error = crate::error::chain(&error), "the secret of the policy")
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    stop.run_until_cancelled(share).await;
}
