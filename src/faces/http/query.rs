//! The query of a request.

use super::problem::Problem;
use percent_encoding::percent_decode_str;
use std::{borrow::Cow, str::FromStr};

/// The parameters, in their order.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them, as forms write them.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((part(name)?, part(value)?))
        });
        pairs.collect::<Result<_, Problem>>().map(Self)
    }

    /// The value of a parameter, which may occur once; `None`: it is absent.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(is, _)| is == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(wrong(name, "stands more than once")),
            (value, None) => Ok(value),
        }
    }

    /// The same, parsed to a type; an empty text is none.
    pub fn value<T: FromStr>(&self, name: &str, rule: &str) -> Result<Option<T>, Problem> {
        match self.get(name)?.filter(|text| !text.is_empty()) {
            Some(text) => text.parse().map(Some).map_err(|_| wrong(name, rule)),
            None => Ok(None),
        }
    }

    /// All values of a parameter, of which each may be a list with commas.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(is, _)| is == name);
        values.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty())
    }

    /// All values of a parameter, as they are.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    /// Refuses any other parameter: a misspelt name must not mean "everything".
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(wrong(name, &format!("is no parameter; there are {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

/// A parameter that breaks a rule.
pub fn wrong(name: &str, rule: &str) -> Problem {
    Problem::bad_request("INVALID_PARAMETER", format!("{name}: {rule}"))
}

fn part(text: &str) -> Result<String, Problem> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    decoded(&spaced)
}

/// Decodes a percent-encoded part of an address.
pub(super) fn decoded(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Problem::bad_request("UNREADABLE", "the address is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_forms_write_them() {
        let query = Query::parse("a=1%20%2b+x&b=&c&d=x,y&d=z&&").unwrap();
        assert_eq!(query.get("a").unwrap(), Some("1 + x"));
        assert_eq!(
            (query.get("b").unwrap(), query.get("c").unwrap(), query.get("e").unwrap()),
            (Some(""), Some(""), None)
        );
        assert!(query.get("d").is_err());
        assert_eq!(query.list("d").collect::<Vec<_>>(), ["x", "y", "z"]);
        assert!(query.value::<u32>("a", "must be a number").is_err());
        assert_eq!(query.value::<u32>("b", "must be a number").unwrap(), None);
        assert!(query.only(&["a", "b", "c"]).is_err() && query.only(&["a", "b", "c", "d"]).is_ok());
        assert!(Query::parse("a=%ff").is_err());
    }
}
