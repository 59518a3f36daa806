//! TLS to Postgres, with the meaning that libpq gives to each `ssl…` parameter.
//!
//! The driver knows three modes and asks the server itself whether it speaks TLS. Here it is told to begin
//! the handshake at once, and the [`Connector`] asks instead: so every refusal says what helps, and `prefer`
//! goes on in plain text on the same socket.

mod fault;
mod settings;
mod stream;
mod verify;

pub(super) use fault::TlsFault;
pub(super) use settings::{Mode, PARAMETERS, Security};
pub(super) use stream::PostgresStream;

use fault::Context;
use rustls::ClientConfig;
use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_postgres::{
    Socket,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A server that has taken the connection answers a handshake within this time.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Asks a server whether it speaks TLS: a length, and a number that is no version of the protocol.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Makes the sessions of one [`Security`].
#[derive(Clone)]
pub(super) struct Connector {
    /// `None`: no TLS.
    rustls: Option<MakeRustlsConnect>,
    /// Whether a server without TLS is accepted as well.
    optional: bool,
    /// Whether the handshake begins without a request (`sslnegotiation=direct`).
    direct: bool,
    context: Arc<Context>,
}

impl Connector {
    fn new(config: ClientConfig, optional: bool, direct: bool, context: Context) -> Self {
        Self { rustls: Some(MakeRustlsConnect::new(config)), optional, direct, context: Arc::new(context) }
    }

    /// For connections that are all in plain text.
    pub(super) fn none() -> Self {
        let context = Context { roots: String::new(), direct: false };
        Self { rustls: None, optional: true, direct: false, context: Arc::new(context) }
    }

    async fn handshake(self, host: String, mut socket: Socket) -> Result<PostgresStream, TlsFault> {
        let Some(mut rustls) = self.rustls else { return Ok(PostgresStream::Plain(socket)) };
        if !self.direct {
            let asked = async {
                socket.write_all(&SSL_REQUEST).await?;
                socket.read_u8().await
            };
            match asked.await.map_err(|error| self.context.explain(&host, &error))? {
                b'S' => {}
                b'N' if self.optional => return Ok(PostgresStream::Plain(socket)),
                b'N' => return Err(TlsFault::NotSpoken),
                _ => return Err(TlsFault::NoPostgres),
            }
        }
        let connect = match MakeTlsConnect::<Socket>::make_tls_connect(&mut rustls, &host) {
            Ok(connect) => connect,
            Err(never) => match never {},
        };
        match connect.connect(socket).await {
            Ok(stream) => Ok(PostgresStream::Tls(Box::new(stream), self.context)),
            Err(error) => Err(self.context.explain(&host, &error)),
        }
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = PostgresStream;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        Ok(Handshake { connector: self.clone(), host: host.to_owned() })
    }
}

/// A handshake to make.
pub(super) struct Handshake {
    connector: Connector,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = PostgresStream;
    type Error = TlsFault;
    type Future = Pin<Box<dyn Future<Output = Result<PostgresStream, TlsFault>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let handshake = self.connector.handshake(self.host, socket);
            timeout(HANDSHAKE_LIMIT, handshake).await.unwrap_or(Err(TlsFault::Silent))
        })
    }
}
