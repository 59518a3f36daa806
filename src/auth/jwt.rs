//! Bearer tokens: JSON Web Tokens (RFC 7519), signed by an issuer whose public keys are known.

use super::{Claims, ClaimsError, Method, Principal, jwks::KeySet};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// A token has at most this many bytes: it travels in a header.
const MOST_BYTES: usize = 16 * 1024;
/// Keys that are tried for a token that names none.
const MOST_CANDIDATES: usize = 8;
/// The last second of the year 9999: times beyond are no times.
const LAST_SECOND: u64 = 253_402_300_799;

/// An issuer that is trusted.
#[derive(Debug, Clone, Default)]
pub struct Issuer {
    /// Its keys.
    pub keys: KeySet,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
}

/// Checks tokens.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    /// By the `iss` that they write, exactly.
    pub issuers: HashMap<String, Issuer>,
    /// How far the clocks of issuers may be off.
    pub leeway: Duration,
    /// A token may be valid for at most this long; `None`: for any time.
    pub longest_life: Option<Duration>,
}

/// Why a token proves nothing. The texts name no part of the token.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is no token.
    #[error("it is no signed JSON Web Token: {0}")]
    Malformed(&'static str),
    /// Its claims cannot be read.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Its algorithm is none that is accepted.
    #[error("its algorithm is not accepted; accepted are RS, PS, ES and EdDSA")]
    Algorithm,
    /// Its issuer is not trusted.
    #[error("its issuer is not trusted")]
    Issuer,
    /// Its issuer has no such key. The key may be a new one.
    #[error("its key is not among those of its issuer")]
    UnknownKey {
        /// Whose keys should be looked up again.
        issuer: String,
    },
    /// It was not signed by that key.
    #[error("its signature does not fit")]
    Signature,
    /// It is for somebody else.
    #[error("it is for another audience")]
    Audience,
    /// It is over.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is not valid yet")]
    NotYet,
    /// A claim that must be there is missing, or is not what it must be.
    #[error("its claim {0} is missing or odd")]
    Claim(&'static str),
    /// It is a token for something else, such as an ID token.
    #[error("it is no access token")]
    Kind,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Verifier {
    /// Who a token says is calling, if it proves that at this time.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Principal, Refusal> {
        if token.len() > MOST_BYTES {
            return Err(Refusal::Malformed("it is too long"));
        }
        let (header, payload) = parts(token)?;
        let algorithm = accepted(&header)?;
        let claims = Claims::parse(&payload)?;
        let name = claims.text("iss").filter(|name| !name.is_empty()).ok_or(Refusal::Claim("iss"))?;
        let issuer = self.issuers.get(name).ok_or(Refusal::Issuer)?;
        self.check_signature(token, (&header, algorithm), (name, issuer))?;
        check_audience(&claims, issuer)?;
        let expires = self.check_times(&claims, now)?;
        // Keycloak and others say in a claim what a token is for.
        if claims
            .get("typ")
            .is_some_and(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")))
        {
            return Err(Refusal::Kind);
        }
        let subject =
            claims.text("sub").filter(|subject| !subject.is_empty()).ok_or(Refusal::Claim("sub"))?;
        Ok(Principal {
            method: Method::Jwt,
            issuer: name.to_owned(),
            subject: subject.to_owned(),
            expires: Some(expires),
            claims,
            key: None,
            scopes: Vec::new(),
        })
    }

    fn check_signature(
        &self,
        token: &str,
        (header, algorithm): (&Header, Algorithm),
        (name, issuer): (&str, &Issuer),
    ) -> Result<(), Refusal> {
        // Only the signature: claims are checked here, on what is read here.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let mut known = false;
        for candidate in issuer.keys.candidates(header.kid.as_deref(), algorithm).take(MOST_CANDIDATES) {
            known = true;
            if jsonwebtoken::decode::<Value>(token, &candidate.key, &validation).is_ok() {
                return Ok(());
            }
        }
        Err(if known { Refusal::Signature } else { Refusal::UnknownKey { issuer: name.to_owned() } })
    }

    /// When it expires, with the leeway.
    fn check_times(&self, claims: &Claims, now: SystemTime) -> Result<SystemTime, Refusal> {
        let expires = time(claims, "exp")?.ok_or(Refusal::Claim("exp"))? + self.leeway;
        if expires <= now {
            return Err(Refusal::Expired);
        }
        for (claim, name) in [(time(claims, "nbf")?, "nbf"), (time(claims, "iat")?, "iat")] {
            if claim.is_some_and(|begins| begins > now + self.leeway) {
                return Err(if name == "nbf" { Refusal::NotYet } else { Refusal::Claim("iat") });
            }
        }
        match self.longest_life {
            Some(longest) if expires > now + longest + self.leeway => Err(Refusal::Claim("exp")),
            _ => Ok(expires),
        }
    }
}

/// The header and the payload, decoded; neither is proved.
fn parts(token: &str) -> Result<(Header, Vec<u8>), Refusal> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed("it has not three parts"));
    };
    let decode =
        |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed("a part is no base64url"));
    decode(signature)?;
    let header = Claims::parse(&decode(header)?)
        .ok()
        .and_then(|header| serde_json::from_value(header.into_value()).ok())
        .ok_or(Refusal::Malformed("its header is odd"))?;
    Ok((header, decode(payload)?))
}

fn accepted(header: &Header) -> Result<Algorithm, Refusal> {
    if header.crit.is_some() {
        return Err(Refusal::Malformed("it demands an extension"));
    }
    let kind = header.typ.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
    if kind.is_some_and(|kind| !["jwt", "at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known))) {
        return Err(Refusal::Kind);
    }
    match header.alg.parse().map_err(|_| Refusal::Algorithm)? {
        // Whoever verifies with a shared secret can sign.
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Err(Refusal::Algorithm),
        algorithm => Ok(algorithm),
    }
}

fn check_audience(claims: &Claims, issuer: &Issuer) -> Result<(), Refusal> {
    let is_ours =
        |value: &Value| value.as_str().is_some_and(|name| issuer.audiences.iter().any(|own| own == name));
    match claims.get("aud") {
        Some(Value::String(_)) if claims.get("aud").is_some_and(is_ours) => Ok(()),
        Some(Value::Array(names)) if names.iter().any(is_ours) => Ok(()),
        Some(Value::String(_) | Value::Array(_)) => Err(Refusal::Audience),
        _ => Err(Refusal::Claim("aud")),
    }
}

/// Whole seconds since 1970, and nothing else.
fn time(claims: &Claims, name: &'static str) -> Result<Option<SystemTime>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().filter(|seconds| *seconds <= LAST_SECOND).ok_or(Refusal::Claim(name))?;
    Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests;
