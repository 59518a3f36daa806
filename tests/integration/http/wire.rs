//! A client that sends what it is told to, byte by byte, and shows what comes.

use crate::support::{Database, PATIENCE, TestHub};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// An answer that has come in whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case, as they stand.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub async fn open(hub: &TestHub) -> Self {
        Self::to(&hub.app().addresses().api).await
    }

    pub async fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("it is sent");
    }

    /// More bytes; `false`: there are none.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = timeout(*PATIENCE, self.stream.read(&mut buffer)).await.expect("an answer in time");
        let read = read.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// The next answer, to a request with this method; `None`: the connection was closed instead.
    pub async fn answer(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).expect("text");
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let length: usize = if method == "HEAD" || status == 204 { 0 } else { length };
        while self.read.len() < length {
            assert!(self.more().await, "cut off within the body");
        }
        answer.body = self.read.drain(..length).collect();
        Some(answer)
    }

    /// Sends a request and takes its answer.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{length}{headers}\r\n{body}");
        self.send(request.as_bytes()).await;
        self.answer(method).await.expect("an answer")
    }

    /// The same with JSON.
    pub async fn json(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, "content-type: application/json\r\n", body).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }
}

/// A hub and a connection to it.
pub async fn hub() -> (TestHub, Connection) {
    let hub = TestHub::start(&Database::create().await).await;
    let connection = Connection::open(&hub).await;
    (hub, connection)
}

/// A text as a parameter has it.
pub fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
