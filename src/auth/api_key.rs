//! API keys: `trex_<id>_<secret>_<checksum>`.
//!
//! The id finds the key, the secret proves it, and the checksum lets scanners of leaked secrets tell a key
//! from other text. Only the SHA-256 of the whole text is kept: 256 random bits need no slow hash.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX: &str = "trex_";
/// Characters of an id: 60 bits.
const ID: usize = 12;
/// Characters of a secret: 256 bits.
const SECRET: usize = 43;
/// Characters of a checksum.
const CHECKSUM: usize = 6;

/// What is kept of a key instead of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// From its bytes, as the database has them.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for the database.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A key that a caller presents, or that was just made. Its secret is not in its `Debug` text.
pub struct ApiKey {
    id: String,
    text: String,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ApiKey {
    /// Whether a credential claims to be an API key.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// A key of these random bytes, which must come from the system's source of randomness.
    pub fn from_random(id: [u8; 8], secret: [u8; 32]) -> Self {
        let id: String = u64::from_be_bytes(id)
            .to_be_bytes()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .take(ID)
            .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
            .collect();
        let body = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        let text = format!("{body}_{}", checksum(&body));
        Self { id, text }
    }

    /// Reads a key. `None`: it is none, which its checksum tells without a look at any list.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let (id, rest) = rest.split_at_checked(ID)?;
        let (secret, rest) = rest.strip_prefix('_')?.split_at_checked(SECRET)?;
        let sum = rest.strip_prefix('_')?;
        let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_whole = URL_SAFE_NO_PAD.decode(secret).is_ok_and(|bytes| bytes.len() == 32);
        let body = text.get(..text.len() - sum.len() - 1)?;
        (is_hex && is_whole && sum == checksum(body))
            .then(|| Self { id: id.to_owned(), text: text.to_owned() })
    }

    /// Names the key; no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as its owner keeps it. Shown once, when it is made.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.text.as_bytes()).into())
    }

    /// Whether it is the key with this digest, in a time that does not tell where they differ.
    pub fn is(&self, digest: &KeyDigest) -> bool {
        self.digest().0.ct_eq(&digest.0).into()
    }
}

fn checksum(body: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    digest.iter().take(CHECKSUM / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let key = ApiKey::from_random([7; 8], [9; 32]);
        assert_eq!(key.reveal().len(), PREFIX.len() + ID + 1 + SECRET + 1 + CHECKSUM);
        let read = ApiKey::parse(key.reveal()).unwrap();
        assert_eq!(read.id(), key.id());
        assert!(read.is(&key.digest()));
        assert!(!read.is(&ApiKey::from_random([7; 8], [8; 32]).digest()));
        assert!(!format!("{key:?}").contains(&key.reveal()[20..]), "no secret in Debug");
    }

    #[test]
    fn what_is_no_key_is_told_by_itself() {
        let key = ApiKey::from_random([1; 8], [2; 32]);
        let text = key.reveal();
        for at in 0..text.len() {
            let mut other = text.to_owned().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).unwrap();
            assert!(ApiKey::parse(&other).is_none(), "{other}");
            assert!(ApiKey::parse(&text[..at]).is_none());
        }
        for bad in ["", "trex_", "trex_é", "trex_000000000000_", &format!("{text}0"), &text.to_uppercase()] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}
