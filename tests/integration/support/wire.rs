//! Calls below the generated client: bytes that no encoder would write, and deadlines that only the hub
//! keeps.

use super::{NARROW, PATIENCE, TestHub};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::StatusExt;
use trex::proto::rh_trex::v1::{
    DinosaurWatchEvent, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
};

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

/// A watch whose messages are cut and not decoded, on a connection of its own that takes next to nothing that
/// is not read: a thousand of them cost little, and a slow one is slow.
pub struct RawWatch {
    /// The client's address.
    pub address: std::net::SocketAddr,
    pub headers: http::HeaderMap,
    body: hyper::body::Incoming,
    pending: BytesMut,
}

impl RawWatch {
    pub async fn start(hub: &TestHub, request: &WatchDinosaursRequest) -> Self {
        let address = hub.app().addresses().grpc.clone().expect("gRPC is served");
        let stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        let local = stream.local_addr().expect("an address");
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(NARROW)
            .initial_connection_window_size(NARROW)
            .handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        let message = request.encode_to_vec();
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).expect("a small request"));
        body.extend_from_slice(&message);
        let call = http::Request::post(format!("http://{address}/rh_trex.v1.DinosaurService/WatchDinosaurs"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .expect("a request");
        let response =
            tokio::time::timeout(*PATIENCE, sender.send_request(call)).await.expect("headers in time");
        let (parts, body) = response.expect("a response").into_parts();
        Self { address: local, headers: parts.headers, body, pending: BytesMut::new() }
    }

    /// A number in the headers.
    pub fn header(&self, name: &str) -> u64 {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("{name} in {:?}", self.headers));
        value.to_str().expect("text").parse().expect("a number")
    }

    /// The next message; an error: the hub's last word.
    pub async fn next(&mut self) -> Result<Bytes, Status> {
        loop {
            if let Some(header) = self.pending.first_chunk::<5>() {
                let length = 5 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                if self.pending.len() >= length {
                    let mut message = self.pending.split_to(length).freeze();
                    message.advance(5);
                    return Ok(message);
                }
            }
            let frame = tokio::time::timeout(*PATIENCE, self.body.frame()).await.expect("a message in time");
            // A refusal has its trailers in the headers.
            let Some(frame) = frame else {
                return Err(Status::from_header_map(&self.headers).expect("trailers at the end"));
            };
            let frame = frame.map_err(|error| Status::from_error(error.into()))?;
            match frame.into_data() {
                Ok(data) => self.pending.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("trailers");
                    return Err(Status::from_header_map(&trailers).expect("a status"));
                }
            }
        }
    }

    /// The next message, decoded.
    pub async fn event(&mut self) -> Result<DinosaurWatchEvent, Status> {
        Ok(DinosaurWatchEvent::decode(self.next().await?).expect("an event"))
    }
}

/// What an error says besides its reason.
pub fn metadata(status: &Status, key: &str) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    info.metadata.get(key).unwrap_or_else(|| panic!("no {key}: {info:?}")).clone()
}
