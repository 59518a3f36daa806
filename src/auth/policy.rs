//! The policy: rules that grant, and denials that beat every rule. What no rule grants is denied.
//!
//! ```toml
//! [[rule]]
//! name  = "spokes"
//! when  = { issuer = "https://sso.example", groups = "spoke" }
//! kinds = ["Dinosaur", "public.orders"]
//! verbs = ["watch", "list", "get"]
//! rows  = 'owner = $sub'
//! hide  = ["notes"]
//! ```

use super::{Action, Principal};
use crate::model::{
    KindPattern, KindRef,
    filter::{ClaimValue, Fault, check_syntax},
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// A file may have this many bytes,
const MOST_BYTES: usize = 1 << 20;
/// and this many rules.
const MOST_RULES: usize = 1000;

/// Why a policy cannot be used. It names the rule.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is too large.
    #[error("it has more than {MOST_BYTES} bytes or {MOST_RULES} rules")]
    TooLarge,
    /// It is no TOML of this form.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// Of a rule, something is missing or wrong.
    #[error("rule {rule:?}: {problem}")]
    Rule {
        /// The rule's name.
        rule: String,
        /// What is wrong.
        problem: String,
    },
    /// A denial denies nobody, or everybody.
    #[error("a [[deny]] names an issuer, a subject or a jti")]
    Deny,
}

/// Which rows of a kind a rule grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// All.
    All,
    /// Those that match this, in which `$name` is a claim.
    Where(String),
}

/// Which columns of a table a rule grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// All but these.
    AllBut(Vec<String>),
    /// These, and the key.
    Only(Vec<String>),
}

/// What one principal may do at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Watches that are open; `None`: any number.
    pub watches: Option<u32>,
    /// Calls in a second; `None`: any number.
    pub calls_per_second: Option<u32>,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, for people.
    pub name: String,
    when: BTreeMap<String, Value>,
    kinds: Vec<KindPattern>,
    verbs: Vec<Action>,
    /// Which rows.
    pub rows: Rows,
    /// Which columns.
    pub shown: Shown,
    /// How much.
    pub limits: Limits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deny {
    issuer: Option<String>,
    subject: Option<String>,
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Written>,
    #[serde(default)]
    deny: Vec<Deny>,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    when: BTreeMap<String, Value>,
    kinds: Vec<String>,
    verbs: Vec<String>,
    rows: String,
    hide: Option<Vec<String>>,
    show: Option<Vec<String>>,
    #[serde(default)]
    limits: Limits,
}

/// The policy.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    denies: Vec<Deny>,
}

impl Policy {
    /// Reads a policy, whole or not at all.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MOST_BYTES {
            return Err(PolicyError::TooLarge);
        }
        let File { rule, deny } = toml::from_str(text)?;
        if rule.len() > MOST_RULES {
            return Err(PolicyError::TooLarge);
        }
        let mut names = HashSet::new();
        if let Some(twice) = rule.iter().find(|rule| !names.insert(rule.name.clone())) {
            return Err(twice.wrong("another rule has this name"));
        }
        if deny.iter().any(|deny| deny.issuer.is_none() && deny.subject.is_none() && deny.jti.is_none()) {
            return Err(PolicyError::Deny);
        }
        Ok(Self { rules: rule.into_iter().map(Written::read).collect::<Result<_, _>>()?, denies: deny })
    }

    /// Whether a denial names this principal.
    pub fn denies(&self, principal: &Principal) -> bool {
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        self.denies.iter().any(|deny| {
            is(&deny.issuer, Some(&principal.issuer))
                && is(&deny.subject, Some(&principal.subject))
                && is(&deny.jti, principal.claims.text("jti"))
        })
    }

    /// The rules that grant a principal this verb on this kind, with their places in the policy. What is
    /// about no kind, or about all, is granted by rules for all.
    pub fn granting<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        kind: Option<KindRef<'a>>,
    ) -> impl Iterator<Item = (usize, &'a Rule)> {
        let in_scope =
            principal.scopes.is_empty() || principal.scopes.iter().any(|scope| scope.allows(action, kind));
        let denied = !in_scope || self.denies(principal);
        let rules = self.rules.iter().enumerate().filter(move |_| !denied);
        rules.filter(move |(_, rule)| {
            rule.verbs.contains(&action) && rule.is_about(kind) && rule.applies_to(principal)
        })
    }

    /// How much a principal may do at a time: of what its rules say, the most.
    pub fn limits(&self, principal: &Principal) -> Limits {
        let mut limits: Option<Limits> = None;
        for rule in self.rules.iter().filter(|rule| rule.applies_to(principal)) {
            let most = |one: Option<u32>, other: Option<u32>| Some(one?.max(other?));
            limits = Some(match limits {
                None => rule.limits,
                Some(known) => Limits {
                    watches: most(known.watches, rule.limits.watches),
                    calls_per_second: most(known.calls_per_second, rule.limits.calls_per_second),
                },
            });
        }
        limits.unwrap_or_default()
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Rule {
    /// Whether it is about a kind; `None`: about all of them.
    pub fn is_about(&self, kind: Option<KindRef<'_>>) -> bool {
        self.kinds.iter().any(|pattern| kind.map_or(pattern.is_all(), |kind| pattern.fits(kind)))
    }

    /// Whether all of its conditions hold for a principal.
    pub fn applies_to(&self, principal: &Principal) -> bool {
        self.when.iter().all(|(name, wanted)| match name.as_str() {
            "issuer" => wanted.as_str() == Some(&principal.issuer),
            "subject" => wanted.as_str() == Some(&principal.subject),
            "method" => wanted.as_str() == Some(principal.method.name()),
            claim => match principal.claims.get(claim) {
                Some(Value::Array(list)) => list.contains(wanted),
                Some(value) => value == wanted,
                None => false,
            },
        })
    }

    /// Whether it grants this verb.
    pub fn has_verb(&self, action: Action) -> bool {
        self.verbs.contains(&action)
    }
}

impl Written {
    fn wrong(&self, problem: impl Into<String>) -> PolicyError {
        PolicyError::Rule { rule: self.name.clone(), problem: problem.into() }
    }

    fn read(self) -> Result<Rule, PolicyError> {
        let kinds = self.kinds.iter().map(|kind| kind.parse::<KindPattern>());
        let kinds = kinds.collect::<Result<_, _>>().map_err(|error| self.wrong(error.to_string()))?;
        let verb = |name: &String| {
            let known = || Action::ALL.map(|(_, name)| name).join(", ");
            Action::named(name)
                .ok_or_else(|| self.wrong(format!("{name:?} is no verb; there are {}", known())))
        };
        let verbs = self.verbs.iter().map(verb).collect::<Result<_, _>>()?;
        let is_value = |value: &Value| value.is_string() || value.is_boolean() || value.is_i64();
        if let Some((name, _)) = self.when.iter().find(|(_, value)| !is_value(value)) {
            return Err(self.wrong(format!("when: {name} must be a text, a whole number or a truth value")));
        }
        let rows = match self.rows.trim() {
            "*" => Rows::All,
            "" => return Err(self.wrong("rows is blank: every row is rows = \"*\"")),
            text => {
                check_syntax(text).map_err(|fault: Fault| self.wrong(format!("rows: {fault}")))?;
                Rows::Where(text.to_owned())
            }
        };
        let sorted = |mut columns: Vec<String>| {
            columns.sort();
            columns.dedup();
            columns
        };
        let shown = match (&self.hide, &self.show) {
            (Some(_), Some(_)) => return Err(self.wrong("hide and show do not go together")),
            (None, None) => Shown::AllBut(Vec::new()),
            (Some(hide), None) => Shown::AllBut(sorted(hide.clone())),
            (None, Some(show)) if show.is_empty() => return Err(self.wrong("show shows nothing")),
            (None, Some(show)) => Shown::Only(sorted(show.clone())),
        };
        if [self.limits.watches, self.limits.calls_per_second].contains(&Some(0)) {
            return Err(self.wrong("a limit of 0 allows nothing: leave the verb out"));
        }
        let Self { name, when, limits, .. } = self;
        Ok(Rule { name, when, kinds, verbs, rows, shown, limits })
    }
}

impl Principal {
    /// The value of a claim, as a rule of rows takes it; `None`: it is missing, or is no text, whole number
    /// or list of them.
    pub fn claim(&self, path: &[String]) -> Option<ClaimValue> {
        claim_value(self.claims.at(path)?)
    }
}

fn claim_value(value: &Value) -> Option<ClaimValue> {
    match value {
        Value::String(text) => Some(ClaimValue::Text(text.clone())),
        Value::Number(number) => number.as_i64().map(ClaimValue::Integer),
        Value::Array(list) => {
            let single = |value: &Value| match value {
                Value::Array(_) => None,
                value => claim_value(value),
            };
            list.iter().map(single).collect::<Option<_>>().map(ClaimValue::List)
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{Claims, Method},
        model::TableName,
    };

    fn principal(claims: &str) -> Principal {
        Principal {
            method: Method::Jwt,
            issuer: "https://sso.example".into(),
            subject: "alice".into(),
            claims: Claims::parse(claims.as_bytes()).unwrap(),
            expires: None,
            key: None,
            scopes: Vec::new(),
        }
    }

    const RULE: &str = r#"
        [[rule]]
        name = "spokes"
        when = { issuer = "https://sso.example", groups = "spoke", "realm.level" = 3 }
        kinds = ["public.*"]
        verbs = ["watch", "get"]
        rows = "owner = $sub"
    "#;

    fn grants(policy: &str, claims: &str, action: Action, kind: Option<KindRef<'_>>) -> usize {
        Policy::parse(policy).unwrap().granting(&principal(claims), action, kind).count()
    }

    #[test]
    fn a_rule_grants_what_it_says_to_whom_it_says() {
        const SPOKE: &str = r#"{"groups":["a","spoke"],"realm":{"level":3},"jti":"t1"}"#;
        let orders = TableName::new("public", "orders");
        let (orders, dinosaur) = (Some(KindRef::Table(&orders)), Some(KindRef::Compiled("Dinosaur")));
        assert_eq!(grants(RULE, SPOKE, Action::Watch, orders), 1);
        for (claims, action, kind) in [
            (SPOKE, Action::List, orders),
            (SPOKE, Action::Watch, dinosaur),
            (SPOKE, Action::Watch, None),
            (r#"{"groups":["spoke"]}"#, Action::Watch, orders),
            (r#"{"groups":"spokes","realm":{"level":3}}"#, Action::Watch, orders),
            (r#"{"groups":"spoke","realm":{"level":"3"}}"#, Action::Watch, orders),
            (r#"{"groups":"spoke","realm.level":3}"#, Action::Watch, orders),
        ] {
            assert_eq!(grants(RULE, claims, action, kind), 0, "{claims}");
        }
        for deny in ["subject = \"alice\"", "jti = \"t1\"", "issuer = \"https://sso.example\""] {
            assert_eq!(grants(&format!("{RULE}[[deny]]\n{deny}"), SPOKE, Action::Watch, orders), 0);
        }
        for other in ["subject = \"bob\"", "subject = \"alice\"\njti = \"t2\""] {
            assert_eq!(grants(&format!("{RULE}[[deny]]\n{other}"), SPOKE, Action::Watch, orders), 1);
        }
        assert_eq!(grants("", SPOKE, Action::Watch, orders), 0);
    }

    #[test]
    fn scopes_narrow_what_rules_grant() {
        let policy = Policy::parse(
            "[[rule]]\nname = 'all'\nwhen = {}\nkinds = ['*']\nverbs = ['get', 'list', 'admin']\nrows = '*'",
        )
        .unwrap();
        let dinosaur = Some(KindRef::Compiled("Dinosaur"));
        let mut key = principal("{}");
        assert_eq!(policy.granting(&key, Action::List, dinosaur).count(), 1);
        assert_eq!(policy.granting(&key, Action::Admin, None).count(), 1);
        key.scopes = vec!["get".parse().unwrap()];
        assert_eq!(policy.granting(&key, Action::List, dinosaur).count(), 0);
        assert_eq!(policy.granting(&key, Action::Get, dinosaur).count(), 1);
    }

    #[test]
    fn what_would_fail_open_is_refused() {
        let rule = |change: &str, to: &str| {
            assert!(RULE.contains(change), "{change}");
            Policy::parse(&RULE.replace(change, to)).map(drop).map_err(|error| error.to_string())
        };
        for (change, to, says) in [
            ("rows = \"owner = $sub\"", "", "missing field `rows`"),
            ("owner = $sub", "", "rows is blank"),
            ("owner = $sub", " ", "rows is blank"),
            ("owner = $sub", "owner =", "rows: at character"),
            ("\"watch\"", "\"fly\"", "\"fly\" is no verb"),
            ("public.*", "a.b.c", "has more parts"),
            ("groups = \"spoke\"", "groups = [\"spoke\"]", "when: groups"),
            ("rows =", "hide = [\"a\"]\nshow = [\"b\"]\nrows =", "do not go together"),
            ("rows =", "show = []\nrows =", "show shows nothing"),
            ("rows =", "limits = { watches = 0 }\nrows =", "a limit of 0"),
            ("rows =", "colums = []\nrows =", "unknown field"),
            ("rows =", "limits = { watch = 1 }\nrows =", "unknown field"),
        ] {
            let refused = rule(change, to).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
        assert!(Policy::parse(&format!("{RULE}{RULE}")).is_err(), "a name twice");
        assert!(matches!(Policy::parse("[[deny]]"), Err(PolicyError::Deny)));
    }

    #[test]
    fn of_several_limits_the_most_generous_counts() {
        let rule = |name: &str, limits: &str| {
            format!(
                "[[rule]]\nname = '{name}'\nwhen = {{}}\nkinds = []\nverbs = []\nrows = '*'\nlimits = \
                 {limits}\n"
            )
        };
        let limits = |text: String| Policy::parse(&text).unwrap().limits(&principal("{}"));
        let both = rule("a", "{ watches = 2, calls_per_second = 5 }") + &rule("b", "{ watches = 3 }");
        assert_eq!(limits(both), Limits { watches: Some(3), calls_per_second: None });
        assert_eq!(limits(String::new()), Limits::default());
    }
}
