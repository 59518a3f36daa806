//! Names of tables as SQL writes them, and patterns of such names.

use std::{fmt, str::FromStr};

/// Bytes in an identifier, at most: Postgres silently cuts off the rest.
const IDENTIFIER: usize = 63;
/// The schema of a table whose name has none.
const DEFAULT_SCHEMA: &str = "public";

/// The name of a table, with its schema; without quotes and as Postgres holds it. One that is written without
/// a schema is in `public`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The name within it.
    pub name: String,
}

/// Why a text is not a table's name, or not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}: a table is named as in SQL, such as public.orders or public.\"Odd Name\"")]
pub struct BadName {
    text: String,
    problem: &'static str,
}

impl TableName {
    /// From its parts.
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned() }
    }
}

impl FromStr for TableName {
    type Err = BadName;

    /// Reads a name as SQL does: what is not quoted is folded to lower case.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |problem| BadName { text: text.to_owned(), problem };
        let parts = parts(text, false).map_err(bad)?;
        let plain = |part: &[Piece]| part.iter().filter_map(Piece::plain).collect::<String>();
        let name = match parts.as_slice() {
            [name] => Self { schema: DEFAULT_SCHEMA.to_owned(), name: plain(name) },
            [schema, name] => Self { schema: plain(schema), name: plain(name) },
            _ => return Err(bad("has more parts than a schema and a name")),
        };
        match name.schema.len().max(name.name.len()) {
            0..=IDENTIFIER => Ok(name),
            _ => Err(bad("has a part of more than 63 bytes")),
        }
    }
}

impl fmt::Display for TableName {
    /// As SQL writes it, with quotes where they are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

fn quoted(part: &str) -> String {
    let is_plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
}

/// Tables that are wanted: names, and patterns such as `public.*`, separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes(pub Vec<Wish>);

impl FromStr for Wishes {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (mut wishes, mut begin, mut is_quoted) = (Vec::new(), 0, false);
        for (at, c) in text.char_indices().chain([(text.len(), ',')]) {
            match c {
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted || at == text.len() => {
                    wishes.push(text.get(begin..at).unwrap_or_default().parse()?);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        Ok(Self(wishes))
    }
}

/// A table, or every table that a pattern matches: `*` stands for any characters, `?` for one, outside of
/// quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    text: String,
    schema: Vec<Piece>,
    name: Vec<Piece>,
}

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Plain(char),
    One,
    Many,
}

impl Piece {
    /// What a character stands for, outside of quotes.
    pub(super) fn read(c: char) -> Self {
        match c {
            '*' => Self::Many,
            '?' => Self::One,
            c => Self::Plain(c),
        }
    }

    fn plain(&self) -> Option<char> {
        match self {
            Self::Plain(c) => Some(*c),
            Self::One | Self::Many => None,
        }
    }
}

impl Wish {
    /// Whether it matches a table.
    pub fn fits(&self, table: &TableName) -> bool {
        fits(&self.schema, &table.schema.chars().collect::<Vec<_>>())
            && fits(&self.name, &table.name.chars().collect::<Vec<_>>())
    }

    /// The one table that it names; `None`: it is a pattern.
    pub fn name(&self) -> Option<TableName> {
        let plain = |part: &[Piece]| part.iter().map(Piece::plain).collect::<Option<String>>();
        Some(TableName { schema: plain(&self.schema)?, name: plain(&self.name)? })
    }
}

impl FromStr for Wish {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |problem| BadName { text: text.to_owned(), problem };
        let default = || DEFAULT_SCHEMA.chars().map(Piece::Plain).collect();
        let mut parts = parts(text, true).map_err(bad)?;
        let (name, schema) = (parts.pop().unwrap_or_default(), parts.pop().unwrap_or_else(default));
        match parts.is_empty() {
            true => Ok(Self { text: text.trim().to_owned(), schema, name }),
            false => Err(bad("has more parts than a schema and a name")),
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a pattern fits a whole text.
pub(super) fn fits(pattern: &[Piece], text: &[char]) -> bool {
    // The place of the last `*`, and how much of the text it takes: it takes more when what follows does not
    // match.
    let (mut at, mut read, mut star) = (0, 0, None);
    loop {
        match (pattern.get(at), text.get(read)) {
            (None, None) => return true,
            (Some(Piece::Many), _) => {
                star = Some((at, read));
                at += 1;
                continue;
            }
            (Some(Piece::One), Some(_)) => (at, read) = (at + 1, read + 1),
            (Some(Piece::Plain(c)), Some(is)) if c == is => (at, read) = (at + 1, read + 1),
            _ => match star {
                Some((many, taken)) if taken < text.len() => {
                    star = Some((many, taken + 1));
                    (at, read) = (many + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

/// The parts of a name, which are separated by points.
fn parts(text: &str, patterns: bool) -> Result<Vec<Vec<Piece>>, &'static str> {
    let mut chars = text.trim().chars().peekable();
    let mut parts = Vec::new();
    loop {
        let mut part = Vec::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => part.push(Piece::Plain('"')),
                    Some('"') => break,
                    Some('\0') => return Err("has a NUL"),
                    Some(c) => part.push(Piece::Plain(c)),
                    None => return Err("has a quote that does not end"),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                part.push(match c {
                    '*' if patterns => Piece::Many,
                    '?' if patterns => Piece::One,
                    c if c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii() => {
                        Piece::Plain(c.to_ascii_lowercase())
                    }
                    _ => return Err("has a sign that needs double quotes around it"),
                });
            }
            if matches!(part.first(), Some(Piece::Plain(c)) if c.is_ascii_digit() || *c == '$') {
                return Err("begins with what needs double quotes around it");
            }
        }
        if part.is_empty() {
            return Err("lacks a name");
        }
        parts.push(part);
        match chars.next() {
            None => return Ok(parts),
            Some('.') => {}
            Some(_) => return Err("has something after a quoted name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        for (text, schema, name, shown) in [
            ("public.orders", "public", "orders", "public.orders"),
            ("Orders", "public", "orders", "public.orders"),
            (r#"s."Odd Name""#, "s", "Odd Name", r#"s."Odd Name""#),
            (r#""a.b"."say ""hi""""#, "a.b", "say \"hi\"", r#""a.b"."say ""hi""""#),
            ("s.größe", "s", "größe", r#"s."größe""#),
            (r#""select"."1""#, "select", "1", r#"select."1""#),
        ] {
            let read: TableName = text.parse().unwrap();
            assert_eq!(read, TableName::new(schema, name), "{text}");
            assert_eq!(read.to_string(), shown);
            assert_eq!(shown.parse(), Ok(read));
        }
        let long = format!("s.{}", "x".repeat(64));
        for bad in [
            "", ".", "a.", "a.b.c", "a b", "a;b", "\"a", "\"a\"b", "\"\"", "1a", "a-b", "a.*", &*long,
            "\"a\0\"",
        ] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_fit_what_they_say() {
        let fits = |wish: &str, schema, name| {
            wish.parse::<Wishes>().unwrap().0.iter().any(|wish| wish.fits(&TableName::new(schema, name)))
        };
        for (wish, schema, name, expected) in [
            ("public.*", "public", "Any thing", true),
            ("public.*", "other", "x", false),
            ("*.*", "other", "x", true),
            ("*", "public", "x", true),
            ("*", "other", "x", false),
            ("a?c*e", "public", "abcde", true),
            ("a?c*e", "public", "abcdef", false),
            ("*a*b", "public", "xaxabxb", true),
            (r#"s."*",t"#, "s", "x", false),
            (r#"s."*",t"#, "s", "*", true),
            (r#"s."a,b", t"#, "s", "a,b", true),
            (r#"s."a,b", t"#, "public", "t", true),
        ] {
            assert_eq!(fits(wish, schema, name), expected, "{wish} {schema}.{name}");
        }
        assert_eq!("S.t".parse::<Wish>().unwrap().name(), Some(TableName::new("s", "t")));
        assert_eq!("s.t*".parse::<Wish>().unwrap().name(), None);
        assert!("a,,b".parse::<Wishes>().is_err() && "\"a,b".parse::<Wishes>().is_err());
    }
}
