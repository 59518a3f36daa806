//! Sets of public keys, as issuers publish them (RFC 7517).

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};

/// A set has at most this many bytes.
pub const MOST_BYTES: usize = 256 * 1024;
/// And this many keys.
const MOST_KEYS: usize = 100;
/// An RSA key has at least this many bytes in its modulus.
const SMALLEST_MODULUS: usize = 256;

/// Why a set of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is too large.
    #[error("the key set has more than {MOST_BYTES} bytes or {MOST_KEYS} keys")]
    TooLarge,
    /// It is no key set.
    #[error("it is no JSON Web Key Set: {0}")]
    Malformed(#[from] serde_json::Error),
    /// None of its keys can verify a token.
    #[error("it has no public key that can verify a signature (RSA of 2048 bits, P-256, P-384 or Ed25519)")]
    Empty,
}

/// A public key.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// What it can verify.
    pub algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// The public keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<PublicKey>);

impl KeySet {
    /// Reads a set. Keys that cannot verify a signature are left out; symmetric ones above all, for whoever
    /// verifies with them can sign.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MOST_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let set: JwkSet = serde_json::from_slice(json)?;
        if set.keys.len() > MOST_KEYS {
            return Err(KeySetError::TooLarge);
        }
        let keys: Vec<_> = set.keys.iter().filter_map(public_key).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// The keys that may have made a signature: that of an id, or without one all that do the algorithm.
    pub fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a PublicKey> {
        self.0.iter().filter(move |key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        })
    }

    /// Whether there is a key of this id.
    pub fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn public_key(jwk: &Jwk) -> Option<PublicKey> {
    let common = &jwk.common;
    let verifies = !matches!(common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)))
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) if key.n.len() * 3 / 4 >= SMALLEST_MODULUS => RSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return None,
    };
    let algorithms: Vec<_> = match common.key_algorithm {
        Some(named) => family.iter().copied().filter(|own| named == (*own).into()).collect(),
        None => family.to_vec(),
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (verifies && !algorithms.is_empty()).then(|| PublicKey { id: common.key_id.clone(), algorithms, key })
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
