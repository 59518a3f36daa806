//! A connection to Postgres, encrypted or not.

use super::fault::Context;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsStream},
};
use tokio_postgres_rustls::MakeRustlsConnect;

type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The result of a handshake, or of its refusal.
pub(crate) enum PostgresStream {
    /// The server speaks no TLS, and that was allowed.
    Plain(Socket),
    /// Boxed: its buffers make it far larger than a socket.
    Tls(Box<Encrypted>, Arc<Context>),
}

impl TlsStream for PostgresStream {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Tls(stream, _) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for PostgresStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            // With TLS 1.3 a server judges the client's certificate only after the handshake.
            Self::Tls(stream, context) => Pin::new(stream)
                .poll_read(cx, buffer)
                .map_err(|error| context.refusal(&error).map_or(error, io::Error::other)),
        }
    }
}

impl AsyncWrite for PostgresStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
