//! What a connection writes while it is polled leaves in one piece. HTTP/2 writes each data frame (16 KiB, as
//! peers accept by default) separately, and a write costs the kernel about the same whether it carries 16 KiB
//! or 64: copying is the cheaper part.

use super::preface::{self, Preface};
use parking_lot::Mutex;
use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Bytes that wait for the end of a poll. Only a connection whose socket is full holds them for longer.
const CAPACITY: usize = 64 * 1024;

thread_local! {
    /// Buffers between two uses: a connection with nothing waiting has none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes on their way out of a connection.
pub(super) struct Outbox(Arc<Mutex<State>>);

/// A connection's bytes, both ways.
pub(super) struct Io {
    reading: OwnedReadHalf,
    preface: Preface,
    outbox: Arc<Mutex<State>>,
}

struct State {
    writing: OwnedWriteHalf,
    waiting: Vec<u8>,
    /// How many of them were written.
    sent: usize,
    /// Within a poll of the connection: a flush may wait for its end.
    polling: bool,
    /// An error at the end of a poll, to be reported in the next.
    failure: Option<io::Error>,
}

/// Splits a connection.
pub(super) fn divide(stream: TcpStream) -> (Io, Outbox) {
    let (reading, writing) = stream.into_split();
    let state = State { writing, waiting: Vec::new(), sent: 0, polling: false, failure: None };
    let outbox = Arc::new(Mutex::new(state));
    let preface = Preface::within(preface::LIMIT);
    (Io { reading, preface, outbox: outbox.clone() }, Outbox(outbox))
}

impl Outbox {
    /// Runs the future that reads and writes the connection. At the end of each poll, what it has written
    /// goes out.
    pub(super) fn serve<T>(self, mut connection: impl Future<Output = T> + Unpin) -> impl Future<Output = T> {
        poll_fn(move |cx| {
            self.0.lock().polling = true;
            let polled = Pin::new(&mut connection).poll(cx);
            let mut state = self.0.lock();
            state.polling = false;
            if let Poll::Ready(Err(error)) = state.poll_drain(cx) {
                state.failure = Some(error);
                cx.waker().wake_by_ref();
            }
            polled
        })
    }
}

impl State {
    fn poll_put(&mut self, parts: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(error));
        }
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.waiting.len() + length > CAPACITY {
            ready!(self.poll_drain(cx))?;
            if length > CAPACITY {
                return Pin::new(&mut self.writing).poll_write_vectored(cx, parts);
            }
        }
        if self.waiting.capacity() == 0 {
            // No larger than needed: a new connection's first bytes wait until its socket is writable, and
            // there may be thousands of those.
            self.waiting = SPARE.take();
        }
        parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
        Poll::Ready(Ok(length))
    }

    /// Gives everything to the kernel.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.writing).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.sent = 0;
        if self.waiting.capacity() > 0 {
            let mut spare = std::mem::take(&mut self.waiting);
            spare.clear();
            let other = SPARE.take();
            SPARE.set(if spare.capacity() > other.capacity() { spare } else { other });
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.failure.take() {
            Some(error) => Poll::Ready(Err(error)),
            None if self.polling => Poll::Ready(Ok(())),
            None => self.poll_drain(cx),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.reading).poll_read(cx, buffer) {
            Poll::Pending => self.preface.poll_late(cx).map(Err),
            read => {
                self.preface.came(buffer.filled().len() - before);
                read
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outbox.lock().poll_put(&[IoSlice::new(bytes)], cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outbox.lock().poll_put(parts, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.lock().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.outbox.lock();
        ready!(state.poll_drain(cx))?;
        Pin::new(&mut state.writing).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::oneshot,
    };

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn everything_arrives_in_order_however_slow_the_reader() {
        const PIECES: u32 = 20_000;
        let (mut client, server) = pair().await;
        let (mut io, outbox) = divide(server);
        let (begun, reading) = oneshot::channel();
        let writer = tokio::spawn(outbox.serve(Box::pin(async move {
            let _ = begun.send(());
            for piece in 0..PIECES {
                // Small ones, some of a data frame's size, and a few that are larger than what may wait.
                let length = [4, 4, 200, 16 * 1024, if piece % 1000 == 0 { 100_000 } else { 8 }];
                let mut bytes = vec![0; length[piece as usize % length.len()]];
                bytes[..4].copy_from_slice(&piece.to_be_bytes());
                let header = (bytes.len() as u32).to_be_bytes();
                io.write_all(&header).await.unwrap();
                io.write_all(&bytes).await.unwrap();
                io.flush().await.unwrap();
            }
            io.shutdown().await.unwrap();
        })));
        reading.await.unwrap();
        for piece in 0..PIECES {
            let length = client.read_u32().await.unwrap() as usize;
            let mut bytes = vec![0; length];
            client.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes[..4], piece.to_be_bytes());
            if piece % 500 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_poll_is_one_write_and_leaves_no_memory() {
        let (mut client, server) = pair().await;
        let (mut io, outbox) = divide(server);
        let state = outbox.0.clone();
        let mut written = false;
        let serving = outbox.serve(poll_fn(move |cx| {
            if written {
                return Poll::Ready(());
            }
            written = true;
            for _ in 0..3 {
                assert!(Pin::new(&mut io).poll_write(cx, b"abc").is_ready());
                assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
            }
            assert_eq!(io.outbox.lock().waiting, b"abcabcabc", "nothing left yet");
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        serving.await;
        assert_eq!(state.lock().waiting.capacity(), 0);
        let mut bytes = [0; 9];
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"abcabcabc");
    }

    #[tokio::test]
    async fn a_client_that_does_not_begin_is_not_waited_for() {
        let (mut client, server) = pair().await;
        let (mut io, _outbox) = divide(server);
        io.preface = Preface::within(Duration::from_millis(1));
        client.write_all(&[0; 23]).await.unwrap();
        io.read_exact(&mut [0; 23]).await.unwrap();
        assert_eq!(io.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_failure_is_told_in_the_next_poll() {
        let (client, server) = pair().await;
        let (mut io, outbox) = divide(server);
        drop(client);
        let serving = outbox.serve(Box::pin(async move {
            loop {
                if let Err(error) = io.write_all(b"abc").await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        }));
        let error = serving.await;
        assert!(
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
            "{error}"
        );
    }
}
