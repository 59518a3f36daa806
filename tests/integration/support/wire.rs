//! Calls below the generated client: bytes that no encoder would write, and deadlines that only the hub keeps.

use super::TestHub;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::StatusExt;
use trex::proto::rh_trex::v1::dinosaur_service_client::DinosaurServiceClient;

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A unary call of the dinosaurs' service with these bytes as its message.
pub async fn call(hub: &TestHub, method: &str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
    call_with(Grpc::new(hub.channel().await), method, message.into()).await
}

/// The same, compressed.
pub async fn call_compressed(
    hub: &TestHub,
    method: &str,
    message: impl Into<Bytes>,
) -> Result<Bytes, Status> {
    let grpc = Grpc::new(hub.channel().await).send_compressed(CompressionEncoding::Gzip);
    call_with(grpc, method, message.into()).await
}

async fn call_with(
    mut grpc: Grpc<tonic::transport::Channel>,
    method: &str,
    message: Bytes,
) -> Result<Bytes, Status> {
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(format!("/rh_trex.v1.DinosaurService/{method}")).expect("a path");
    grpc.unary(Request::new(message), path, Raw).await.map(tonic::Response::into_inner)
}

/// A client that sends `grpc-timeout` and does not keep it: who answers in time is the hub.
pub async fn client_without_clock(
    hub: &TestHub,
) -> DinosaurServiceClient<
    impl GrpcService<Body, ResponseBody = hyper::body::Incoming, Error = hyper::Error> + use<>,
> {
    let address = hub.app().addresses().grpc.clone().expect("gRPC is served");
    let stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let send = tower::service_fn(move |request: http::Request<Body>| sender.clone().send_request(request));
    DinosaurServiceClient::with_origin(send, format!("http://{address}").parse().expect("a URL"))
}

/// The reason of an error, which every error of the hub carries.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "trex.hub");
    info.reason
}

/// The fields that an error complains of.
pub fn violations(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest: {status:?}"));
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}
