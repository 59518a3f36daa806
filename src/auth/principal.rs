//! An authenticated caller.

use super::{Claims, Scope};
use std::{fmt::Write, time::SystemTime};

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// A signed token of an issuer.
    Jwt,
    /// An API key of this hub.
    Key,
    /// A client certificate.
    Certificate,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// How it proved who it is.
    pub method: Method,
    /// Who vouches for it.
    pub issuer: String,
    /// Who it is, among those of that issuer.
    pub subject: String,
    /// What else is known of it.
    pub claims: Claims,
    /// When the proof ends; `None`: never.
    pub expires: Option<SystemTime>,
    /// The id of the API key that it has shown.
    pub key: Option<String>,
    /// What its credential is good for; empty: whatever its owner may do.
    pub scopes: Vec<Scope>,
}

/// The longest name of a principal, in bytes, for columns and lists that people read.
const LONGEST_NAME: usize = 1024;

impl Method {
    /// As a policy names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Key => "key",
            Self::Certificate => "cert",
        }
    }
}

impl Principal {
    /// `issuer#subject`, as it is recorded with changes. Characters other than visible ASCII, and `%` and `#`
    /// inside a part, are percent-encoded, so that two principals never share a name. `None`: it would be
    /// longer than a name may be.
    pub fn name(&self) -> Option<String> {
        let mut name = String::with_capacity(self.issuer.len() + self.subject.len() + 1);
        encode(&self.issuer, &mut name);
        name.push('#');
        encode(&self.subject, &mut name);
        (name.len() <= LONGEST_NAME).then_some(name)
    }

    /// Whether the proof has ended.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && byte != b'#' {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(issuer: &str, subject: &str) -> Principal {
        Principal {
            method: Method::Jwt,
            issuer: issuer.into(),
            subject: subject.into(),
            claims: Claims::default(),
            expires: None,
            key: None,
            scopes: Vec::new(),
        }
    }

    #[test]
    fn names_are_distinct_and_printable() {
        assert_eq!(principal("https://sso.example", "alice").name().unwrap(), "https://sso.example#alice");
        assert_eq!(principal("a#b", "c").name().unwrap(), "a%23b#c");
        assert_ne!(principal("a#b", "c").name(), principal("a", "b#c").name());
        assert_ne!(principal("a", "%20").name(), principal("a", " ").name());
        assert_eq!(principal("i", "é\n").name().unwrap(), "i#%C3%A9%0A");
        assert_eq!(principal("i", &"x".repeat(2000)).name(), None, "cut names could collide");
    }
}
