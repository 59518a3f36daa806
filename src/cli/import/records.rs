//! Lines of NDJSON and records of CSV, with their numbers, out of a stream of bytes. One bad line costs no
//! other: what cannot be read is an entry with its reason, and reading goes on at the next line. Memory is
//! bounded, whatever the bytes are.

use super::{
    csv::{Cut, Quoting, Scanner},
    format::{self, Format, Header},
};
use crate::proto::rh_trex::v1::ImportDinosaursItem;
use anyhow::anyhow;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Seek, Write},
};

/// Bytes of the longest line, or of the longest record. The longest item that the hub accepts has less than 8
/// KiB, with every byte escaped.
const LONGEST: usize = 64 * 1024;
/// Of a line that is longer, this much is kept to be shown.
const SHOWN: usize = 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a line holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Where it begins; the first line is 1.
    pub(super) line: u64,
    /// Its text, without the line end.
    pub(super) raw: Vec<u8>,
    /// Its item, or why it has none.
    pub(super) item: Result<ImportDinosaursItem, String>,
}

/// The entries of a source, in order.
pub(super) struct Records {
    bytes: Rereadable,
    /// `start..end` is what was read and not yet taken.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether `bytes` is at its end.
    over: bool,
    /// The number of the line that begins at `start`.
    line: u64,
    ends: LineEnds,
    parser: Parser,
}

enum Parser {
    Ndjson,
    Csv { scanner: Scanner, header: Option<Header> },
}

impl Records {
    /// Reads as far as the header, if there is one. A wrong header is an error of the whole file.
    pub(super) fn new(
        bytes: Box<dyn BufRead + Send>,
        format: Format,
        quoting: Quoting,
    ) -> anyhow::Result<Self> {
        let parser = match format {
            Format::Ndjson => Parser::Ndjson,
            Format::Csv => Parser::Csv { scanner: Scanner::new(quoting), header: None },
        };
        let mut records = Self {
            bytes: Rereadable { again: VecDeque::new(), rest: bytes },
            buffer: vec![0; 2 * LONGEST],
            start: 0,
            end: 0,
            over: false,
            line: 1,
            ends: LineEnds::new(format == Format::Csv),
            parser,
        };
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

    /// The next entry; none at the end. An error says in which line the source broke off; an incomplete entry
    /// is not returned.
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
                // Its own line end does not announce a next entry.
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
        let chunk = read_on(&mut self.bytes, self.line)?;
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

    /// Where the first line that is pending ends, if it does. Of CSV a CR alone ends one; in JSON it is a
    /// space like any other.
    fn line_end(&self) -> Option<usize> {
        let is_csv = self.ends.is_csv;
        self.pending().iter().position(|&byte| byte == b'\n' || is_csv && byte == b'\r')
    }

    fn take(&mut self, count: usize) {
        self.line += self.ends.count(self.buffer.get(self.start..self.start + count).unwrap_or_default());
        self.start += count;
    }

    /// The line or the record of this length, without the CR of a CRLF.
    fn taken(&mut self, length: usize) -> Vec<u8> {
        let taken = self.pending().get(..length).unwrap_or_default();
        let raw = taken.strip_suffix(b"\r").filter(|_| !self.ends.is_csv).unwrap_or(taken).to_vec();
        self.take(length);
        raw
    }

    fn skip_line_ends(&mut self) {
        let ends = self.pending().iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.take(ends);
    }

    /// The line that is pending; none: it is blank.
    fn next_line(&mut self) -> anyhow::Result<Option<Entry>> {
        let Some(length) = self.whole_line()? else { return self.too_long().map(Some) };
        let (line, raw) = (self.line, self.taken(length));
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

    /// Skips a line that is too long.
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
        let mut scanned = 0;
        let mut cut = Cut::Open;
        if let Parser::Csv { scanner, .. } = &mut self.parser {
            scanner.reset();
        }
        let why = loop {
            let Self { buffer, start, end, over, parser: Parser::Csv { scanner, header }, .. } = self else {
                return Ok(None);
            };
            if cut == Cut::Open {
                let pending = buffer.get(*start..*end).unwrap_or_default();
                cut = scanner.scan(pending.get(scanned..).unwrap_or_default());
                if let Cut::Record(at) | Cut::Broken(at, _) = &mut cut {
                    *at += scanned;
                }
                scanned = pending.len();
            }
            match cut {
                Cut::Record(length) => return Ok(self.whole_record(length)),
                Cut::Broken(at, why) => break self.told_where(at, why),
                Cut::Open if *over => match scanner.finish() {
                    Ok(()) => cut = Cut::Record(scanned),
                    Err(why) => break why.to_owned(),
                },
                Cut::Open if scanned <= LONGEST => self.fill()?,
                Cut::Open if header.is_none() => break format!("is longer than {LONGEST} bytes"),
                Cut::Open => match self.look_ahead()? {
                    Ahead::TooLong(entry) => return Ok(Some(entry)),
                    Ahead::Broken(why) => break why,
                },
            }
        };
        // Its first line is at fault; what follows may be sound.
        let Some(length) = self.whole_line()? else { return self.too_long().map(Some) };
        let (line, raw) = (self.line, self.taken(length));
        Ok(Some(Entry { line, raw, item: Err(why) }))
    }

    /// The record of this length, which the scanner has read; none: it is the header.
    fn whole_record(&mut self, length: usize) -> Option<Entry> {
        let line = self.line;
        let raw = self.taken(length);
        let Parser::Csv { scanner, header } = &mut self.parser else { return None };
        let item = match header {
            Some(header) => header.item(&scanner.fields()),
            None => match Header::read(&scanner.fields(), scanner.quoting()) {
                Ok(read) => {
                    *header = Some(read);
                    return None;
                }
                Err(why) => Err(why),
            },
        };
        Some(Entry { line, raw, item })
    }

    /// What is wrong at a byte of what is pending, with the line if it is not the first one.
    fn told_where(&self, at: usize, why: &str) -> String {
        let lines = LineEnds::new(true).count(self.pending().get(..at).unwrap_or_default());
        match lines {
            0 => why.to_owned(),
            lines => format!("begins a quoted field, and line {} {why}", self.line + lines),
        }
    }

    /// Reads to the end of a record that is longer than one may be. If it is sound, nothing inside it is
    /// another record. If it is one only because of a stray quote, its lines are read again; until that is
    /// known, what is read waits in a file.
    fn look_ahead(&mut self) -> anyhow::Result<Ahead> {
        let shown = self.pending().get(..SHOWN).unwrap_or_default().to_vec();
        let line = self.line;
        let Self { bytes, parser: Parser::Csv { scanner, .. }, .. } = self else {
            return self.too_long().map(Ahead::TooLong);
        };
        scanner.forget();
        let mut aside = tempfile::tempfile().map(BufWriter::new)?;
        let mut ends = self.ends;
        let mut last = line + ends.count(self.buffer.get(self.start..self.end).unwrap_or_default());
        let why = loop {
            let chunk = read_on(bytes, last)?;
            if chunk.is_empty() {
                match scanner.finish() {
                    Ok(()) => break None,
                    Err(why) => break Some(why.to_owned()),
                }
            }
            let (count, end) = match scanner.scan(chunk) {
                Cut::Open => (chunk.len(), None),
                Cut::Record(at) => (at, Some(None)),
                Cut::Broken(at, why) => (at, Some(Some(why))),
            };
            let read = chunk.get(..count).unwrap_or_default();
            aside.write_all(read)?;
            last += ends.count(read);
            bytes.consume(count);
            if let Some(end) = end {
                break end.map(|why| format!("begins a quoted field, and line {last} {why}"));
            }
        };
        let Some(why) = why else {
            self.start = self.end;
            (self.line, self.ends) = (last, ends);
            let why = format!("is longer than {LONGEST} bytes; it is shown in part");
            return Ok(Ahead::TooLong(Entry { line, raw: shown, item: Err(why) }));
        };
        let mut aside = aside.into_inner().map_err(io::IntoInnerError::into_error)?;
        aside.rewind()?;
        self.bytes.again.push_front(BufReader::new(aside));
        Ok(Ahead::Broken(why))
    }
}

/// What a record that is too long turned out to be.
enum Ahead {
    /// One record.
    TooLong(Entry),
    /// No record, and why.
    Broken(String),
}

/// A source, and what was read of it that must be read again.
struct Rereadable {
    again: VecDeque<BufReader<File>>,
    rest: Box<dyn BufRead + Send>,
}

impl Rereadable {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while let Some(first) = self.again.front_mut() {
            if !first.fill_buf()?.is_empty() {
                break;
            }
            self.again.pop_front();
        }
        match self.again.front_mut() {
            Some(first) => first.fill_buf(),
            None => self.rest.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self.again.front_mut() {
            Some(first) => first.consume(count),
            None => self.rest.consume(count),
        }
    }
}

/// The next bytes; none at the end. `line`: where an error is.
fn read_on(bytes: &mut Rereadable, line: u64) -> anyhow::Result<&[u8]> {
    loop {
        match bytes.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken_off(line, &error)),
        }
    }
    // It is buffered by now.
    Ok(bytes.fill_buf()?)
}

/// Counts lines: in CSV a CR ends one, and an LF after it belongs to the same line end, though it may come
/// later.
#[derive(Debug, Clone, Copy)]
struct LineEnds {
    is_csv: bool,
    after_cr: bool,
}

impl LineEnds {
    fn new(is_csv: bool) -> Self {
        Self { is_csv, after_cr: false }
    }

    /// How many end in these bytes.
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut lines = 0;
        for &byte in bytes {
            let is_cr = self.is_csv && byte == b'\r';
            lines += u64::from(is_cr || byte == b'\n' && !self.after_cr);
            self.after_cr = is_cr;
        }
        lines
    }
}

fn broken_off(line: u64, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow!("line {line}: the compressed data ends too early"),
        _ => anyhow!("line {line}: {error}"),
    }
}

#[cfg(test)]
mod tests;
