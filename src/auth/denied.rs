//! Why nobody is known to call.

use super::jwt::Refusal;

/// Why nobody is known to call. The texts name no part of a credential.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Nothing was shown.
    #[error("say who calls: {0}")]
    Nobody(&'static str),
    /// What was shown is none of what is accepted.
    #[error("the authorization header is not accepted: {0}, once")]
    Scheme(&'static str),
    /// The token proves nothing.
    #[error("the token is not accepted: {0}")]
    Token(Refusal),
    /// The key is none of this hub's.
    #[error("the API key is not accepted")]
    Key,
    /// It has ended.
    #[error("the credential has expired: get a new one")]
    Expired,
    /// The certificate names nobody.
    #[error("the certificate does not say who calls: {0}")]
    Certificate(&'static str),
    /// The hub cannot tell now.
    #[error("{0}")]
    Unready(&'static str),
}
