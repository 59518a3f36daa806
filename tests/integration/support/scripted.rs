//! A hub that says what a test tells it to: what a real one says seldom, or not when it is wanted.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{collections::VecDeque, convert::Infallible, sync::Arc};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use tonic::Code;
use trex::proto::rh_trex::v1::DinosaurWatchEvent;

/// A watch from its headers to its end.
pub struct Script {
    pub events: Vec<DinosaurWatchEvent>,
    pub end: Code,
}

/// It answers each call with the next script, until it is dropped.
pub struct ScriptedHub {
    pub address: String,
    task: JoinHandle<()>,
}

impl ScriptedHub {
    pub async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("localhost:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let scripts = Arc::new(Mutex::new(scripts.into_iter().collect::<VecDeque<_>>()));
        Self { address, task: tokio::spawn(serve(listener, scripts)) }
    }
}

impl Drop for ScriptedHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, scripts: Arc<Mutex<VecDeque<Script>>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let scripts = scripts.clone();
        let answer = service_fn(move |_| {
            let scripts = scripts.clone();
            async move { Ok::<_, Infallible>(response(&scripts.lock().await.pop_front().expect("a script"))) }
        });
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(http2.serve_connection(TokioIo::new(stream), answer));
    }
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn response(script: &Script) -> http::Response<Body> {
    let mut frames: Vec<_> = script.events.iter().map(|event| Ok(Frame::data(message(event)))).collect();
    let trailers = [("grpc-status", i32::from(script.end).to_string())];
    let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    frames.push(Ok(Frame::trailers(trailers.into_iter().collect())));
    http::Response::builder()
        .header("content-type", "application/grpc")
        .header("hub-revision", "7")
        .header("hub-epoch", "e")
        .body(StreamBody::new(stream::iter(frames)))
        .expect("a response")
}

fn message(event: &DinosaurWatchEvent) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(event.encoded_len()).expect("a small event"));
    event.encode(&mut message).expect("room");
    message.freeze()
}
