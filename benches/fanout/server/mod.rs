//! The server's process: one of the designs behind the hub's own server loop, and a socket on which it is
//! told to append.

mod ceilings;
mod events;
mod head;
mod hub;
mod own_loop;
mod queues;
mod tcp;
mod watch;

use crate::{contender::Contender, orders::input_lines, process::Addresses};
use anyhow::{Context, bail};
use own_loop::OwnLoop;
pub(crate) use own_loop::Scheduling;
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
    time::Duration,
};
use trex::{
    faces::grpc::Grpc,
    health::Health,
    server::{self, Calls, ConnectionLimits, Server},
    telemetry::Metrics,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(value_enum)]
    contender: Contender,
    /// Threads that serve connections [default: one per processor]
    #[arg(long)]
    lanes: Option<usize>,
    /// Bytes that a stream may have waiting in user space
    #[arg(long, default_value_t = 64 * 1024)]
    send_buffer: usize,
    /// A loop of the bench's own instead of the hub's, scheduled so
    #[arg(long, value_enum)]
    own_loop: Option<Scheduling>,
    /// Leave Nagle's algorithm on; in the bench's own loop
    #[arg(long, requires = "own_loop")]
    nagle: bool,
}

/// Takes events.
trait Feed: Send {
    /// Appends this many at once.
    fn append(&mut self, events: u64) -> anyhow::Result<()>;
}

/// Serves until its input ends.
pub(crate) async fn program(arguments: Arguments) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new([crate::support::broker::KIND])?);
    let limits =
        ConnectionLimits { streams: 1024, send_buffer: arguments.send_buffer, ..ConnectionLimits::default() };
    let lanes = arguments.lanes.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let listeners = server::bind("address", "127.0.0.1:0").await?;
    let streams = listeners.first().context("a listener")?.local_addr()?.to_string();
    let mut grpc = Grpc::new(4 << 20);
    let feed: Box<dyn Feed> = match arguments.contender {
        Contender::Hub => hub::serve(&mut grpc, &metrics)?,
        Contender::Body => ceilings::body(&mut grpc),
        Contender::Tonic => ceilings::tonic(&mut grpc),
        Contender::QueueOnce => queues::encoded_once(&mut grpc)?,
        Contender::QueueEach => queues::encoded_for_each(&mut grpc)?,
        Contender::Tcp => tcp::serve(&listeners, lanes)?,
        other => bail!("{} is no server of this program", other.name()),
    };
    let (face, _report) = grpc.finish(Arc::new(Health::default()), metrics).await?;
    let _loop: Box<dyn std::any::Any> = match (arguments.contender, arguments.own_loop) {
        (Contender::Tcp, _) => Box::new(()),
        (_, Some(scheduling)) => {
            let own = OwnLoop { face, scheduling, lanes, limits, nodelay: !arguments.nagle };
            Box::new(own.start(listeners)?)
        }
        (_, None) => {
            let calls = Calls::new(face, Duration::from_secs(30));
            Box::new(Server::start(listeners, None, &calls, lanes, limits, Duration::ZERO)?)
        }
    };
    let control = TcpListener::bind("127.0.0.1:0")?;
    println!(
        "{}",
        serde_json::to_string(&Addresses { streams, control: control.local_addr()?.to_string() })?
    );
    thread::Builder::new().name("publisher".into()).spawn(move || {
        if let Err(error) = obey(&control, feed) {
            eprintln!("server: {error:#}");
        }
    })?;
    // The end of its input is the end of whoever started it.
    let mut input = input_lines()?;
    while input.recv().await.is_some() {}
    Ok(())
}

/// Appends as its one client says: how many events, and how often.
fn obey(control: &TcpListener, mut feed: Box<dyn Feed>) -> anyhow::Result<()> {
    let (client, _) = control.accept()?;
    client.set_nodelay(true)?;
    let number = || -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        (&client).read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    };
    while let Ok(events) = number() {
        for _ in 0..number()? {
            feed.append(events)?;
        }
        // No matter if the client is gone by now.
        let _ = (&client).write(&[1]);
    }
    Ok(())
}
