//! Connections are served by lanes: a thread with a current-thread runtime each. Such a runtime polls in the
//! order of waking, so the streams of a connection hand over their frames before the connection's task writes
//! them in one go ([`outbox`]), and a connection's streams never contend for it from two threads.

use super::{
    age::Age,
    bind::ACCEPT_PAUSE,
    call::Calls,
    face::Service,
    outbox::{self, Outbox},
    preface::Awaiting,
    tls::{Tls, Turnstile, peer_certificate},
};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use std::{
    fmt::Display,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Bounds on what one connection may hold.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Streams at a time.
    pub streams: u32,
    /// Bytes that a stream's frames may wait in user space while the client takes none. hyper's own default
    /// is 400 KiB.
    pub send_buffer: usize,
    /// A silent client is pinged this often, and has as long again to answer.
    pub keepalive: Duration,
    /// A connection may become this old; `None`: as old as it likes.
    pub max_age: Option<Duration>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { streams: 1024, send_buffer: 64 * 1024, keepalive: Duration::from_secs(20), max_age: None }
    }
}

/// A client of HTTP/1.1 sends a request's headers within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's headers.
const HEADER_BYTES: u32 = 16 * 1024;
/// Bytes that a connection of HTTP/1.1 buffers of what its client sends; a request's head must fit.
const READ_BUFFER: usize = 64 * 1024;
/// What a client may send ahead, in bytes: on a stream, and on all streams of a connection. A bulk stream
/// that waits for the database fills the former; the latter leaves room for the calls beside it.
///
/// The HTTP/2 library also takes half of the latter as its budget for small frames that were not read yet,
/// one of `n` bytes, `n` below 256, costing `256 - n`, and closes a connection that exceeds it. Many clients
/// send each message in a frame of its own, so the budget must cover some streams that are full of the
/// smallest ones.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 16 << 20;

type Accepted = (TcpStream, SocketAddr);

/// The acceptors and the lanes.
pub struct Server {
    lanes: Vec<JoinHandle<()>>,
    acceptors: JoinSet<()>,
    stop: CancellationToken,
}

impl Server {
    /// Serves on these listeners, in plain text without `tls`. A stop waits at most `drain` for calls in
    /// progress.
    pub fn start<S: Service>(
        listeners: Vec<TcpListener>,
        tls: Option<Arc<Tls>>,
        calls: &Calls<S>,
        lanes: usize,
        limits: ConnectionLimits,
        drain: Duration,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for number in 0..lanes.max(1) {
            let (sender, accepted) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let lane = Lane { calls: calls.clone(), tls: tls.clone(), limits, drain, stop: stop.clone() };
            let thread = thread::Builder::new().name(format!("lane-{number}"));
            threads.push(thread.spawn(move || {
                runtime.block_on(lane.serve(accepted));
                // What still runs has used up its time.
                runtime.shutdown_background();
            })?);
            senders.push(sender);
        }
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (senders, stop) = (senders.clone(), stop.clone());
            acceptors.spawn(async move {
                stop.run_until_cancelled(accept(listener, senders)).await;
            });
        }
        Ok(Self { lanes: threads, acceptors, stop })
    }

    /// Accepts no more connections, lets calls in progress finish, and ends.
    pub async fn stop(mut self) -> Result<(), JoinError> {
        self.stop.cancel();
        while self.acceptors.join_next().await.is_some() {}
        tokio::task::spawn_blocking(move || {
            for lane in self.lanes {
                if lane.join().is_err() {
                    tracing::error!("a lane panicked");
                }
            }
        })
        .await
    }
}

/// Hands connections to the lanes in turn.
async fn accept(listener: tokio::net::TcpListener, lanes: Vec<mpsc::UnboundedSender<Accepted>>) {
    let mut turn = lanes.iter().cycle();
    loop {
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok(accepted) => {
                if let Some(lane) = turn.next()
                    && lane.send(accepted).is_err()
                {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One lane.
struct Lane<S> {
    calls: Calls<S>,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
    drain: Duration,
    stop: CancellationToken,
}

impl<S: Service> Lane<S> {
    async fn serve(self, mut accepted: mpsc::UnboundedReceiver<Accepted>) {
        let (builder, either) = (builder(self.limits), either(self.limits));
        let graceful = GracefulShutdown::new();
        let turnstile = Arc::new(Turnstile::new());
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                next = accepted.recv() => match next {
                    Some(next) => next,
                    None => break,
                },
                Some(_) = connections.join_next() => continue,
                () = self.stop.cancelled() => break,
            };
            // Frames are already coalesced; Nagle's algorithm would hold the last of them back.
            let stream = stream.set_nodelay(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
            let (stream, outbox) = match stream {
                Ok(stream) => outbox::divide(stream),
                Err(error) => {
                    tracing::debug!(%error, %peer, "connection");
                    continue;
                }
            };
            let age = self.limits.max_age.map(|most| Age::new(most, &self.stop));
            let watcher = age.as_ref().map_or_else(|| graceful.watcher(), Age::watcher);
            let calls = self.calls.clone().ending_with(age.as_ref().map(|age| age.terms.clone()));
            if let Some(tls) = &self.tls {
                let encrypted = Encrypted {
                    calls,
                    limits: self.limits,
                    tls: tls.clone(),
                    turnstile: turnstile.clone(),
                    watcher,
                };
                let stop = self.stop.clone();
                let served = encrypted.serve(stream, outbox, peer, stop);
                connections.spawn(bounded(age, served));
                continue;
            }
            // Boxed, too: the memory for answering is freed when the answer's body begins, which may last for
            // days.
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                Box::pin(calls.clone().call(peer, request))
            });
            let stream = TokioIo::new(stream);
            // Boxed: a future that is passed on by value takes its size again at every step.
            if S::HTTP1 {
                let connection = either.serve_connection_with_upgrades(stream, service).into_owned();
                let connection = Box::pin(watcher.watch(connection));
                connections.spawn(bounded(age, serve_one(outbox.serve(connection), peer)));
            } else {
                let connection = Box::pin(watcher.watch(builder.serve_connection(stream, service)));
                connections.spawn(bounded(age, serve_one(outbox.serve(connection), peer)));
            }
        }
        let ended = async {
            graceful.shutdown().await;
            // Those that may become old have their own.
            while self.limits.max_age.is_some() && connections.join_next().await.is_some() {}
        };
        if tokio::time::timeout(self.drain, ended).await.is_err() {
            tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
        }
    }
}

/// What an encrypted connection needs.
struct Encrypted<S> {
    calls: Calls<S>,
    limits: ConnectionLimits,
    tls: Arc<Tls>,
    turnstile: Arc<Turnstile>,
    watcher: Watcher,
}

impl<S: Service> Encrypted<S> {
    /// The handshake, and then as in plain text: TLS writes its records into the outbox, which sends them in
    /// one piece.
    async fn serve(self, stream: outbox::Io, outbox: Outbox, peer: SocketAddr, stop: CancellationToken) {
        let Self { calls, limits, tls, turnstile, watcher } = self;
        let handshake = Box::pin(turnstile.handshake(&tls, stream));
        // A drain waits for calls, not for a client that has not begun any.
        let stream = match stop.run_until_cancelled(handshake).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tracing::debug!(%error, %peer, "TLS handshake"),
            None => return,
        };
        drop(tls);
        let certificate = peer_certificate(&stream);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            Box::pin(calls.clone().call(peer, request))
        });
        let stream = TokioIo::new(Awaiting::new(stream));
        if S::HTTP1 {
            let either = either(limits);
            let connection = either.serve_connection_with_upgrades(stream, service).into_owned();
            serve_one(outbox.serve(Box::pin(watcher.watch(connection))), peer).await;
        } else {
            let connection = builder(limits).serve_connection(stream, service);
            serve_one(outbox.serve(Box::pin(watcher.watch(connection))), peer).await;
        }
    }
}

async fn bounded(age: Option<Age>, connection: impl Future<Output = ()>) {
    match age {
        Some(age) => age.bound(connection).await,
        None => connection.await,
    }
}

async fn serve_one<E: Display>(connection: impl Future<Output = Result<(), E>>, peer: SocketAddr) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, %peer, "connection");
    }
}

fn builder(limits: ConnectionLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(limits.send_buffer)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive);
    builder
}

/// The same for clients that may speak HTTP/1.1. The first bytes tell.
fn either(limits: ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut either = auto::Builder::new(TokioExecutor::new());
    either.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(READ_BUFFER);
    either
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(limits.send_buffer)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive);
    either
}
