//! What rules make of a kind for a principal: one filter of rows, with the claims' values, and the columns
//! that are left. Filters are read once for each kind and set of rules, not once for each call.

use crate::{
    auth::{Principal, Rows, Rule, Shown},
    catalog::{Attached, Kind},
    model::{
        KindName,
        filter::{Filter, Part, Schema, Scope, Sight},
    },
};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use std::{collections::HashMap, fmt::Write, sync::Arc};

/// Sets of rules of a kind whose filters are kept.
const KEPT: usize = 10_000;

type Key = (KindName, Vec<usize>);

/// What was made of a text for a kind; `None`: it cannot be read.
struct Read {
    schema: Arc<Schema>,
    text: String,
    filter: Option<Filter>,
}

/// A table, and the same without some of its columns.
type Reduced = (Arc<Attached>, Arc<Attached>);

/// Filters that were read, and tables without some of their columns.
#[derive(Default)]
pub(super) struct Sights {
    filters: Mutex<HashMap<Key, Read>>,
    reduced: Mutex<HashMap<(KindName, Vec<String>), Reduced>>,
}

impl Sights {
    /// What these rules let a principal see of a kind; `None`: nothing. An error says why rules contradict
    /// each other.
    pub(super) fn of<'a>(
        &self,
        kind: &Kind,
        principal: &Principal,
        granting: impl Iterator<Item = (usize, &'a Rule)>,
    ) -> Result<Option<Sight>, &'static str> {
        // A rule whose columns are missing, or whose claims are, grants nothing.
        let mut applying = Vec::new();
        for (place, rule) in granting {
            let Some(hidden) = hidden(kind, &rule.shown) else { continue };
            let applies = match &rule.rows {
                Rows::All => true,
                Rows::Where(text) => self
                    .filter(kind, vec![place], text)
                    .is_some_and(|filter| filter.bind(|path| principal.claim(path)).is_some()),
            };
            if applies {
                applying.push((place, rule, hidden));
            }
        }
        let Some((_, _, hidden)) = applying.first() else { return Ok(None) };
        if applying.iter().any(|(_, _, other)| other != hidden) {
            return Err(
                "rules of the policy that hide different columns match together, so nothing is granted",
            );
        }
        let hidden = hidden.clone();
        let is_whole = applying.iter().any(|(_, rule, _)| rule.rows == Rows::All);
        if is_whole {
            return Ok(Some(match hidden.is_empty() {
                true => Sight::Whole,
                false => Sight::Part(Arc::new(Part { rule: None, hidden })),
            }));
        }
        let texts = applying.iter().filter_map(|(_, rule, _)| match &rule.rows {
            Rows::Where(text) => Some(format!("({text})")),
            Rows::All => None,
        });
        let (text, places) = (
            texts.collect::<Vec<_>>().join(" OR "),
            applying.iter().map(|(place, ..)| *place).collect::<Vec<_>>(),
        );
        let filter = self.filter(kind, places, &text);
        let filter = filter.ok_or("the rules of the policy that match together are too long")?;
        let claims = filter.bind(|path| principal.claim(path)).ok_or("a claim does not fit its column")?;
        Ok(Some(Sight::Part(Arc::new(Part { rule: Some((filter, claims)), hidden }))))
    }

    /// The filter of some rules; `None`: it speaks of what the kind does not have.
    fn filter(&self, kind: &Kind, places: Vec<usize>, text: &str) -> Option<Filter> {
        let mut filters = self.filters.lock();
        if filters.len() > KEPT {
            filters.clear();
        }
        let read = || Read {
            schema: kind.schema.clone(),
            text: text.to_owned(),
            filter: match Filter::parse(text, &kind.schema, Scope::Policy) {
                Ok(filter) => filter,
                Err(fault) => {
                    let kind = kind.name().to_string();
                    tracing::warn!(kind, rows = text, %fault, "a rule grants nothing of this kind");
                    None
                }
            },
        };
        let known = filters.entry((kind.name().clone(), places)).or_insert_with(read);
        // Another policy may have another text at these places.
        if !Arc::ptr_eq(&known.schema, &kind.schema) || known.text != text {
            *known = read();
        }
        known.filter.clone()
    }

    /// A table without these columns. It is the same value at each call, for as long as the table is.
    pub(super) fn reduced(&self, attached: &Arc<Attached>, hidden: &[String]) -> Arc<Attached> {
        let mut known = self.reduced.lock();
        if known.len() > KEPT {
            known.clear();
        }
        let key = (attached.table.kind.clone(), hidden.to_vec());
        match known.get(&key) {
            Some((whole, reduced)) if Arc::ptr_eq(whole, attached) => reduced.clone(),
            _ => {
                let mut table = attached.table.clone();
                for column in &mut table.columns {
                    column.visible &= !hidden.contains(&column.name);
                }
                let reduced = Kind::attached(table).attached.unwrap_or_else(|| attached.clone());
                known.insert(key, (attached.clone(), reduced.clone()));
                reduced
            }
        }
    }
}

/// The columns of a kind that a rule does not show, sorted; `None`: it names one that is not there, or the
/// key.
fn hidden(kind: &Kind, shown: &Shown) -> Option<Vec<String>> {
    let listed = match shown {
        Shown::AllBut(columns) if columns.is_empty() => return Some(Vec::new()),
        Shown::AllBut(columns) | Shown::Only(columns) => columns,
    };
    // What a compiled kind is made of is all needed.
    let table = &kind.attached.as_ref()?.table;
    let has = |name: &String| table.visible().any(|column| column.name == *name);
    if !listed.iter().all(has) {
        return None;
    }
    let mut hidden: Vec<String> = match shown {
        Shown::AllBut(columns) => columns.clone(),
        Shown::Only(columns) => table
            .visible()
            .map(|column| column.name.clone())
            .filter(|name| !columns.contains(name) && !table.key.contains(name))
            .collect(),
    };
    hidden.sort();
    (!table.key.iter().any(|key| hidden.contains(key))).then_some(hidden)
}

/// Names what somebody may see, without telling what that is.
pub(super) fn mark(secret: &[u8; 32], kind: Option<&KindName>, sight: &Sight) -> String {
    let mut said = format!("{:?} {:?}", kind.map(KindName::as_str), sight.hidden());
    if let Some((rule, claims)) = sight.rule() {
        // Writing to a String cannot fail.
        let _ = write!(said, " {} {claims:?}", rule.text());
    }
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(said.as_bytes());
    let digest = mac.finalize().into_bytes();
    digest.iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether the same is seen, though rules and kinds may have been read anew.
pub(super) fn is_same(one: &Sight, other: &Sight) -> bool {
    let rule = |sight: &Sight| sight.rule().map(|(rule, claims)| (rule.text().to_owned(), claims.clone()));
    one.hidden() == other.hidden() && rule(one) == rule(other)
}
