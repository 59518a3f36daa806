//! Watches over HTTP/2: the hub's, and whatever else answers that call.

use super::{Arguments, connect, tally::Readers};
use crate::{
    contender::Protocol,
    support::wire::{Frames, HEADER, WATCH, revision_of},
};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;

/// Wide enough that it is never the client's windows that a server waits for.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// As HTTP/2 demands, and most clients have it: of a client that does not read.
const NARROW: u32 = 65_535;

/// A connection.
pub(super) type Sender = h2::client::SendRequest<Bytes>;

/// Opens HTTP/2 on a connection; its task belongs to the readers.
pub(super) async fn handshake(
    arguments: &Arguments,
    number: usize,
    readers: &mut Readers,
) -> anyhow::Result<Sender> {
    let stream = connect(arguments.address, number).await?;
    let mut builder = h2::client::Builder::new();
    let (of_stream, of_connection) =
        if arguments.stopped { (NARROW, NARROW) } else { (STREAM_WINDOW, CONNECTION_WINDOW) };
    builder.initial_window_size(of_stream).initial_connection_window_size(of_connection);
    let (sender, connection) = builder.handshake(stream).await?;
    readers.spawn(async move { connection.await.context("a connection") });
    Ok(sender)
}

/// A call whose request is one message.
pub(super) async fn call(
    sender: &Sender,
    path: &str,
    message: &[u8],
    last: bool,
) -> anyhow::Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>)> {
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut sending) = sender.clone().ready().await?.send_request(request, false)?;
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len())?.to_be_bytes());
    framed.extend(message);
    debug_assert_eq!(framed.len(), HEADER + message.len());
    sending.send_data(framed.into(), last)?;
    Ok((response, sending))
}

/// The body of an answer that is no refusal.
pub(super) async fn body(response: h2::client::ResponseFuture) -> anyhow::Result<h2::RecvStream> {
    let response = response.await?;
    ensure!(response.status() == 200, "{response:?}");
    ensure!(!response.headers().contains_key("grpc-status"), "refused: {:?}", response.headers());
    Ok(response.into_body())
}

/// Opens the watches; returns when all have their headers.
pub(super) async fn open(arguments: &Arguments, readers: &mut Readers) -> anyhow::Result<()> {
    let mut senders = Vec::new();
    for number in 0..arguments.connections {
        senders.push(handshake(arguments, number, readers).await?);
    }
    for sender in senders.iter().cycle().take(arguments.streams) {
        let (response, _) = call(sender, WATCH, &[], true).await?;
        let stream = body(response).await?;
        let (tally, checked) = (readers.tally(), arguments.protocol == Protocol::Watch);
        if arguments.stopped {
            readers.spawn(async move {
                let _held = stream;
                std::future::pending().await
            });
            continue;
        }
        let mut last = 0;
        readers.spawn(each_message(stream, move |chunk, frames| {
            let mut events = 0;
            frames.feed(chunk, |message| {
                events += 1;
                if checked {
                    let revision = revision_of(message).context("an event without a revision")?;
                    ensure!(revision > last, "revision {revision} after {last}");
                    last = revision;
                }
                Ok(())
            })?;
            tally.add(events);
            Ok(())
        }));
    }
    Ok(())
}

/// Reads a stream for ever.
pub(super) async fn each_message(
    mut stream: h2::RecvStream,
    mut take: impl FnMut(Bytes, &mut Frames) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut frames = Frames::default();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        take(chunk, &mut frames)?;
    }
    bail!("the stream has ended: {:?}", stream.trailers().await?)
}
