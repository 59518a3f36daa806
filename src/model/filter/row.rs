//! Finds columns in a row's JSON: one scan that picks the wanted columns and skips the others.

use super::Malformed;
use memchr::memchr2;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The columns that a filter asks for, in the schema's order, which is that in which Postgres writes them.
#[derive(Debug, Default)]
pub struct Wanted(Vec<Want>);

#[derive(Debug)]
struct Want {
    column: usize,
    /// The text between the quotes of its JSON key.
    key: Box<str>,
}

impl Wanted {
    /// These columns, each with its name in the table.
    pub(super) fn new<'a>(columns: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let mut wants: Vec<_> = columns.map(|(column, name)| Want { column, key: escaped(name) }).collect();
        wants.sort_by_key(|want| want.column);
        wants.dedup_by_key(|want| want.column);
        Self(wants)
    }
}

/// A text within a JSON string, escaped as Postgres does.
pub fn escaped(text: &str) -> Box<str> {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c < ' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

/// The wanted columns of a row, each as its JSON stands in the row.
#[derive(Debug)]
pub struct RowView<'a> {
    wanted: &'a Wanted,
    values: SmallVec<[Option<&'a str>; 4]>,
}

impl<'a> RowView<'a> {
    /// Scans a row.
    pub fn new(json: &'a str, wanted: &'a Wanted) -> Result<Self, Malformed> {
        let mut values: SmallVec<[_; 4]> = smallvec::smallvec![None; wanted.0.len()];
        let (mut next, mut missing) = (0, wanted.0.len());
        let mut scan = Scan { text: json, at: 0 };
        scan.skip(b'{')?;
        // No two columns have the same name, so the scan ends once all are found.
        while missing > 0
            && let Some((key, value)) = scan.member()?
        {
            let is = |want: &Want| *want.key == *key;
            let found = match wanted.0.get(next) {
                Some(want) if is(want) => Some(next),
                _ => wanted.0.iter().position(is),
            };
            if let Some(slot) = found
                && let Some(place) = values.get_mut(slot)
            {
                missing -= usize::from(place.is_none());
                *place = Some(value);
                next = slot + 1;
            }
        }
        Ok(Self { wanted, values })
    }

    /// The JSON of a column of the schema; `None`: the row has no such column, or nobody asked for it.
    pub(super) fn get(&self, column: usize) -> Option<&'a str> {
        let slot = self.wanted.0.binary_search_by_key(&column, |want| want.column).ok()?;
        self.values.get(slot).copied().flatten()
    }
}

/// The members of a row, in its order: each key, as the text between its quotes, and its value.
#[derive(Debug)]
pub struct Members<'a>(Scan<'a>);

impl<'a> Members<'a> {
    /// Of a row, which is a JSON object.
    pub fn of(json: &'a str) -> Result<Self, Malformed> {
        let mut scan = Scan { text: json, at: 0 };
        scan.skip(b'{')?;
        Ok(Self(scan))
    }

    /// The next one; `None`: there is no other.
    pub fn next_member(&mut self) -> Result<Option<(&'a str, &'a str)>, Malformed> {
        self.0.member()
    }
}

/// A place within a JSON text, which is between two tokens.
#[derive(Debug)]
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn skip(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek() != Some(wanted) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// The next member of an object: its key, without quotes and still escaped, and its value. `None`: there
    /// is no other.
    fn member(&mut self) -> Result<Option<(&'a str, &'a str)>, Malformed> {
        match self.peek() {
            Some(b'}') => return Ok(None),
            Some(b',') => self.at += 1,
            _ => {}
        }
        if self.peek() != Some(b'"') {
            return Err(Malformed);
        }
        let begin = self.at + 1;
        self.string()?;
        let key = self.text.get(begin..self.at - 1).ok_or(Malformed)?;
        self.skip(b':')?;
        Ok(Some((key, self.value()?)))
    }

    /// The next element of an array. `None`: there is no other.
    fn element(&mut self) -> Result<Option<&'a str>, Malformed> {
        match self.peek() {
            Some(b']') => return Ok(None),
            Some(b',') => self.at += 1,
            _ => {}
        }
        self.value().map(Some)
    }

    fn value(&mut self) -> Result<&'a str, Malformed> {
        let first = self.peek().ok_or(Malformed)?;
        let begin = self.at;
        match first {
            b'"' => self.string()?,
            b'{' | b'[' => self.nested()?,
            _ => {
                let rest = self.text.as_bytes().get(begin..).unwrap_or_default();
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        self.text.get(begin..self.at).filter(|value| !value.is_empty()).ok_or(Malformed)
    }

    /// Skips a string that begins here.
    fn string(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            let rest = bytes.get(self.at..).ok_or(Malformed)?;
            let found = memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
            let is_end = rest.get(found) == Some(&b'"');
            self.at += found + if is_end { 1 } else { 2 };
            if is_end {
                return Ok(());
            }
        }
    }

    /// Skips an object or array that begins here.
    fn nested(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        loop {
            match bytes.get(self.at).ok_or(Malformed)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The value at a path within a JSON value, as Postgres' `#>` finds it: the last of a key's occurrences
/// counts, and a number names an element of an array, from the end if it is negative.
pub(super) fn at_path<'a>(json: &'a str, path: &[String]) -> Result<Option<&'a str>, Malformed> {
    let mut json = json;
    for step in path {
        let mut scan = Scan { text: json, at: 0 };
        let found = match scan.peek() {
            Some(b'{') => {
                scan.at += 1;
                let mut found = None;
                while let Some((key, value)) = scan.member()? {
                    if unescaped(key) == step.as_str() {
                        found = Some(value);
                    }
                }
                found
            }
            Some(b'[') => element(json, step)?,
            _ => None,
        };
        match found {
            Some(found) => json = found,
            None => return Ok(None),
        }
    }
    Ok(Some(json.trim_ascii()))
}

fn element<'a>(array: &'a str, step: &str) -> Result<Option<&'a str>, Malformed> {
    let Ok(index) = step.parse::<i32>() else { return Ok(None) };
    let mut scan = Scan { text: array, at: 0 };
    scan.skip(b'[')?;
    let mut elements = Vec::new();
    while let Some(element) = scan.element()? {
        if usize::try_from(index) == Ok(elements.len()) {
            return Ok(Some(element));
        }
        elements.push(element);
    }
    let from_end = usize::try_from(index.unsigned_abs()).ok().filter(|_| index < 0);
    Ok(from_end.and_then(|back| elements.len().checked_sub(back)).and_then(|at| elements.get(at).copied()))
}

/// The text of a JSON string, from what is between its quotes. Empty if it has none, such as half of a
/// surrogate pair.
pub(super) fn unescaped(inner: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    Cow::Owned(serde_json::from_str(&format!("\"{inner}\"")).unwrap_or_default())
}

/// Whether a JSON text may contain a string that Postgres cannot represent: a NUL, or half of a surrogate
/// pair. Only the escapes are looked for, as `store/condition.rs` does in SQL.
pub(super) fn is_beyond_text(json: &str) -> bool {
    const PAIR: usize = 12;
    let mut rest = json;
    while let Some(at) = rest.find("\\u") {
        rest = rest.get(at..).unwrap_or_default();
        let half = |text: &str, second: &[char]| {
            let mut hex = text.chars();
            hex.next() == Some('\\')
                && hex.next() == Some('u')
                && matches!(hex.next(), Some('d' | 'D'))
                && hex.next().is_some_and(|c| second.contains(&c.to_ascii_lowercase()))
        };
        let is_pair = half(rest, &['8', '9', 'a', 'b'])
            && rest.get(PAIR / 2..).is_some_and(|low| half(low, &['c', 'd', 'e', 'f']))
            && rest.is_char_boundary(PAIR);
        if is_pair {
            rest = rest.get(PAIR..).unwrap_or_default();
            continue;
        }
        if rest.starts_with("\\u0000") || half(rest, &['8', '9', 'a', 'b', 'c', 'd', 'e', 'f']) {
            return true;
        }
        rest = rest.get(2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_columns_are_found() {
        let wanted = Wanted::new([(0, "id"), (3, "a \"b\"\n"), (7, "none")].into_iter());
        let json = r#"{"n":{"id":"x}\"","l":[1,"]"]}, "id" : "7\"" ,"e":"","a \"b\"\n":-1.5e3,"z":null}"#;
        let row = RowView::new(json, &wanted).unwrap();
        assert_eq!(row.get(0), Some(r#""7\"""#));
        assert_eq!(row.get(3), Some("-1.5e3"));
        assert_eq!((row.get(7), row.get(1)), (None, None));
        assert!(RowView::new("{}", &wanted).unwrap().get(0).is_none());
        for broken in ["", "[]", "{", r#"{"id"#, r#"{"id":"#, r#"{"x":"y","id":"a}"#, r#"{"x":{"#, "{1}"] {
            assert!(RowView::new(broken, &wanted).is_err(), "{broken}");
        }
    }

    #[test]
    fn paths_go_as_in_postgres() {
        let json = r#" {"a": {"b" :[1, {"c":"x"}, null ]}, "k\u0065y":1, "key":2}"#;
        let at = |path: &[&str]| {
            let path: Vec<_> = path.iter().map(ToString::to_string).collect();
            at_path(json, &path).unwrap()
        };
        assert_eq!(at(&["a", "b", "1", "c"]), Some("\"x\""));
        assert_eq!(at(&["a", "b", "-3"]), Some("1"));
        assert_eq!(at(&["a", "b", "2"]), Some("null"));
        assert_eq!(at(&["key"]), Some("2"));
        for none in [&["a", "b", "3"][..], &["a", "b", "-4"], &["a", "b", "x"], &["key", "x"], &["b"]] {
            assert_eq!(at(none), None);
        }
    }

    #[test]
    fn what_is_no_text_is_noticed() {
        for json in [r#""\u0000""#, r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\uD83Dx""#] {
            assert!(is_beyond_text(json), "{json}");
        }
        for json in [r#""\ud83d\ude00""#, r#""\u0041""#, r#""x""#, r#""\u00e9\ud83d\uDE00""#] {
            assert!(!is_beyond_text(json), "{json}");
        }
    }
}
