//! Pages by position instead of number: where a page ends, as an opaque token, and what comes after that, as
//! SQL.

use super::super::{
    condition::{column, sort_key},
    values::Value,
};
use crate::{
    error::Error,
    model::filter::{Field, Order},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The version of the token format. A token of another version belongs to another release.
const VERSION: u8 = 1;
/// Bytes of a request's digest in a token.
const DIGEST: usize = 16;

/// The fields of a total order: those that a request names, and then the key.
pub(super) struct Sorting<'a> {
    pub(super) terms: Vec<Term<'a>>,
    /// How many of them, the last ones, are the key's.
    pub(super) key: usize,
}

pub(super) struct Term<'a> {
    field: &'a Field,
    descending: bool,
    nullable: bool,
    of_key: bool,
}

impl<'a> Sorting<'a> {
    pub(super) fn new(fields: &'a [Field], orders: &[Order], key: &[usize]) -> Self {
        let named = orders.iter().map(|order| (order.field, order.descending, false));
        let terms: Vec<_> = named
            .chain(key.iter().map(|field| (*field, false, true)))
            .filter_map(|(at, descending, of_key)| {
                let nullable = !of_key && !key.contains(&at);
                Some(Term { field: fields.get(at)?, descending, nullable, of_key })
            })
            .collect();
        Self { key: terms.iter().filter(|term| term.of_key).count(), terms }
    }

    /// What follows ORDER BY.
    pub(super) fn order(&self) -> String {
        let terms =
            self.terms.iter().map(|term| term.expression() + if term.descending { " DESC" } else { "" });
        terms.collect::<Vec<_>>().join(", ")
    }

    /// An array of the values by which a row is sorted, as texts.
    pub(super) fn position(&self) -> String {
        let texts = self.terms.iter().map(|term| format!("{}::pg_catalog.text", column(term.field)));
        format!("ARRAY[{}]::pg_catalog.text[]", texts.collect::<Vec<_>>().join(", "))
    }

    /// Whether a row comes after a position.
    pub(super) fn after(&self, position: &[Option<String>], parameters: &mut Vec<Value>) -> String {
        let values: Vec<_> = self
            .terms
            .iter()
            .zip(position)
            .map(|(term, value)| {
                value.as_ref().map(|value| {
                    parameters.push(Value::text(value));
                    format!("${}::{}", parameters.len(), term.field.sql_type)
                })
            })
            .collect();
        let named = self.terms.len() - self.key;
        // A key is never NULL, and its index has this form.
        let (columns, of_key): (Vec<_>, Vec<_>) = self
            .terms
            .iter()
            .zip(&values)
            .skip(named)
            .map(|(term, value)| (term.expression(), value.clone().unwrap_or_else(|| "NULL".to_owned())))
            .unzip();
        let mut after = format!("(({}) > ({}))", columns.join(", "), of_key.join(", "));
        for (term, value) in self.terms.iter().zip(&values).take(named).rev() {
            let (beyond, same) = term.compare(value.as_deref());
            after = format!("({beyond} OR ({same} AND {after}))");
        }
        after
    }
}

impl Term<'_> {
    fn expression(&self) -> String {
        // As in its index.
        if self.of_key { column(self.field) } else { sort_key(self.field) }
    }

    /// Whether a row comes after one with this value, and whether it has the same. NULL is the greatest.
    fn compare(&self, value: Option<&str>) -> (String, String) {
        let expression = self.expression();
        match (value, self.descending) {
            (Some(value), false) if self.nullable => (
                format!("({expression} > {value} OR {expression} IS NOT DISTINCT FROM NULL)"),
                format!("{expression} = {value}"),
            ),
            (Some(value), false) => (format!("{expression} > {value}"), format!("{expression} = {value}")),
            (Some(value), true) => (format!("{expression} < {value}"), format!("{expression} = {value}")),
            (None, false) => ("false".to_owned(), format!("{expression} IS NOT DISTINCT FROM NULL")),
            (None, true) => (
                format!("{expression} IS DISTINCT FROM NULL"),
                format!("{expression} IS NOT DISTINCT FROM NULL"),
            ),
        }
    }
}

/// The digest of a request for its tokens, over all of these parts, whatever they contain.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut digest = [0; DIGEST];
    digest.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    digest
}

/// A token of a position in a request's order.
pub(super) fn token(digest: &[u8; DIGEST], position: &[Option<String>]) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(digest);
    for value in position {
        // A length that no value has stands for none.
        let length = value.as_ref().map_or(u32::MAX, |value| value.len() as u32);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a token.
pub(super) fn position(
    token: &str,
    digest: &[u8; DIGEST],
    terms: usize,
) -> Result<Vec<Option<String>>, Error> {
    let invalid = |rule: &'static str| Error::invalid("page_token", rule);
    let broken = || invalid("is none of this hub's");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| broken())?;
    let Some((&VERSION, rest)) = bytes.split_first() else { return Err(broken()) };
    let (of, mut rest) = rest.split_at_checked(DIGEST).ok_or_else(broken)?;
    if of != digest {
        return Err(invalid("belongs to another request: table, filter, order and columns must be the same"));
    }
    let mut values = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length);
        let length = if length == u32::MAX { None } else { Some(length as usize) };
        let (value, more) = more.split_at_checked(length.unwrap_or(0)).ok_or_else(broken)?;
        let value = String::from_utf8(value.to_vec()).map_err(|_| broken())?;
        values.push(length.map(|_| value));
        rest = more;
    }
    if !rest.is_empty() || values.len() != terms || values.iter().flatten().any(|value| value.contains('\0'))
    {
        return Err(broken());
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_own_request_alone() {
        let (mine, others) = (digest([&b"a"[..], b"bc"]), digest([&b"ab"[..], b"c"]));
        assert_ne!(mine, others);
        let values = vec![Some("é\"x".to_owned()), None, Some(String::new())];
        let token = token(&mine, &values);
        assert_eq!(position(&token, &mine, 3).unwrap(), values);
        assert!(position(&token, &others, 3).is_err());
        assert!(position(&token, &mine, 2).is_err());
        for cut in 0..token.len() {
            assert!(position(&token[..cut], &mine, 3).is_err());
        }
        assert!(position("?", &mine, 3).is_err());
    }
}
