//! The hub's call, answered by something else: by a body, or by messages through tonic's encoder.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use std::{
    convert::Infallible,
    future::ready,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService},
};
use tower::Service;
use trex::{faces::grpc::Bounded, proto::rh_trex::v1::DinosaurWatchEvent};

/// Answers with what a function makes of the request.
#[derive(Clone)]
pub(super) struct Watch<F>(pub(super) F);

impl<F> NamedService for Watch<F> {
    const NAME: &'static str = "rh_trex.v1.DinosaurService";
}

impl<F> Bounded for Watch<F> {
    fn bounded(self, _: usize) -> Self {
        self
    }
}

impl<F, R> Service<http::Request<Body>> for Watch<F>
where
    F: FnMut(http::Request<Body>) -> R,
    R: Future<Output = http::Response<Body>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = (self.0)(request);
        Box::pin(async move { Ok(response.await) })
    }
}

/// Answers with messages, as a generated service does.
pub(super) async fn encode<S, T>(messages: S, request: http::Request<Body>) -> http::Response<Body>
where
    S: Stream<Item = Result<T, Status>> + Send + 'static,
    T: Write,
{
    let mut messages = Some(messages);
    let service = tower::service_fn(move |_: Request<()>| {
        let messages = messages.take().ok_or_else(|| Status::internal("asked twice"));
        ready(messages.map(Response::new))
    });
    Grpc::new(Plain(PhantomData)).server_streaming(service, request).await
}

/// A message of an answer.
pub(super) trait Write: Send + Sync + 'static {
    /// Its bytes.
    fn write(&self, buffer: &mut EncodeBuf<'_>) -> Result<(), Status>;
}

/// Encoded before.
impl Write for Bytes {
    fn write(&self, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(self);
        Ok(())
    }
}

/// Encoded now.
impl Write for Arc<DinosaurWatchEvent> {
    fn write(&self, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Requests are not looked at.
struct Plain<T>(PhantomData<fn() -> T>);

impl<T: Write> Codec for Plain<T> {
    type Encode = T;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<T: Write> Encoder for Plain<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.write(buffer)
    }
}

impl<T: Write> Decoder for Plain<T> {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}
