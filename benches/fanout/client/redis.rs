//! RESP, as far as PUBLISH and SUBSCRIBE need it.

use super::{Arguments, EVENT, Parse, check, connect, payload, read, tally::Readers};
use anyhow::{Context, ensure};
use std::io::Write;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SUBSCRIBE: &[u8] = b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\ndino\r\n";
const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$4\r\ndino\r\n:1\r\n";
/// What comes before the payload of a message, and after it.
const BEFORE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$4\r\ndino\r\n$172\r\n";
const AFTER: &[u8] = b"\r\n";

/// Subscribes; returns when all are in place.
pub(super) async fn open(arguments: &Arguments, readers: &mut Readers) -> anyhow::Result<()> {
    for number in 0..arguments.connections {
        let mut stream = connect(arguments.address, number).await?;
        stream.write_all(SUBSCRIBE).await?;
        let mut answer = [0; SUBSCRIBED.len()];
        stream.read_exact(&mut answer).await?;
        ensure!(answer == SUBSCRIBED, "Redis: {}", String::from_utf8_lossy(&answer));
        readers.spawn(read(stream, Messages { next: None }, readers.tally()));
    }
    Ok(())
}

struct Messages {
    next: Option<u64>,
}

impl Parse for Messages {
    fn parse(&mut self, bytes: &[u8]) -> anyhow::Result<(usize, u64)> {
        const SIZE: usize = BEFORE.len() + EVENT + AFTER.len();
        let mut events = 0;
        for message in bytes.chunks_exact(SIZE) {
            let payload = message.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER));
            check(payload.context("Redis: no message")?, &mut self.next)?;
            events += 1;
        }
        Ok((events * SIZE, events as u64))
    }
}

/// Publishes events.
pub(super) struct Publisher(TcpStream);

impl Publisher {
    /// On a connection of its own.
    pub(super) async fn connect(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self(connect(arguments.address, arguments.connections).await?))
    }

    /// Events from a number on, pipelined.
    pub(super) async fn publish(&mut self, first: u64, batch: u64) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for number in first..first + batch {
            write!(text, "*3\r\n$7\r\nPUBLISH\r\n$4\r\ndino\r\n${EVENT}\r\n")?;
            text.extend(payload(number));
            text.extend(AFTER);
        }
        self.0.write_all(&text).await?;
        // Each answer is a line: the number of subscribers.
        let mut lines = 0;
        let mut answers = [0; 4096];
        while lines < batch {
            let length = self.0.read(&mut answers).await?;
            ensure!(length > 0, "Redis has closed the connection");
            lines += answers.iter().take(length).filter(|&&byte| byte == b'\n').count() as u64;
        }
        Ok(())
    }
}
