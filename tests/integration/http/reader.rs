//! A reader of streams over HTTP: server-sent events as a browser reads them, or lines of JSON.

use crate::support::{
    PATIENCE,
    history::{Bookmark, End, Event, Headers, Row, Stream},
    recorder::SENTINEL,
};
use serde_json::Value;
use std::time::Instant;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;
use trex::{model::ChangeType, proto::rh_trex::v1::WatchDinosaursRequest};

pub const SSE: &str = "text/event-stream";
pub const LINES: &str = "application/x-ndjson";

/// One thing that a stream says.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub name: String,
    /// Of SSE; an empty one makes a browser forget its position.
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub data: Value,
}

impl Said {
    pub fn text(&self, member: &str) -> &str {
        self.data[member].as_str().unwrap_or_default()
    }

    pub fn number(&self, member: &str) -> u64 {
        self.text(member).parse().unwrap_or_else(|_| panic!("{member} of {:?}", self.data))
    }
}

/// A stream under way.
pub struct Reader {
    stream: TcpStream,
    /// As it came.
    raw: Vec<u8>,
    /// Without the lengths of its chunks.
    body: Vec<u8>,
    is_over: bool,
    is_sse: bool,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Where a browser would resume.
    pub last_id: String,
}

impl Reader {
    /// Asks for a stream; returns when its headers are there.
    pub async fn open(address: &str, path: &str, media: &str, headers: &str) -> Self {
        Self::try_open(address, path, media, headers).await.expect("a connection that is not cut")
    }

    /// The same; `None`: the connection was cut.
    pub async fn try_open(address: &str, path: &str, media: &str, headers: &str) -> Option<Self> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {media}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reader = Self {
            stream,
            raw: Vec::new(),
            body: Vec::new(),
            is_over: false,
            is_sse: media == SSE,
            status: 0,
            headers: Vec::new(),
            last_id: String::new(),
        };
        let end = loop {
            if let Some(at) = reader.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !reader.more().await {
                return None;
            }
        };
        let head = String::from_utf8(reader.raw.drain(..end).collect()).expect("text");
        reader.status = head.split(' ').nth(1)?.parse().expect("a status");
        reader.headers = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Some(reader)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let read = timeout(*PATIENCE, self.stream.read(&mut buffer)).await.expect("something in time");
        let read = read.unwrap_or(0);
        self.raw.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// Takes what has come in whole chunks, or the whole body if it has a length.
    fn unchunk(&mut self) {
        if self.header("transfer-encoding") != Some("chunked") {
            self.body.append(&mut self.raw);
            return;
        }
        while let Some(at) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let length = std::str::from_utf8(&self.raw[..at]).expect("text");
            let length = usize::from_str_radix(length, 16).expect("a length");
            let whole = at + 2 + length + 2;
            if self.raw.len() < whole {
                return;
            }
            self.body.extend_from_slice(&self.raw[at + 2..whole - 2]);
            self.raw.drain(..whole);
            self.is_over |= length == 0;
        }
    }

    fn cut(&mut self, end: &[u8]) -> Option<String> {
        let at = self.body.windows(end.len()).position(|part| part == end)?;
        let piece = self.body.drain(..at + end.len()).collect();
        Some(String::from_utf8(piece).expect("text"))
    }

    fn parse(&mut self) -> Option<Said> {
        if !self.is_sse {
            let line: Value = serde_json::from_str(&self.cut(b"\n")?).expect("a line of JSON");
            let (name, data) = line.as_object().and_then(|object| object.iter().next()).expect("a member");
            let name = if name == "event" { data["type"].as_str().expect("a type") } else { name };
            return Some(Said { name: name.to_owned(), id: None, retry: None, data: data.clone() });
        }
        let block = self.cut(b"\n\n")?;
        let field = |name: &str| {
            let lines = block.lines().filter_map(|line| line.split_once(':'));
            lines.filter(|(is, _)| *is == name).map(|(_, value)| value.trim().to_owned()).next_back()
        };
        let said = Said {
            name: field("event").expect("a name"),
            id: field("id"),
            retry: field("retry").map(|retry| retry.parse().expect("a number")),
            data: serde_json::from_str(&field("data").expect("data")).expect("JSON"),
        };
        self.last_id = said.id.clone().unwrap_or_else(|| std::mem::take(&mut self.last_id));
        Some(said)
    }

    /// What comes next; `None`: the stream is over, or was cut.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            self.unchunk();
            if let Some(said) = self.parse() {
                return Some(said);
            }
            if self.is_over || !self.more().await {
                return None;
            }
        }
    }

    /// What comes next, which must be of this name.
    pub async fn expect(&mut self, name: &str) -> Said {
        let said = self.next().await.unwrap_or_else(|| panic!("{name}, and not the end"));
        assert_eq!(said.name, name, "{said:?}");
        said
    }

    /// The position that the headers tell of.
    pub fn position(&self) -> Headers {
        Headers {
            revision: self.header("hub-revision").expect("hub-revision").parse().expect("a number"),
            epoch: self.header("hub-epoch").expect("hub-epoch").to_owned(),
            seen: Instant::now(),
        }
    }
}

/// What a stream is recorded into.
pub fn empty(name: &str, request: WatchDinosaursRequest, headers: Headers) -> Stream {
    Stream {
        name: name.to_owned(),
        request,
        timeout: None,
        stalls: false,
        headers,
        state: Vec::new(),
        events: Vec::new(),
        bookmarks: Vec::new(),
        end: End::Left,
        status: None,
    }
}

/// Notes one thing that a stream of dinosaurs said, and how many events it is told to have lost before the
/// next. Returns whether the stream is over: the sentinel is deleted last of all.
pub fn note(stream: &mut Stream, said: &Said, dropped: &mut u64) -> bool {
    let row = |row: &Value| {
        let at: jiff::Timestamp = row["updated_at"].as_str().expect("a time").parse().expect("a time");
        Row::new(row["species"].as_str().expect("a species"), at.as_microsecond())
    };
    let there = |member: &str| (!said.data[member].is_null()).then(|| row(&said.data[member]));
    let count = |member: &str| said.data[member].as_str().map_or(0, |text| text.parse().expect("a number"));
    let told = count("dropped_before");
    let change = match said.name.as_str() {
        "open" => return false,
        "dropped" => {
            *dropped += said.number("count");
            return false;
        }
        "snapshot" => {
            stream.state.push((said.text("resource_id").to_owned(), there("row").expect("a row")));
            return false;
        }
        "bookmark" => {
            let (revision, at) = (said.number("revision"), stream.events.len());
            let dropped_before = told + std::mem::take(dropped);
            stream.bookmarks.push(Bookmark { revision, at, dropped_before, seen: Instant::now() });
            return false;
        }
        "end" => {
            let error = &said.data["error"];
            let has_retry = |detail: &Value| detail["retryDelay"].is_string();
            stream.end = End::Hub {
                code: match error["status"].as_str() {
                    Some("UNAVAILABLE") => Code::Unavailable,
                    Some("OUT_OF_RANGE") => Code::OutOfRange,
                    other => panic!("{other:?}"),
                },
                retry_info: error["details"].as_array().is_some_and(|all| all.iter().any(has_retry)),
                revision: said.data["revision"].as_str().map(|text| text.parse().expect("a number")),
                dropped: Some(count("dropped")),
            };
            return true;
        }
        "created" => ChangeType::Created,
        "updated" => ChangeType::Updated,
        "deleted" => ChangeType::Deleted,
        other => panic!("{other}"),
    };
    let event = Event {
        revision: said.number("revision"),
        change,
        id: said.text("resource_id").to_owned(),
        after: there("row"),
        previous: there("previous"),
        dropped_before: told + std::mem::take(dropped),
        conflated: count("conflated"),
        took: None,
    };
    let is_last = event.id == SENTINEL && change == ChangeType::Deleted;
    stream.events.push(event);
    if is_last {
        stream.end = End::Finished;
    }
    is_last
}
