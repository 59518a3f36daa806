//! `trex acl`.

use super::print::{Output, print, shown};
use crate::{
    app::read_policy,
    auth::{Action, Claims, Method, Policy, Principal, Rows, Rule, Shown},
    model::{KindRef, TableName, filter::claims_in},
};
use anyhow::{Context, bail};
use serde_json::json;
use std::{fs, path::PathBuf};

/// Explain what a policy lets a caller do
///
/// It reads files, and asks no hub: whether a rule's columns are there, the hub that has the table knows, and
/// says so in its log.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub(super) struct Acl {
    #[command(subcommand)]
    action: Asked,
}

#[derive(Debug, clap::Subcommand)]
enum Asked {
    /// Say which rules of a policy apply to claims, and what they grant
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The policy
    #[arg(long, env = "TREX_ACL_FILE", value_name = "FILE")]
    acl_file: PathBuf,
    /// The claims of a token, as a JSON object; `iss` and `sub` say who calls
    #[arg(long, value_name = "FILE")]
    claims: PathBuf,
    /// Only about this verb
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// Only about this kind: a table, such as public.orders, or a kind of the program, such as Dinosaur
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// How to write rules; JSON is an object a line
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The kind that is asked for.
enum Kind {
    Compiled(String),
    Table(TableName),
}

impl Kind {
    fn read(text: &str) -> anyhow::Result<Self> {
        match text.contains('.') {
            true => Ok(Self::Table(text.parse()?)),
            false => Ok(Self::Compiled(text.to_owned())),
        }
    }

    fn as_ref(&self) -> KindRef<'_> {
        match self {
            Self::Compiled(name) => KindRef::Compiled(name),
            Self::Table(name) => KindRef::Table(name),
        }
    }
}

impl Acl {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Asked::Check(check) = self.action;
        let policy = read_policy(&check.acl_file).context("--acl-file")?;
        let claims =
            fs::read(&check.claims).with_context(|| format!("--claims {}", check.claims.display()))?;
        let claims = Claims::parse(&claims).context("--claims")?;
        let name = |claim: &str| claims.text(claim).map(str::to_owned);
        let (Some(issuer), Some(subject)) = (name("iss"), name("sub")) else {
            bail!("--claims: iss and sub must be there, as texts");
        };
        let (method, expires, key, scopes) = (Method::Jwt, None, None, Vec::new());
        let principal = Principal { method, issuer, subject, claims, expires, key, scopes };
        let verb = check
            .verb
            .as_deref()
            .map(|verb| Action::named(verb).with_context(|| format!("--verb {verb}: there is no such verb")));
        let kind = check.kind.as_deref().map(Kind::read).transpose().context("--kind")?;
        print(&explained(&policy, &principal, (verb.transpose()?, kind.as_ref()), check.output))?;
        Ok(())
    }
}

fn explained(
    policy: &Policy,
    principal: &Principal,
    (verb, kind): (Option<Action>, Option<&Kind>),
    output: Output,
) -> String {
    let denied = policy.denies(principal);
    let mut granted = false;
    let mut text = String::new();
    for rule in policy.rules() {
        let why = refusal(rule, principal, (verb, kind));
        granted |= why.is_none();
        text += &match output {
            Output::Text => {
                let verdict = why.unwrap_or_else(|| format!("applies: {}", what(rule)));
                format!("{}  {}\n", shown(&rule.name), shown(&verdict))
            }
            Output::Json => {
                format!("{}\n", json!({ "rule": rule.name, "applies": why.is_none(), "why": why }))
            }
        };
    }
    let verdict = match (denied, granted) {
        (true, _) => "denied: a [[deny]] names this caller",
        (false, true) => "granted, by the rules that apply",
        (false, false) => "denied: no rule applies",
    };
    text += &match output {
        Output::Text => format!("{verdict}\n"),
        Output::Json => format!("{}\n", json!({ "granted": granted && !denied, "verdict": verdict })),
    };
    text
}

/// Why a rule grants nothing of that; `None`: it does.
fn refusal(
    rule: &Rule,
    principal: &Principal,
    (verb, kind): (Option<Action>, Option<&Kind>),
) -> Option<String> {
    if !rule.applies_to(principal) {
        return Some("does not apply: a condition of `when` does not hold".to_owned());
    }
    if verb.is_some_and(|verb| !rule.has_verb(verb)) {
        return Some("does not apply: it does not have the verb".to_owned());
    }
    if kind.is_some_and(|kind| !rule.is_about(Some(kind.as_ref()))) {
        return Some("does not apply: it is not about the kind".to_owned());
    }
    let Rows::Where(text) = &rule.rows else { return None };
    let missing = claims_in(text).into_iter().find(|path| principal.claim(path).is_none());
    missing.map(|path| {
        format!("does not apply: the claim ${} is missing, or no text, number or list", path.join("."))
    })
}

fn what(rule: &Rule) -> String {
    let rows = match &rule.rows {
        Rows::All => "all rows".to_owned(),
        Rows::Where(text) => format!("rows where {text}"),
    };
    match &rule.shown {
        Shown::AllBut(columns) if columns.is_empty() => rows,
        Shown::AllBut(columns) => format!("{rows}, without the columns {}", columns.join(", ")),
        Shown::Only(columns) => format!("{rows}, of the columns {} alone", columns.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_explained() {
        let policy = Policy::parse(
            "[[rule]]\nname = 'own'\nwhen = { team = 'blue' }\nkinds = ['public.*']\nverbs = ['get']\n\
             rows = 'owner = $sub AND team IN $teams'\nhide = ['notes']\n[[deny]]\nsubject = 'eve'",
        )
        .unwrap();
        let say = |claims: &str, verb: &str, kind: &str| {
            let claims = Claims::parse(claims.as_bytes()).unwrap();
            let subject = claims.text("sub").unwrap().to_owned();
            let (method, issuer) = (Method::Jwt, "i".to_owned());
            let principal =
                Principal { method, issuer, subject, claims, expires: None, key: None, scopes: Vec::new() };
            let kind = Kind::read(kind).unwrap();
            explained(&policy, &principal, (Action::named(verb), Some(&kind)), Output::Text)
        };
        const ANN: &str = r#"{"sub":"ann","team":"blue","teams":["a"]}"#;
        let granted = say(ANN, "get", "public.orders");
        assert!(granted.contains("rows where owner = $sub") && granted.contains("without the columns notes"));
        assert!(granted.ends_with("granted, by the rules that apply\n"), "{granted}");
        for (claims, verb, kind, why) in [
            (ANN, "list", "public.orders", "does not have the verb"),
            (ANN, "get", "other.orders", "not about the kind"),
            (r#"{"sub":"ann"}"#, "get", "public.orders", "a condition of `when`"),
            (r#"{"sub":"ann","team":"blue"}"#, "get", "public.orders", "the claim $teams is missing"),
        ] {
            let denied = say(claims, verb, kind);
            assert!(denied.contains(why) && denied.ends_with("denied: no rule applies\n"), "{denied}");
        }
        let eve = say(r#"{"sub":"eve","team":"blue","teams":["a"]}"#, "get", "public.orders");
        assert!(eve.ends_with("denied: a [[deny]] names this caller\n"), "{eve}");
    }
}
