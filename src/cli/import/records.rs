//! Lines of NDJSON and records of CSV, with their numbers, out of a stream of bytes. One bad line costs no other: what cannot be read
//! is an entry with its reason, and reading goes on at the next line. Memory is bounded, whatever the bytes are.

use super::format::{self, Format, Header};
use crate::proto::rh_trex::v1::ImportDinosaursItem;
use anyhow::anyhow;
use std::io::{self, BufRead};

/// Bytes of the longest line, or of the longest record. The longest item that the hub takes has less than 8 KiB, every byte escaped.
const LONGEST: usize = 64 * 1024;
/// Of a line that is longer, so much is kept to be shown.
const SHOWN: usize = 1024;
/// Fields of a record. There are two columns.
const MOST_FIELDS: usize = 64;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What stands in a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Where it begins; the first line is 1.
    pub(super) line: u64,
    /// As it stands there, without its end.
    pub(super) raw: Vec<u8>,
    /// What it says, or why it says nothing.
    pub(super) item: Result<ImportDinosaursItem, String>,
}

/// The entries of a source, in order.
pub(super) struct Records {
    bytes: Box<dyn BufRead + Send>,
    /// `start..end` is what was read and not yet taken.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether `bytes` is at its end.
    over: bool,
    /// The number of the line that begins at `start`.
    line: u64,
    /// Whether what was taken last is a CR that ended a line.
    after_cr: bool,
    parser: Parser,
}

enum Parser {
    Ndjson,
    Csv { cutter: Box<Cutter>, header: Option<Header> },
}

impl Records {
    /// Reads as far as the header, if there is one: a wrong one is an error, for it says nothing of any line.
    pub(super) fn new(bytes: Box<dyn BufRead + Send>, format: Format) -> anyhow::Result<Self> {
        let parser = match format {
            Format::Ndjson => Parser::Ndjson,
            Format::Csv => Parser::Csv { cutter: Box::default(), header: None },
        };
        let buffer = vec![0; 2 * LONGEST];
        let mut records =
            Self { bytes, buffer, start: 0, end: 0, over: false, line: 1, after_cr: false, parser };
        while records.pending().len() < BYTE_ORDER_MARK.len() && !records.over {
            records.fill()?;
        }
        if records.pending().starts_with(BYTE_ORDER_MARK) {
            records.start += BYTE_ORDER_MARK.len();
        }
        if format == Format::Csv {
            records.read_header()?;
        }
        Ok(records)
    }

    fn read_header(&mut self) -> anyhow::Result<()> {
        loop {
            self.skip_line_ends();
            if !self.pending().is_empty() {
                return match self.next_record()? {
                    Some(Entry { line, item: Err(why), .. }) => Err(anyhow!("line {line}: {why}")),
                    _ => Ok(()),
                };
            }
            if self.over {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Whether the next entry is there without waiting for more bytes, as far as can be known cheaply.
    pub(super) fn has_next(&self) -> bool {
        self.line_end().is_some()
    }

    /// The next entry; none at the end. An error says in which line the source broke off; what is incomplete there is not returned.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            self.skip_line_ends();
            if self.pending().is_empty() {
                if self.over {
                    return Ok(None);
                }
                self.fill()?;
                continue;
            }
            let entry = match self.parser {
                Parser::Ndjson => self.next_line()?,
                Parser::Csv { .. } => self.next_record()?,
            };
            if entry.is_some() {
                // Its own line end says nothing of a next entry.
                self.skip_line_ends();
                return Ok(entry);
            }
        }
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// More bytes behind what is pending, which is less than [`LONGEST`].
    fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let chunk = loop {
            match self.bytes.fill_buf() {
                Ok(chunk) => break chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken_off(self.line, &error)),
            }
        };
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = chunk.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), chunk.get(..count)) {
            to.copy_from_slice(from);
        }
        self.over = chunk.is_empty();
        self.bytes.consume(count);
        self.end += count;
        Ok(())
    }

    /// Where the first line that is pending ends, if it does. Of CSV a CR alone ends one; in JSON it is a space like any other.
    fn line_end(&self) -> Option<usize> {
        let is_csv = matches!(self.parser, Parser::Csv { .. });
        self.pending().iter().position(|&byte| byte == b'\n' || is_csv && byte == b'\r')
    }

    fn take(&mut self, count: usize) {
        let is_csv = matches!(self.parser, Parser::Csv { .. });
        let taken = self.buffer.get(self.start..self.start + count).unwrap_or_default();
        for &byte in taken {
            let is_cr = is_csv && byte == b'\r';
            // An LF behind a CR has counted with it, though it came later.
            self.line += u64::from(is_cr || byte == b'\n' && !self.after_cr);
            self.after_cr = is_cr;
        }
        self.start += count;
    }

    fn skip_line_ends(&mut self) {
        let ends = self.pending().iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.take(ends);
    }

    /// The line that is pending; none: it says nothing.
    fn next_line(&mut self) -> anyhow::Result<Option<Entry>> {
        let Some(length) = self.whole_line()? else { return self.too_long().map(Some) };
        let raw = trimmed(self.pending().get(..length).unwrap_or_default()).to_vec();
        let line = self.line;
        self.take(length);
        if raw.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let item = format::object(&raw);
        Ok(Some(Entry { line, raw, item }))
    }

    /// The length of the line that is pending, once it is there; none: it is longer than a line may be.
    fn whole_line(&mut self) -> anyhow::Result<Option<usize>> {
        loop {
            let pending = self.pending();
            match self.line_end() {
                Some(at) => return Ok((at <= LONGEST).then_some(at)),
                None if pending.len() > LONGEST => return Ok(None),
                None if self.over => return Ok(Some(pending.len())),
                None => self.fill()?,
            }
        }
    }

    /// Passes over a line that is too long.
    fn too_long(&mut self) -> anyhow::Result<Entry> {
        let line = self.line;
        let raw = self.pending().get(..SHOWN).unwrap_or_default().to_vec();
        loop {
            match self.line_end() {
                Some(at) => {
                    self.take(at);
                    break;
                }
                None => {
                    self.take(self.pending().len());
                    if self.over {
                        break;
                    }
                    self.fill()?;
                }
            }
        }
        let why = format!("is longer than {LONGEST} bytes; it is shown in part");
        Ok(Entry { line, raw, item: Err(why) })
    }

    /// The record that is pending; none: it was the header.
    fn next_record(&mut self) -> anyhow::Result<Option<Entry>> {
        let why = loop {
            let Self { buffer, start, end, over, parser: Parser::Csv { cutter, header }, line, .. } = self
            else {
                return Ok(None);
            };
            let pending = buffer.get(*start..*end).unwrap_or_default();
            match cutter.cut(pending, *over) {
                Cut::Record { length, fields } => {
                    let raw = trimmed(pending.get(..length).unwrap_or_default()).to_vec();
                    let entry = match header {
                        Some(header) => Entry { line: *line, raw, item: header.item(&fields) },
                        None => match Header::read(fields.into_iter()) {
                            Ok(read) => {
                                *header = Some(read);
                                self.take(length);
                                return Ok(None);
                            }
                            Err(why) => Entry { line: *line, raw, item: Err(why) },
                        },
                    };
                    self.take(length);
                    return Ok(Some(entry));
                }
                Cut::TooManyFields => break format!("has more than {MOST_FIELDS} fields"),
                Cut::Open if *over => break "begins a quoted field that never ends".to_owned(),
                Cut::Open if pending.len() > LONGEST => {
                    break format!("begins a quoted field that does not end within {LONGEST} bytes");
                }
                Cut::Open => self.fill()?,
            }
        };
        // Its first line is the culprit, and what follows may be sound.
        let Some(length) = self.whole_line()? else { return self.too_long().map(Some) };
        let raw = trimmed(self.pending().get(..length).unwrap_or_default()).to_vec();
        let line = self.line;
        self.take(length);
        Ok(Some(Entry { line, raw, item: Err(why) }))
    }
}

fn broken_off(line: u64, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow!("line {line}: the compressed data ends too early"),
        _ => anyhow!("line {line}: {error}"),
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

/// Finds where records end.
struct Cutter {
    reader: csv_core::Reader,
    fields: Vec<u8>,
    ends: [usize; MOST_FIELDS],
}

impl Default for Cutter {
    fn default() -> Self {
        Self { reader: csv_core::Reader::new(), fields: vec![0; 2 * LONGEST + 1], ends: [0; MOST_FIELDS] }
    }
}

enum Cut<'a> {
    /// So many bytes, and what they say.
    Record { length: usize, fields: Vec<&'a [u8]> },
    /// These bytes do not end it.
    Open,
    /// More than can be a record of ours.
    TooManyFields,
}

impl Cutter {
    /// The record at the beginning of these bytes, which begin with no line end; `over`: no more will come.
    fn cut(&mut self, bytes: &[u8], over: bool) -> Cut<'_> {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};
        self.reader.reset();
        let (mut result, length, mut written, mut count) =
            self.reader.read_record(bytes, &mut self.fields, &mut self.ends);
        if matches!(result, InputEmpty) && over {
            // A line end closes the last record, unless it stands within quotes.
            let rest = self.fields.get_mut(written..).unwrap_or_default();
            let (last, _, more, ends) =
                self.reader.read_record(b"\n", rest, self.ends.get_mut(count..).unwrap_or_default());
            (result, written, count) = (last, written + more, count + ends);
        }
        match result {
            Record => {
                let starts = std::iter::once(0).chain(self.ends.iter().copied());
                let bounds = starts.zip(self.ends.iter().copied()).take(count);
                let fields = self.fields.get(..written).unwrap_or_default();
                let field = |(start, end)| fields.get(start..end).unwrap_or_default();
                Cut::Record { length, fields: bounds.map(field).collect() }
            }
            OutputEndsFull => Cut::TooManyFields,
            InputEmpty | OutputFull | End => Cut::Open,
        }
    }
}

#[cfg(test)]
mod tests;
