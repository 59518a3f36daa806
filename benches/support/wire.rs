//! A light watcher: it counts events and looks at every revision, and decodes nothing else. Some twenty times
//! cheaper than a generated client, so that on a machine that it shares with the server it is the server that
//! is measured.

use super::PATIENCE;
use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The method that is watched.
pub const WATCH: &str = "/rh_trex.v1.DinosaurService/WatchDinosaurs";

/// Bytes of a gRPC message's header.
pub const HEADER: usize = 5;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// What is told of every event: its revision.
pub type Observer = Box<dyn FnMut(u64) + Send>;

/// Streams that are read until this is dropped, on threads of their own.
pub struct Watchers {
    counts: Vec<Arc<AtomicU64>>,
    failures: mpsc::UnboundedReceiver<anyhow::Error>,
    stop: CancellationToken,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Watchers {
    /// Opens `streams` streams on `connections` connections; returns when all have their response headers.
    pub async fn start(
        address: &str,
        path: &'static str,
        (streams, connections): (usize, usize),
        observer: impl Fn(usize) -> Observer,
    ) -> anyhow::Result<Self> {
        let counts: Vec<_> = (0..streams).map(|_| Arc::<AtomicU64>::default()).collect();
        let (failed, failures) = mpsc::unbounded_channel();
        let (opened, mut openings) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let mut groups: Vec<Vec<Watcher>> = (0..connections).map(|_| Vec::new()).collect();
        for (n, count) in counts.iter().enumerate() {
            let watcher =
                Watcher { path, count: count.clone(), observer: observer(n), opened: opened.clone() };
            groups.get_mut(n % connections).context("a connection")?.push(watcher);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (address, stopped) = (address.to_owned(), stop.clone());
        let thread = std::thread::Builder::new().name("watchers".into()).spawn(move || {
            runtime.block_on(stopped.run_until_cancelled(read_all(address, groups, failed)));
        })?;
        let mut watchers = Self { counts, failures, stop, threads: vec![thread] };
        for _ in 0..streams {
            tokio::select! {
                _ = openings.recv() => {}
                failure = watchers.failures.recv() => bail!(failure.context("the watchers ended")?),
            }
        }
        Ok(watchers)
    }

    /// Events that each stream has had.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Acquire)).collect()
    }

    /// Waits until every stream has had exactly this many.
    pub async fn expect(&mut self, events: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.counts().iter().any(|&count| count < events) {
            if let Ok(failure) = self.failures.try_recv() {
                return Err(failure);
            }
            ensure!(Instant::now() < deadline, "{events} events expected, counted: {:?}", self.counts());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ensure!(self.counts().iter().all(|&count| count == events), "too many events: {:?}", self.counts());
        Ok(())
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

async fn read_all(address: String, groups: Vec<Vec<Watcher>>, failed: mpsc::UnboundedSender<anyhow::Error>) {
    let mut tasks = JoinSet::new();
    for group in groups {
        match connect(&address).await {
            Ok(connection) => {
                group.into_iter().for_each(|watcher| drop(tasks.spawn(watcher.read(connection.clone()))));
            }
            Err(error) => drop(failed.send(error)),
        }
    }
    while let Some(outcome) = tasks.join_next().await {
        let _ = failed.send(match outcome {
            Ok(Err(error)) => error,
            Ok(Ok(())) => anyhow::anyhow!("a stream has ended"),
            Err(error) => error.into(),
        });
    }
}

type Sender = h2::client::SendRequest<Bytes>;

async fn connect(address: &str) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

struct Watcher {
    path: &'static str,
    count: Arc<AtomicU64>,
    observer: Observer,
    opened: mpsc::UnboundedSender<()>,
}

impl Watcher {
    async fn read(mut self, connection: Sender) -> anyhow::Result<()> {
        let mut body = self.open(connection).await?;
        self.opened.send(())?;
        let (mut frames, mut last) = (Frames::default(), 0);
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            let mut events = 0;
            frames.feed(chunk, |message| {
                let revision = revision_of(message).context("an event without a revision")?;
                ensure!(revision > last, "revision {revision} after {last}");
                last = revision;
                events += 1;
                (self.observer)(revision);
                Ok(())
            })?;
            self.count.fetch_add(events, Ordering::Release);
        }
        bail!("the stream has ended: {:?}", body.trailers().await?)
    }

    /// A request with an empty message.
    async fn open(&mut self, connection: Sender) -> anyhow::Result<h2::RecvStream> {
        let request = http::Request::post(format!("http://localhost{}", self.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut sending) = connection.ready().await?.send_request(request, false)?;
        sending.send_data(Bytes::from_static(&[0; HEADER]), true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "{response:?}");
        ensure!(!response.headers().contains_key("grpc-status"), "refused: {:?}", response.headers());
        Ok(response.into_body())
    }
}

/// Messages out of data frames, which end anywhere.
#[derive(Default)]
pub struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Shows every message that is complete now.
    pub fn feed(
        &mut self,
        chunk: Bytes,
        mut message: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let joined;
        let mut bytes: &[u8] = if self.rest.is_empty() {
            &chunk
        } else {
            self.rest.extend_from_slice(&chunk);
            joined = std::mem::take(&mut self.rest);
            &joined
        };
        while let Some((header, rest)) = bytes.split_at_checked(HEADER) {
            let length = header.get(1..).unwrap_or_default().get_u32() as usize;
            let Some((one, rest)) = rest.split_at_checked(length) else { break };
            message(one)?;
            bytes = rest;
        }
        self.rest = bytes.to_vec();
        Ok(())
    }
}

/// Field 4 of a watch event.
pub fn revision_of(message: &[u8]) -> Option<u64> {
    Fields(message).find_map(|field| match field {
        (4, Field::Number(revision)) => Some(revision),
        _ => None,
    })
}

/// What a field of a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number.
    Number(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, numbered; it ends where something does not decode.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = varint(&mut self.0)?;
        let value = varint(&mut self.0)?;
        let field = match tag & 7 {
            0 => Field::Number(value),
            2 => {
                let (bytes, rest) = self.0.split_at_checked(usize::try_from(value).ok()?)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
