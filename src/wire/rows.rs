//! Rows as JSON texts: what Postgres wrote, without hidden columns, and as a watch wants them. All in one
//! forward scan, without building a tree.

use super::{Renderer, Unreadable};
use crate::model::filter::{Malformed, Members, escaped};

/// Writes the rows of an attached table: Postgres' own JSON.
#[derive(Debug)]
pub struct JsonRows {
    /// The names of the visible columns, as JSON writes them; `None`: all. The visible ones are listed, not
    /// the hidden ones: a row of the past has the names of the past, and a secret that has been renamed stays
    /// one.
    shown: Option<Vec<Box<str>>>,
    schema_version: u64,
}

impl JsonRows {
    /// For a description of this version. `shown`: the visible columns; `None`: all.
    pub fn new<'a>(schema_version: u64, shown: Option<impl IntoIterator<Item = &'a str>>) -> Self {
        Self { shown: shown.map(|names| names.into_iter().map(escaped).collect()), schema_version }
    }
}

impl Renderer for JsonRows {
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let begin = out.len();
        match &self.shown {
            None => out.extend_from_slice(row.as_bytes()),
            Some(shown) => only(
                row,
                |key| shown.iter().any(|name| **name == *key),
                |_, value, out| {
                    out.extend_from_slice(value.as_bytes());
                },
                out,
            )?,
        }
        without_breaks(out, begin);
        Ok(())
    }

    fn json(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.message(row, out)
    }

    fn schema_version(&self) -> Option<u64> {
        Some(self.schema_version)
    }
}

/// Appends a row without line breaks.
pub(super) fn on_one_line(row: &str, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(row.as_bytes());
    without_breaks(out, begin);
}

/// Makes one line of a row that begins there. Within a string line breaks are escaped. Elsewhere they are
/// mere white space, of a `json` column, and would end a line of NDJSON or a field of SSE.
fn without_breaks(out: &mut [u8], begin: usize) {
    for byte in out.iter_mut().skip(begin) {
        if matches!(*byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// Appends a row with only these members, each with its value as `write` writes it.
fn only(
    row: &str,
    is_wanted: impl Fn(&str) -> bool,
    write: impl Fn(&str, &str, &mut Vec<u8>),
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let (mut members, mut first) = (Members::of(row)?, true);
    out.push(b'{');
    while let Some((key, value)) = members.next_member()? {
        if !is_wanted(key) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write(key, value, out);
    }
    out.push(b'}');
    Ok(())
}

/// How a request wants rows: some of the columns, and long numbers as strings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Projection {
    /// The names of the wanted columns, as they stand in JSON; `None`: all.
    columns: Option<Vec<Box<str>>>,
    /// The names of those whose numbers are quoted.
    quoted: Vec<Box<str>>,
}

impl Projection {
    /// These columns, or all; and the numbers of these quoted.
    pub fn new<'a>(
        columns: Option<impl IntoIterator<Item = &'a str>>,
        quoted: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let columns = columns.map(|names| {
            let mut names: Vec<_> = names.into_iter().map(escaped).collect();
            names.sort();
            names.dedup();
            names
        });
        Self { columns, quoted: quoted.into_iter().map(escaped).collect() }
    }

    /// Whether rows are sent unchanged.
    pub fn is_whole(&self) -> bool {
        self.columns.is_none() && self.quoted.is_empty()
    }

    /// Appends a row as it is wanted.
    pub fn write(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let is_wanted = |key: &str| {
            self.columns.as_ref().is_none_or(|names| names.binary_search_by(|name| (**name).cmp(key)).is_ok())
        };
        let write =
            |key: &str, value: &str, out: &mut Vec<u8>| match self.quoted.iter().any(|name| **name == *key) {
                true => quote_numbers(value, out),
                false => out.extend_from_slice(value.as_bytes()),
            };
        only(row, is_wanted, write, out)
    }
}

/// Appends a JSON value with quotes around each number in it, at any depth of arrays.
fn quote_numbers(value: &str, out: &mut Vec<u8>) {
    let is_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    let bytes = value.as_bytes();
    let (mut at, mut is_string) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        if !is_string && (byte.is_ascii_digit() || byte == b'-') {
            let rest = bytes.get(at..).unwrap_or_default();
            let length = rest.iter().position(|byte| !is_number(*byte)).unwrap_or(rest.len());
            out.push(b'"');
            out.extend_from_slice(rest.get(..length).unwrap_or_default());
            out.push(b'"');
            at += length;
            continue;
        }
        // Such as "NaN": nothing in it is escaped.
        is_string ^= byte == b'"';
        out.push(byte);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(rows: &JsonRows, row: &str) -> String {
        let mut out = Vec::new();
        rows.message(row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_may_not_be_seen_is_left_out() {
        let row = "{\"id\":1,\"sec\\\"ret\":\"x,\\\"}\",\"doc\":{\"a\" :\r\n 1},\"t\":\"a\\nb\"}";
        let all = JsonRows::new(3, None::<[&str; 0]>);
        assert_eq!(rendered(&all, row), row.replace("\r\n", "  "));
        let some = JsonRows::new(3, Some(["id", "doc", "t", "new"]));
        assert_eq!(rendered(&some, row), "{\"id\":1,\"doc\":{\"a\" :   1},\"t\":\"a\\nb\"}");
        let secret = JsonRows::new(3, Some(["sec\"ret"]));
        assert_eq!(rendered(&secret, row), "{\"sec\\\"ret\":\"x,\\\"}\"}");
        assert!(secret.message("[", &mut Vec::new()).is_err());
    }

    #[test]
    fn rows_are_composed_as_they_are_wanted() {
        let row = r#"{"id":12345678901234567890,"n":-1.50,"l":[[1,null],["NaN",-2e3]],"t":"1","x":null}"#;
        let written = |projection: &Projection| {
            let mut out = Vec::new();
            projection.write(row, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let some = Projection::new(Some(["n", "id", "n"]), ["id"]);
        assert_eq!(written(&some), r#"{"id":"12345678901234567890","n":-1.50}"#);
        let all = Projection::new(None::<[&str; 0]>, ["id", "n", "l", "x"]);
        assert_eq!(
            written(&all),
            r#"{"id":"12345678901234567890","n":"-1.50","l":[["1",null],["NaN","-2e3"]],"t":"1","x":null}"#
        );
        assert!(Projection::default().is_whole());
        assert_eq!(written(&Projection::default()), row);
    }
}
