//! Patterns of kinds, as policies and scopes write them.

use super::{
    TableName, Wish,
    names::{BadName, Piece, fits},
};
use std::str::FromStr;

/// What a kind is, for a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KindRef<'a> {
    /// One of the program's own, by its name.
    Compiled(&'a str),
    /// An attached table.
    Table(&'a TableName),
}

/// Kinds that are meant: `*` is every one, a name without a point is one of the program's own, and one with a
/// point is a table, whose schema and name are matched apart. `*` stands for any characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindPattern(Meant);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meant {
    All,
    Compiled(Vec<Piece>),
    Table(Wish),
}

impl KindPattern {
    /// Whether every kind is meant, those to come included.
    pub fn is_all(&self) -> bool {
        self.0 == Meant::All
    }

    /// Whether this kind is meant.
    pub fn fits(&self, kind: KindRef<'_>) -> bool {
        match (&self.0, kind) {
            (Meant::All, _) => true,
            (Meant::Compiled(pattern), KindRef::Compiled(name)) => {
                fits(pattern, &name.chars().collect::<Vec<_>>())
            }
            (Meant::Table(pattern), KindRef::Table(name)) => pattern.fits(name),
            _ => false,
        }
    }
}

impl FromStr for KindPattern {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let text = text.trim();
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '*' | '?');
        Ok(Self(match text {
            "*" => Meant::All,
            text if !text.is_empty() && text.chars().all(is_plain) => {
                Meant::Compiled(text.chars().map(Piece::read).collect())
            }
            text => Meant::Table(text.parse()?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_say() {
        let table = TableName::new("public", "orders");
        let odd = TableName::new("Odd", "a.b");
        let pattern = |text: &str| text.parse::<KindPattern>().unwrap();
        assert!(pattern("*").fits(KindRef::Table(&odd)) && pattern("*").fits(KindRef::Compiled("Dinosaur")));
        for (text, expected) in [
            ("public.orders", true),
            ("public.*", true),
            ("*.orders", true),
            ("*.*", true),
            ("PUBLIC.Orders", true),
            ("orders", false),
            ("public.order", false),
            ("\"Public\".orders", false),
            ("Dinosaur", false),
        ] {
            assert_eq!(pattern(text).fits(KindRef::Table(&table)), expected, "{text}");
        }
        assert!(
            pattern("\"Odd\".\"a.b\"").fits(KindRef::Table(&odd))
                && pattern("*.*").fits(KindRef::Table(&odd))
        );
        assert!(pattern("Dino*").fits(KindRef::Compiled("Dinosaur")));
        assert!(!pattern("dinosaur").fits(KindRef::Compiled("Dinosaur")));
        assert!(!pattern("*.*").fits(KindRef::Compiled("Dinosaur")) && !pattern("*.*").is_all());
        for bad in ["", "a.b.c", "a.", "\"", "a b"] {
            assert!(bad.parse::<KindPattern>().is_err(), "{bad}");
        }
    }
}
