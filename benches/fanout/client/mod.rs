//! The client's process: opens streams, publishes, and counts what comes. One thread, and as little work per
//! event as checking allows.

mod etcd;
mod feed;
mod grpc;
mod nats;
mod redis;
mod tally;

use crate::{
    contender::Protocol,
    orders::{Order, Outcome, input_lines},
};
use anyhow::Context;
use feed::Feed;
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
};
use tally::Readers;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep_until},
};

/// Bytes of an event: the hub's message, a peer's payload.
pub(crate) const EVENT: usize = 172;
/// With the header that gRPC puts before a message.
pub(crate) const FRAME: usize = EVENT + crate::support::wire::HEADER;

/// Connections from one address of this machine; it has some 28,000 ports for each.
const PER_ADDRESS: usize = 8000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long, value_enum)]
    protocol: Protocol,
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    streams: usize,
    #[arg(long)]
    connections: usize,
    /// `control:ADDRESS`, `postgres:URL`, or `peer`
    #[arg(long)]
    feed: String,
    /// Open the streams, and never read from them
    #[arg(long)]
    stopped: bool,
}

/// Opens the streams and says so, then obeys.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(program(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn program(arguments: Arguments) -> anyhow::Result<()> {
    let mut readers = Readers::default();
    match arguments.protocol {
        Protocol::Watch | Protocol::Counted => grpc::open(&arguments, &mut readers).await?,
        Protocol::Bytes => open_bytes(&arguments, &mut readers).await?,
        Protocol::Etcd => etcd::open(&arguments, &mut readers).await?,
        Protocol::Nats | Protocol::JetStream => nats::open(&arguments, &mut readers).await?,
        Protocol::Redis => redis::open(&arguments, &mut readers).await?,
    }
    let mut client = Client {
        feed: Feed::connect(&arguments).await?,
        readers,
        streams: arguments.streams as u64,
        published: 0,
    };
    answer(Outcome::default())?;
    let mut orders = input_lines()?;
    // The end of its input is the end of whoever gives orders.
    while let Some(line) = orders.recv().await {
        answer(client.obey(serde_json::from_str(&line)?).await?)?;
    }
    Ok(())
}

fn answer(outcome: Outcome) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

struct Client {
    feed: Feed,
    readers: Readers,
    streams: u64,
    published: u64,
}

impl Client {
    async fn obey(&mut self, order: Order) -> anyhow::Result<Outcome> {
        let (started, before) = (Instant::now(), self.published);
        let received = self.readers.received();
        match order {
            Order::InStep { batch, appends, time } => {
                while started.elapsed() < time {
                    self.append(batch, appends).await?;
                    self.all().await?;
                }
            }
            Order::Trickle { batch, appends, every } => {
                for tick in 0..appends {
                    self.readers.while_reading(sleep_until(started + every * u32::try_from(tick)?)).await?;
                    self.append(batch, 1).await?;
                }
                self.all().await?;
            }
            Order::Flood { batch, appends } => self.append(batch, appends).await?,
        }
        Ok(Outcome {
            events: self.published - before,
            deliveries: self.readers.received() - received,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn append(&mut self, batch: u64, appends: u64) -> anyhow::Result<()> {
        self.feed.publish(self.published, batch, appends).await?;
        self.published += batch * appends;
        Ok(())
    }

    async fn all(&mut self) -> anyhow::Result<()> {
        self.readers.all_have(self.published * self.streams).await
    }
}

/// The `number`-th connection of this client, from an address of its own for every few thousand.
async fn connect(address: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let attempt = async {
        let socket = TcpSocket::new_v4()?;
        if let Ok(block @ 1..) = u8::try_from(number / PER_ADDRESS) {
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, block, 1), 0)))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        std::io::Result::Ok(stream)
    };
    attempt.await.with_context(|| format!("connection {number}"))
}

/// What reads a protocol without streams.
trait Parse: Send + 'static {
    /// Passes what is complete; returns how many bytes that was, and how many events.
    fn parse(&mut self, bytes: &[u8]) -> anyhow::Result<(usize, u64)>;
}

/// Reads a connection for ever.
async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut parser: impl Parse,
    tally: tally::Tally,
) -> anyhow::Result<()> {
    let mut buffer = bytes::BytesMut::with_capacity(64 * 1024);
    loop {
        buffer.reserve(16 * 1024);
        anyhow::ensure!(stream.read_buf(&mut buffer).await? > 0, "the server has closed the connection");
        let (passed, events) = parser.parse(&buffer)?;
        bytes::Buf::advance(&mut buffer, passed);
        tally.add(events);
    }
}

/// Bytes, with the number that makes one event.
struct Bytes;

impl Parse for Bytes {
    fn parse(&mut self, bytes: &[u8]) -> anyhow::Result<(usize, u64)> {
        let events = bytes.len() / FRAME;
        Ok((events * FRAME, events as u64))
    }
}

async fn open_bytes(arguments: &Arguments, readers: &mut Readers) -> anyhow::Result<()> {
    for number in 0..arguments.connections {
        let mut stream = connect(arguments.address, number).await?;
        // The server says that it counts from here on.
        stream.read_u8().await?;
        readers.spawn(read(stream, Bytes, readers.tally()));
    }
    Ok(())
}

/// Payloads carry their number in their first eight bytes.
fn payload(number: u64) -> [u8; EVENT] {
    let mut payload = [b'.'; EVENT];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    payload
}

/// That a payload is the next one.
fn check(payload: &[u8], next: &mut Option<u64>) -> anyhow::Result<()> {
    let number = payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).context("a short payload")?;
    anyhow::ensure!(payload.len() == EVENT, "a payload of {} bytes", payload.len());
    anyhow::ensure!(next.is_none_or(|next| next == number), "number {number} instead of {next:?}");
    *next = Some(number + 1);
    Ok(())
}
