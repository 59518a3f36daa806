//! The names of watched kinds and of the tables that hold them: values, for kinds come and go while a hub runs.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The name of a kind: in metrics, in `hub.change`, in the API. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindName(Arc<str>);

impl KindName {
    /// From its text.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for KindName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl AsRef<str> for KindName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for KindName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for KindName {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for KindName {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A kind as it came into the catalog: one that went and came again under its name is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KindId {
    /// Its name.
    pub name: KindName,
    /// The catalog's version at which it came.
    pub version: u64,
}

/// Why a kind is not watched any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Its table was dropped.
    Dropped,
    /// Its table is there, and is not to be watched any more.
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
