//! What a call does, as policies and scopes name it.

use crate::model::{KindPattern, KindRef};
use std::{fmt, str::FromStr};

/// What a call may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Read one resource.
    Get,
    /// Read a table.
    List,
    /// Follow the changes of a table.
    Watch,
    /// Make a resource.
    Create,
    /// Change a resource.
    Update,
    /// Delete a resource.
    Delete,
    /// Make many resources, and go on where an earlier call stopped.
    Import,
    /// Read the log.
    ReadEvents,
    /// Read who changed what.
    Audit,
    /// Look at the hub, and attach tables.
    Admin,
    /// Make, list, check and revoke API keys.
    ManageKeys,
}

impl Action {
    /// Each, with its name.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Get, "get"),
        (Self::List, "list"),
        (Self::Watch, "watch"),
        (Self::Create, "create"),
        (Self::Update, "update"),
        (Self::Delete, "delete"),
        (Self::Import, "import"),
        (Self::ReadEvents, "read_events"),
        (Self::Audit, "audit"),
        (Self::Admin, "admin"),
        (Self::ManageKeys, "manage_keys"),
    ];

    /// As a policy names it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(action, _)| *action == self).map_or("", |(_, name)| name)
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(action, _)| *action)
    }
}

/// What an API key is good for, such as `watch:public.*`, `get` or `*:Dinosaur`. Scopes only narrow what the
/// policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `None`: every one.
    action: Option<Action>,
    kinds: KindPattern,
    text: String,
}

/// A scope that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope: one is a verb, or a verb and kinds, such as get or watch:public.*")]
pub struct BadScope(String);

impl Scope {
    /// Whether it is good for this. What is about no kind, or about all, needs a scope for all.
    pub fn allows(&self, action: Action, kind: Option<KindRef<'_>>) -> bool {
        self.action.is_none_or(|own| own == action)
            && kind.map_or(self.kinds.is_all(), |kind| self.kinds.fits(kind))
    }
}

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        let bad = || BadScope(text.to_owned());
        let (verb, kinds) = text.split_once(':').unwrap_or((text, "*"));
        let action = match verb {
            "*" => None,
            verb => Some(Action::named(verb).ok_or_else(bad)?),
        };
        Ok(Self { action, kinds: kinds.parse().map_err(|_| bad())?, text: text.to_owned() })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    #[test]
    fn scopes_narrow() {
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let (orders, others) = (TableName::new("public", "orders"), TableName::new("other", "orders"));
        let (orders, others) = (Some(KindRef::Table(&orders)), Some(KindRef::Table(&others)));
        assert!(scope("get").allows(Action::Get, orders));
        assert!(!scope("get").allows(Action::List, orders));
        assert!(scope("*:public.*").allows(Action::List, orders));
        assert!(!scope("*:public.*").allows(Action::List, others));
        assert!(
            !scope("*:public.*").allows(Action::Admin, None) && scope("admin").allows(Action::Admin, None)
        );
        for bad in ["", "watch:", "fly", "get:a.b.c", ":a", "get:\""] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_action_has_a_name() {
        assert!(
            Action::ALL
                .iter()
                .all(|(action, name)| action.name() == *name && Action::named(name) == Some(*action))
        );
    }
}
