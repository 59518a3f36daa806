//! A server loop with what the hub's leaves no choice about, to show what those choices do: how it is
//! scheduled, and Nagle's algorithm.

use clap::ValueEnum;
use http::Response;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, net::TcpListener, thread};
use tokio::{net::TcpStream, runtime::Builder, sync::mpsc, task::JoinSet};
use trex::{
    call::Call,
    faces::grpc::{GrpcBody, GrpcFace},
    server::{ConnectionLimits, Service},
};

/// Who polls what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheduling {
    /// A thread with a current-thread runtime per processor
    Lanes,
    /// One runtime that steals work
    Stealing,
}

/// What to serve, and how.
pub(super) struct OwnLoop {
    pub(super) face: GrpcFace,
    pub(super) scheduling: Scheduling,
    pub(super) lanes: usize,
    pub(super) limits: ConnectionLimits,
    pub(super) nodelay: bool,
}

type Accepted = mpsc::UnboundedReceiver<std::net::TcpStream>;

impl OwnLoop {
    /// Serves until the process ends.
    pub(super) fn start(self, listeners: Vec<TcpListener>) -> anyhow::Result<JoinSet<()>> {
        let (threads, workers) = match self.scheduling {
            Scheduling::Lanes => (self.lanes, None),
            Scheduling::Stealing => (1, Some(self.lanes)),
        };
        let mut senders = Vec::new();
        for _ in 0..threads {
            let (sender, accepted) = mpsc::unbounded_channel();
            let runtime = match workers {
                None => Builder::new_current_thread().enable_all().build()?,
                Some(workers) => Builder::new_multi_thread().worker_threads(workers).enable_all().build()?,
            };
            let serving = serve(accepted, self.face.clone(), self.limits, self.nodelay);
            thread::Builder::new().name("lane".into()).spawn(move || {
                // Spawned, so that it is the workers who serve.
                let _ = runtime.block_on(async move { tokio::spawn(serving).await });
            })?;
            senders.push(sender);
        }
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let senders = senders.clone();
            acceptors.spawn(async move {
                let mut turn = senders.iter().cycle();
                while let (Ok((stream, _)), Some(lane)) = (listener.accept().await, turn.next()) {
                    let _ = stream.into_std().map(|stream| lane.send(stream));
                }
            });
        }
        Ok(acceptors)
    }
}

async fn serve(mut accepted: Accepted, face: GrpcFace, limits: ConnectionLimits, nodelay: bool) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_send_buf_size(limits.send_buffer)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive);
    let mut connections = JoinSet::new();
    while let Some(stream) = accepted.recv().await {
        let stream = stream.set_nodelay(nodelay).and_then(|()| TcpStream::from_std(stream));
        let Ok(stream) = stream else { continue };
        let face = face.clone();
        let service = service_fn(move |request| answer(face.clone(), request));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}

/// As the hub's server does, without what it knows of a call.
async fn answer(face: GrpcFace, request: hyper::Request<Incoming>) -> Result<Response<GrpcBody>, Infallible> {
    Ok(face.answer(&Call::default(), request).await)
}
