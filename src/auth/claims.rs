//! The claims of a token: a JSON object in which no name stands twice.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Claims are at most this large, in bytes of JSON.
const MOST_BYTES: usize = 64 * 1024;
/// And nested at most this deeply.
const DEEPEST: usize = 16;

/// What is known of a caller, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

/// Why claims cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// They are too large.
    #[error("the claims have more than {MOST_BYTES} bytes")]
    TooLarge,
    /// They are no JSON object, or a name stands twice in one.
    #[error("the claims are not a JSON object with distinct names: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Claims {
    /// Reads a JSON object. A name that stands twice is refused: readers differ in which of the two counts.
    pub fn parse(json: &[u8]) -> Result<Self, ClaimsError> {
        if json.len() > MOST_BYTES {
            return Err(ClaimsError::TooLarge);
        }
        let Distinct(value) = serde_json::from_slice(json)?;
        match value {
            Value::Object(claims) => Ok(Self(claims)),
            _ => Err(serde_json::Error::custom("it is no object").into()),
        }
    }

    /// The claim at a path such as `realm_access.roles`, which goes into nested objects. A name with a dot in
    /// it has no path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(name))
    }

    /// The claim at a path of names, each of which may have dots in it.
    pub fn at(&self, path: &[String]) -> Option<&Value> {
        let (first, within) = path.split_first()?;
        within.iter().try_fold(self.0.get(first)?, |value, name| value.as_object()?.get(name))
    }

    /// A claim that is text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// As a JSON value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// Adds a claim, in the place of one of that name.
    pub fn insert(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }
}

/// A JSON value in which no object has a name twice.
struct Distinct(Value);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed(DEEPEST).deserialize(deserializer).map(Self)
    }
}

/// Reads a value that may be nested this deeply.
#[derive(Clone, Copy)]
struct Seed(usize);

impl Seed {
    fn inner<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("it is nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let (seed, mut values) = (self.inner()?, Vec::new());
        while let Some(value) = list.next_element_seed(seed)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let (seed, mut values) = (self.inner()?, Map::new());
        while let Some(name) = object.next_key::<String>()? {
            let value = object.next_value_seed(seed)?;
            if values.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("{name:?} stands twice")));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_into_objects_and_dots_are_no_part_of_a_name() {
        let claims = Claims::parse(br#"{"sub":"a","realm_access":{"roles":["x"]},"a.b":"no"}"#).unwrap();
        assert_eq!(claims.text("sub"), Some("a"));
        assert_eq!(claims.get("realm_access.roles"), Some(&serde_json::json!(["x"])));
        assert_eq!(claims.get("a.b"), None);
        assert_eq!(claims.get("sub.more"), None);
    }

    #[test]
    fn odd_claims_are_refused() {
        for bad in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
            "[]",
            "1",
            "",
            r#"{"a":1}x"#,
            r#"{"a":1e999}"#,
        ] {
            assert!(Claims::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        assert!(Claims::parse(deep.as_bytes()).is_err());
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MOST_BYTES));
        assert!(matches!(Claims::parse(large.as_bytes()), Err(ClaimsError::TooLarge)));
    }
}
