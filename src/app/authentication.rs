//! How callers are known.

use crate::{
    auth::{Authenticator, KeyRing},
    upkeep::TokenRules,
};
use anyhow::Context;
use std::sync::Arc;

/// How callers are known. With all of it off, nobody is asked.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// By tokens; `None`: not.
    pub tokens: Option<TokenRules>,
    /// By API keys.
    pub keys: bool,
}

impl Authentication {
    /// Whether a call of nobody is refused.
    pub fn is_required(&self) -> bool {
        self.tokens.is_some() || self.keys
    }

    /// What knows them.
    pub(super) fn authenticator(&self) -> anyhow::Result<Arc<Authenticator>> {
        let tokens = self.tokens.as_ref().map(TokenRules::verifier).transpose().context("--jwk-cert-file")?;
        let keys = self.keys.then(|| Arc::new(KeyRing::default()));
        Ok(Arc::new(Authenticator::new(self.is_required(), tokens, keys)))
    }
}
