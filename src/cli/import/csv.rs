//! Records of CSV as RFC 4180 writes them: where one ends, what its fields say, and where its quoting is
//! broken.

use std::ops::Range;

/// How quotes are treated that RFC 4180 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// They are an error.
    Strict,
    /// A quote within a field stands for itself, and text behind a closing quote belongs to the field.
    Lenient,
}

/// A field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// What it says.
    pub(super) bytes: &'a [u8],
    /// Whether it stands within quotes: an empty field that does is a value, and one that does not may be
    /// none.
    pub(super) quoted: bool,
}

/// How far a record goes in what was scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It ends before this byte of what was scanned last.
    Record(usize),
    /// It goes on.
    Open,
    /// Its quoting is broken at this byte of what was scanned last, and why.
    Broken(usize, &'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning of a field.
    Start,
    /// Within a field without quotes, or, if that is allowed, behind the closing quote of one with.
    Plain,
    /// Within quotes.
    Quoted,
    /// Behind a quote within quotes: it closes the field, or is the first of two that stand for one.
    Closed,
}

/// Reads one record, in as many pieces as it comes in.
pub(super) struct Scanner {
    quoting: Quoting,
    state: State,
    text: Vec<u8>,
    /// The range of each field in `text`, and whether it was quoted.
    fields: Vec<(Range<usize>, bool)>,
    start: usize,
    quoted: bool,
    /// Whether what is scanned is kept. A record that is too long is still read to its end.
    keeps: bool,
}

impl Scanner {
    /// At the beginning of a record.
    pub(super) fn new(quoting: Quoting) -> Self {
        let (text, fields) = (Vec::new(), Vec::new());
        Self { quoting, state: State::Start, text, fields, start: 0, quoted: false, keeps: true }
    }

    /// Begins the next record.
    pub(super) fn reset(&mut self) {
        self.text.clear();
        self.fields.clear();
        (self.state, self.start, self.quoted, self.keeps) = (State::Start, 0, false, true);
    }

    /// Only looks for the end from here on.
    pub(super) fn forget(&mut self) {
        self.text.clear();
        self.fields.clear();
        (self.start, self.keeps) = (0, false);
    }

    /// How quotes are read.
    pub(super) fn quoting(&self) -> Quoting {
        self.quoting
    }

    /// Reads on in these bytes, up to the end of the record or to what is wrong.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Cut {
        for (at, &byte) in bytes.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::Closed,
                (State::Quoted, _) => self.keep(byte, State::Quoted),
                (_, b'\n' | b'\r') => {
                    self.end_field();
                    return Cut::Record(at);
                }
                (_, b',') => {
                    self.end_field();
                    State::Start
                }
                (State::Start, b'"') => {
                    self.quoted = true;
                    State::Quoted
                }
                (State::Closed, b'"') => self.keep(byte, State::Quoted),
                (State::Closed, _) if self.quoting == Quoting::Strict => {
                    return Cut::Broken(at, "has text behind the quote that closes a field");
                }
                (State::Plain, b'"') if self.quoting == Quoting::Strict => {
                    return Cut::Broken(at, "has a quote in a field that does not begin with one");
                }
                (State::Start | State::Plain | State::Closed, _) => self.keep(byte, State::Plain),
            };
        }
        Cut::Open
    }

    /// Ends the source. An error says that the record has no end.
    pub(super) fn finish(&mut self) -> Result<(), &'static str> {
        if self.state == State::Quoted {
            return Err("begins a quoted field that never ends");
        }
        self.end_field();
        Ok(())
    }

    fn keep(&mut self, byte: u8, state: State) -> State {
        if self.keeps {
            self.text.push(byte);
        }
        state
    }

    fn end_field(&mut self) {
        if self.keeps {
            self.fields.push((self.start..self.text.len(), self.quoted));
        }
        (self.start, self.quoted) = (self.text.len(), false);
    }

    /// What a record says that has ended.
    pub(super) fn fields(&self) -> Vec<Field<'_>> {
        let field = |(range, quoted): &(Range<usize>, bool)| Field {
            bytes: self.text.get(range.clone()).unwrap_or_default(),
            quoted: *quoted,
        };
        self.fields.iter().map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a record, or the byte at which it is broken; read whole, and byte by byte.
    fn read(quoting: Quoting, text: &str) -> Result<Vec<(String, bool)>, usize> {
        let mut scanner = Scanner::new(quoting);
        let cut = scanner.scan(text.as_bytes());
        let mut trickled = Scanner::new(quoting);
        let by_byte = text.bytes().enumerate().find_map(|(n, byte)| match trickled.scan(&[byte]) {
            Cut::Open => None,
            Cut::Record(_) => Some(Cut::Record(n)),
            Cut::Broken(_, why) => Some(Cut::Broken(n, why)),
        });
        assert_eq!(by_byte.unwrap_or(Cut::Open), cut);
        match cut {
            Cut::Broken(at, _) => return Err(at),
            Cut::Open => scanner.finish().map_err(|_| text.len())?,
            Cut::Record(_) => {}
        }
        let fields = scanner.fields();
        Ok(fields
            .iter()
            .map(|field| (String::from_utf8(field.bytes.to_vec()).unwrap(), field.quoted))
            .collect())
    }

    fn fields(of: &[(&str, bool)]) -> Result<Vec<(String, bool)>, usize> {
        Ok(of.iter().map(|(text, quoted)| ((*text).to_owned(), *quoted)).collect())
    }

    #[test]
    fn fields_are_read_as_the_rfc_writes_them() {
        for quoting in [Quoting::Strict, Quoting::Lenient] {
            let read = |text| read(quoting, text);
            assert_eq!(read("a,b\nc"), fields(&[("a", false), ("b", false)]));
            assert_eq!(
                read("\"a,\"\"\r\nb\"\"\",\"\",\r"),
                fields(&[("a,\"\r\nb\"", true), ("", true), ("", false)])
            );
            assert_eq!(read(" a ,b "), fields(&[(" a ", false), ("b ", false)]));
            assert_eq!(read("\"open\n,"), Err(7));
        }
    }

    #[test]
    fn broken_quoting_is_an_error_or_guessed_at() {
        for (text, at, guess) in [
            ("5\" tall,x", 1, [("5\" tall", false), ("x", false)]),
            ("x, \"y\"", 3, [("x", false), (" \"y\"", false)]),
            ("x,\"y\" ", 5, [("x", false), ("y ", true)]),
            ("\"x\"y\"z\",1", 3, [("xy\"z\"", true), ("1", false)]),
        ] {
            assert_eq!(read(Quoting::Strict, text), Err(at), "{text}");
            assert_eq!(read(Quoting::Lenient, text), fields(&guess), "{text}");
        }
    }
}
