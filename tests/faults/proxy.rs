//! A TCP proxy that delays, cuts and blackholes what passes, each direction by itself.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Where connections lead; it may change, as that of a hub does which was started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Nowhere,
    Tcp(String),
    Unix(PathBuf),
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Clear,
    /// The delay of each piece.
    Delayed(Duration),
    /// Nothing passes, not even an end; as TCP does it, what was sent arrives when the way is clear again.
    Blackhole,
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    up: Flow,
    down: Flow,
    /// Connections that were there before the last cut are closed.
    cuts: u64,
    refuses: bool,
}

/// A proxy; it ends, with its connections, when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    upstream: watch::Sender<Upstream>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (weather, _) =
            watch::channel(Weather { up: Flow::Clear, down: Flow::Clear, cuts: 0, refuses: false });
        let (upstream, _) = watch::channel(upstream);
        let task = tokio::spawn(accept(listener, weather.clone(), upstream.clone()));
        Self { address, weather, upstream, task }
    }

    pub fn lead_to(&self, upstream: Upstream) {
        self.upstream.send_replace(upstream);
    }

    /// `up`: from who connects to where the proxy leads.
    pub fn set(&self, up: Flow, down: Flow) {
        self.weather.send_modify(|weather| (weather.up, weather.down) = (up, down));
    }

    /// Closes what is connected.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.weather.send_modify(|weather| weather.refuses = refuses);
    }

    /// Everything passes again.
    pub fn clear(&self) {
        self.set(Flow::Clear, Flow::Clear);
        self.refuse(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, weather: watch::Sender<Weather>, upstream: watch::Sender<Upstream>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if !weather.borrow().refuses {
            let upstream = upstream.borrow().clone();
            connections.spawn(connect(client, upstream, weather.subscribe()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, upstream: Upstream, weather: watch::Receiver<Weather>) -> io::Result<()> {
    client.set_nodelay(true)?;
    match upstream {
        Upstream::Nowhere => {}
        Upstream::Unix(path) => carry(client, UnixStream::connect(path).await?, weather).await,
        Upstream::Tcp(address) => {
            let server = TcpStream::connect(address).await?;
            server.set_nodelay(true)?;
            carry(client, server, weather).await;
        }
    }
    Ok(())
}

/// Until either side ends or the connection is cut.
async fn carry(
    client: TcpStream,
    server: impl AsyncRead + AsyncWrite + Send,
    mut weather: watch::Receiver<Weather>,
) {
    let cuts = weather.borrow().cuts;
    let ((client_reads, client_writes), (server_reads, server_writes)) = (split(client), split(server));
    tokio::select! {
        _ = pump(client_reads, server_writes, weather.clone(), |weather| weather.up) => {}
        _ = pump(server_reads, client_writes, weather.clone(), |weather| weather.down) => {}
        _ = weather.wait_for(|weather| weather.cuts != cuts) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    flow: fn(&Weather) -> Flow,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        let now = flow(&weather.borrow());
        if let Flow::Delayed(delay) = now {
            tokio::time::sleep(delay).await;
        }
        let passable = weather.wait_for(|weather| flow(weather) != Flow::Blackhole).await.is_ok();
        if !passable || read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
