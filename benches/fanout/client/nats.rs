//! The text protocol of NATS, as far as subscribing and publishing need it.

use super::{Arguments, Parse, check, connect, payload, read, tally::Readers};
use crate::contender::Protocol;
use anyhow::{Context, bail, ensure};
use std::{collections::HashMap, io::Write};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

const SUBJECT: &str = "dino";
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\n";

/// A connection that has said hello.
async fn hello(stream: TcpStream) -> anyhow::Result<(BufReader<OwnedReadHalf>, OwnedWriteHalf)> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::with_capacity(64 * 1024, reading);
    let mut info = String::new();
    reading.read_line(&mut info).await?;
    ensure!(info.starts_with("INFO "), "no NATS: {info}");
    writing.write_all(CONNECT).await?;
    Ok((reading, writing))
}

/// Waits until the server has done what it was told before.
async fn settled(reading: &mut BufReader<OwnedReadHalf>, writing: &mut OwnedWriteHalf) -> anyhow::Result<()> {
    writing.write_all(b"PING\r\n").await?;
    loop {
        let mut line = String::new();
        reading.read_line(&mut line).await?;
        match line.trim_end() {
            "PONG" => return Ok(()),
            "PING" => writing.write_all(b"PONG\r\n").await?,
            other => bail!("NATS: {other}"),
        }
    }
}

/// Subscribes, with a consumer for each subscription if it is JetStream; returns when all are in place.
pub(super) async fn open(arguments: &Arguments, readers: &mut Readers) -> anyhow::Result<()> {
    let mut administration = match arguments.protocol {
        Protocol::JetStream => Some(JetStream::create_stream(arguments).await?),
        _ => None,
    };
    for number in 0..arguments.connections {
        let (mut reading, mut writing) = hello(connect(arguments.address, number).await?).await?;
        let mut next = HashMap::new();
        for stream in (number..arguments.streams).step_by(arguments.connections) {
            let subject = match administration {
                Some(_) => format!("to.{stream}"),
                None => SUBJECT.to_owned(),
            };
            writing.write_all(format!("SUB {subject} {stream}\r\n").as_bytes()).await?;
            next.insert(stream, None);
        }
        settled(&mut reading, &mut writing).await?;
        for stream in next.keys() {
            if let Some(administration) = &mut administration {
                administration.create_consumer(*stream).await?;
            }
        }
        readers.spawn(read(reading, Messages { next, writing }, readers.tally()));
    }
    Ok(())
}

/// The messages of a connection, by subscription.
struct Messages {
    next: HashMap<usize, Option<u64>>,
    writing: OwnedWriteHalf,
}

impl Parse for Messages {
    fn parse(&mut self, bytes: &[u8]) -> anyhow::Result<(usize, u64)> {
        let (mut passed, mut events) = (0, 0);
        while let Some(rest) = bytes.get(passed..)
            && let Some(end) = rest.iter().position(|&byte| byte == b'\n')
        {
            let line = std::str::from_utf8(rest.get(..end).unwrap_or_default())?.trim_end();
            if !line.starts_with("MSG ") {
                ensure!(line == "PING", "NATS: {line}");
                // A few bytes once in minutes: there is room for them.
                self.writing.try_write(b"PONG\r\n")?;
                passed += end + 1;
                continue;
            }
            // MSG subject subscription [reply] length
            let mut words = line.split(' ').skip(2);
            let stream: usize = words.next().context("a subscription")?.parse()?;
            let length: usize = words.last().context("a length")?.parse()?;
            let Some(payload) = rest.get(end + 1..end + 1 + length + 2) else { break };
            let next = self.next.get_mut(&stream).context("another's subscription")?;
            check(payload.get(..length).unwrap_or_default(), next)?;
            passed += end + 1 + length + 2;
            events += 1;
        }
        Ok((passed, events))
    }
}

/// Publishes events; to JetStream without asking for acknowledgements.
pub(super) struct Publisher {
    reading: BufReader<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl Publisher {
    /// On a connection of its own.
    pub(super) async fn connect(arguments: &Arguments) -> anyhow::Result<Self> {
        let (reading, writing) = hello(connect(arguments.address, arguments.connections).await?).await?;
        Ok(Self { reading, writing })
    }

    /// Events from a number on, in one piece.
    pub(super) async fn publish(&mut self, first: u64, batch: u64) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for number in first..first + batch {
            let payload = payload(number);
            write!(text, "PUB {SUBJECT} {}\r\n", payload.len())?;
            text.extend(payload);
            text.extend(b"\r\n");
        }
        self.writing.write_all(&text).await?;
        settled(&mut self.reading, &mut self.writing).await
    }
}

/// The API of JetStream: requests with an answer.
struct JetStream {
    reading: BufReader<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl JetStream {
    async fn create_stream(arguments: &Arguments) -> anyhow::Result<Self> {
        let (reading, mut writing) = hello(connect(arguments.address, arguments.connections).await?).await?;
        writing.write_all(b"SUB answers 1\r\n").await?;
        let mut this = Self { reading, writing };
        let config = serde_json::json!({
            "name": SUBJECT, "subjects": [SUBJECT], "storage": "memory", "max_bytes": 1 << 28, "no_ack": true,
        });
        this.ask(&format!("$JS.API.STREAM.CREATE.{SUBJECT}"), &config.to_string()).await?;
        Ok(this)
    }

    async fn create_consumer(&mut self, stream: usize) -> anyhow::Result<()> {
        let config = serde_json::json!({
            "stream_name": SUBJECT,
            "config": {
                "deliver_subject": format!("to.{stream}"), "deliver_policy": "new", "ack_policy": "none"
            },
        });
        self.ask(&format!("$JS.API.CONSUMER.CREATE.{SUBJECT}"), &config.to_string()).await
    }

    async fn ask(&mut self, subject: &str, body: &str) -> anyhow::Result<()> {
        let request = format!("PUB {subject} answers {}\r\n{body}\r\n", body.len());
        self.writing.write_all(request.as_bytes()).await?;
        loop {
            let mut line = String::new();
            self.reading.read_line(&mut line).await?;
            match line.trim_end() {
                "PING" => self.writing.write_all(b"PONG\r\n").await?,
                message if message.starts_with("MSG ") => {
                    let length: usize = message.rsplit(' ').next().unwrap_or_default().parse()?;
                    let mut answer = vec![0; length + 2];
                    self.reading.read_exact(&mut answer).await?;
                    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
                    ensure!(answer.get("error").is_none(), "JetStream: {answer}");
                    return Ok(());
                }
                other => bail!("NATS: {other}"),
            }
        }
    }
}
