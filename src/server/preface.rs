//! A client that connects and does not send the HTTP/2 preface is not waited for: the protocol pings a client
//! only after its preface.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// `PRI * HTTP/2.0…`, with which a client begins.
const BYTES: usize = 24;
/// How long after the connection it must have arrived.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// What is awaited of a client; nothing, once it has arrived.
pub(super) struct Preface(Option<(usize, Pin<Box<Sleep>>)>);

impl Preface {
    pub(super) fn within(limit: Duration) -> Self {
        Self(Some((BYTES, Box::pin(sleep(limit)))))
    }

    /// This many more bytes have arrived.
    pub(super) fn came(&mut self, bytes: usize) {
        if let Some((missing, _)) = &mut self.0 {
            *missing = missing.saturating_sub(bytes);
            if *missing == 0 {
                self.0 = None;
            }
        }
    }

    /// While nothing arrives: an error if it is too late, or when it will be.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some((_, limit)) = &mut self.0 else { return Poll::Pending };
        ready!(limit.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface"))
    }
}

/// A stream inside another, whose client must begin as well.
pub(super) struct Awaiting<T> {
    stream: T,
    preface: Preface,
}

impl<T> Awaiting<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, preface: Preface::within(LIMIT) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Awaiting<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => this.preface.poll_late(cx).map(Err),
            read => {
                this.preface.came(buffer.filled().len() - before);
                read
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Awaiting<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn only_who_has_begun_may_be_silent() {
        let mut limit = Box::pin(sleep(Duration::ZERO));
        limit.as_mut().await;
        let mut preface = Preface(Some((BYTES, limit)));
        preface.came(BYTES - 1);
        let late = poll_fn(|cx| Poll::Ready(preface.poll_late(cx))).await;
        assert!(late.is_ready());
        preface.came(1);
        let late = poll_fn(|cx| Poll::Ready(preface.poll_late(cx))).await;
        assert!(late.is_pending());
    }
}
