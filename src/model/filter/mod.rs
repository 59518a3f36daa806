//! Filters: which of a kind's rows and events a watch or a list wants, as an expression in the language of
//! AIP-160. Parsed and checked once; then pure tests of values, without I/O. `docs/filters.md` is the
//! language's reference.

mod check;
mod claims;
mod decimal;
mod evaluate;
mod lexer;
mod operand;
mod order;
mod parser;
mod predicate;
mod row;
mod schema;
mod search;
mod sight;
mod time;
mod token;
mod value;

pub use claims::{Bound, Claim, ClaimValue};
pub use evaluate::{Event, Malformed, RowEvent, Verdict, Which};
pub use order::{Order, order_by};
pub use predicate::{Comparison, Float, Operand, Pattern, Predicate, Subject, Test};
pub use row::{Members, RowView, escaped};
pub use schema::{Field, Schema, Scope, Unset, Value, ValueType};
pub use search::{Search, fields};
pub use sight::{Part, Sight};
pub use value::message_time;

use super::ChangeType;
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Bytes in a filter or an order, at most.
pub const MAX_BYTES: usize = 4096;
/// How deep parentheses and negations may go.
pub const MAX_DEPTH: usize = 32;
/// Comparisons in one filter, at most; one with a list is one.
pub const MAX_TESTS: usize = 100;

/// What is wrong with a filter or an order, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {problem}")]
pub struct Fault {
    /// The character at which it was noticed, from 1; one past the last for an expression that ends too
    /// early.
    pub position: usize,
    /// What is wrong.
    pub problem: String,
}

impl Fault {
    fn at(position: usize, problem: impl Into<String>) -> Self {
        Self { position, problem: problem.into() }
    }
}

/// Whether a text is an expression, whatever it speaks of; one without anything in it is none.
pub fn check_syntax(text: &str) -> Result<(), Fault> {
    match parser::parse(text)? {
        Some(_) => Ok(()),
        None => Err(Fault::at(1, "there is nothing in it")),
    }
}

/// The claims that a rule of rows speaks of, in the order in which it does.
pub fn claims_in(text: &str) -> Vec<Vec<String>> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '$' | '_' | '.' | '-')));
    let names = words.filter_map(|word| word.strip_prefix('$'));
    names.map(|name| name.split('.').map(str::to_owned).collect()).collect()
}

/// A checked filter. Cheap to clone; two are equal if they test the same in the same order, however they were
/// written.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    text: String,
    predicate: Predicate,
    schema: Arc<Schema>,
    /// The columns that it tests.
    wanted: row::Wanted,
    /// The claims that it names, by slot.
    claims: Vec<Claim>,
    /// Whether it has terms on the event itself, and not only on the row.
    on_event: bool,
}

impl Filter {
    /// Parses a filter; an empty one is none.
    pub fn parse(text: &str, schema: &Arc<Schema>, scope: Scope) -> Result<Option<Self>, Fault> {
        let Some(expression) = parser::parse(text)? else { return Ok(None) };
        let mut check = check::Check { schema, scope, claims: Vec::new() };
        let predicate = check.check(&expression)?;
        let claims = check.claims;
        Ok(Some(Self::new(text.trim(), predicate, schema.clone(), claims)))
    }

    fn new(text: &str, predicate: Predicate, schema: Arc<Schema>, claims: Vec<Claim>) -> Self {
        let mut fields = Vec::new();
        predicate.visit(&mut |subject, _| fields.extend(subject.field()));
        let named =
            fields.into_iter().filter_map(|field| Some((field, schema.fields.get(field)?.column.as_str())));
        let wanted = row::Wanted::new(named);
        let on_event = predicate.is_on_event();
        Self(Arc::new(Inner { text: text.to_owned(), predicate, schema, wanted, claims, on_event }))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What it tests.
    pub fn predicate(&self) -> &Predicate {
        &self.0.predicate
    }

    /// The columns that it tests.
    pub fn columns(&self) -> Vec<&Field> {
        let mut places = Vec::new();
        self.predicate().visit(&mut |subject, _| places.extend(subject.field()));
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.schema().fields.get(place)).collect()
    }

    /// The fields that it speaks of.
    pub fn schema(&self) -> &Schema {
        &self.0.schema
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schema(), other.schema()) && self.predicate() == other.predicate()
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.predicate().hash(state);
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.text).finish()
    }
}

#[cfg(test)]
mod tests;
