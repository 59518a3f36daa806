//! The names of watched kinds and of the tables that hold them: values, because kinds come and go while a hub
//! runs.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The name of a kind: in metrics, in `hub.change`, in the API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KindName {
    name: Arc<str>,
    /// The name shown to people, who may know the table by another; nothing is compared with it.
    shown: Arc<str>,
}

impl KindName {
    /// From its text.
    pub fn new(name: &str) -> Self {
        let name: Arc<str> = name.into();
        Self { shown: name.clone(), name }
    }

    /// The same, shown to people as `shown`.
    pub fn shown_as(&self, shown: &str) -> Self {
        Self { name: self.name.clone(), shown: shown.into() }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl PartialEq for KindName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for KindName {}

impl PartialOrd for KindName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KindName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl Hash for KindName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a str, because a str is used for look-ups.
        (*self.name).hash(state);
    }
}

impl From<&str> for KindName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl AsRef<str> for KindName {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl Borrow<str> for KindName {
    fn borrow(&self) -> &str {
        &self.name
    }
}

impl PartialEq<str> for KindName {
    fn eq(&self, other: &str) -> bool {
        &*self.name == other
    }
}

impl PartialEq<&str> for KindName {
    fn eq(&self, other: &&str) -> bool {
        &*self.name == *other
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

/// A kind as it was added to the catalog: a kind that was removed and added again under its name is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KindId {
    /// Its name.
    pub name: KindName,
    /// The catalog's version at which it was added.
    pub version: u64,
}

/// Why a kind is not watched any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Its table was dropped.
    Dropped,
    /// Its table exists, but was detached.
    Detached,
}

/// A watched table with a key of one text column. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The kind that it holds.
    pub kind: KindName,
    /// Schema and name, quoted where they need it.
    pub name: Arc<str>,
    /// The key's column, quoted where it needs it.
    pub key: Arc<str>,
}

impl Table {
    /// From its parts.
    pub fn new(kind: &str, name: &str, key: &str) -> Self {
        Self { kind: kind.into(), name: name.into(), key: key.into() }
    }
}
