//! The server with a face that speaks HTTP/1.1: what it does for every face.

use super::{Calls, ConnectionLimits, Endable, Method, Server, Service};
use crate::{call::Call, error::Error};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Answers by path, and remembers what the server counts.
#[derive(Clone, Default)]
struct Toy(Arc<Mutex<Vec<(&'static str, String)>>>);

/// A text, and then the end, or silence.
struct Text {
    text: Option<Bytes>,
    is_all: bool,
}

impl Text {
    fn all(status: StatusCode, text: &str) -> Response<Self> {
        let body = Self { text: Some(Bytes::copy_from_slice(text.as_bytes())), is_all: true };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.text.take() {
            Some(text) => Poll::Ready(Some(Ok(Frame::data(text)))),
            None if self.is_all => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Endable for Text {
    fn end(&mut self, _: Error) -> Option<Frame<Bytes>> {
        None
    }
}

impl Service for Toy {
    type Body = Text;

    const HTTP1: bool = true;

    fn method(&self, request: &Request<Incoming>) -> Method {
        match request.uri().path() {
            "/endless" => Method { name: "endless", streams: true, anonymous: false },
            _ => Method { name: "other", streams: false, anonymous: false },
        }
    }

    fn patience(&self, headers: &HeaderMap) -> Option<Duration> {
        headers.get("patience").map(|_| Duration::from_millis(50))
    }

    async fn answer(&self, call: &Call, request: Request<Incoming>) -> Response<Text> {
        match request.uri().path() {
            "/panic" => panic!("as asked"),
            "/never" => std::future::pending().await,
            "/endless" => Response::new(Text { text: Some("a".into()), is_all: false }),
            _ => Text::all(StatusCode::OK, call.operation()),
        }
    }

    fn refuse(&self, _: &Call, _: Method, error: Error) -> Response<Text> {
        let row = error.row();
        Text::all(StatusCode::from_u16(row.http).unwrap(), row.reason)
    }

    fn outcome<B>(&self, answer: &Response<B>) -> Option<String> {
        Some(answer.status().as_str().to_owned())
    }

    fn outcome_in(&self, _: &HeaderMap) -> Option<String> {
        None
    }

    fn count(&self, method: Method, outcome: &str, duration: Option<Duration>) {
        assert_eq!(duration.is_none(), method.streams);
        self.0.lock().push((method.name, outcome.to_owned()));
    }
}

/// The whole answer, as far as the server gives it.
async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: toy\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_a_name_a_deadline_and_a_count() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let toy = Toy::default();
    let limits = ConnectionLimits { streams: 10, ..ConnectionLimits::default() };
    let calls = Calls::new(toy.clone(), Duration::from_millis(100));
    let server = Server::start(vec![listener], None, &calls, 1, limits, Duration::from_secs(1)).unwrap();

    let answer = get(address, "/", "").await;
    let operation = answer.lines().find_map(|line| line.strip_prefix("x-operation-id: ")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches(operation).count() == 2, "{answer}");
    let answer = get(address, "/panic", "").await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("INTERNAL"), "{answer}");
    let answer = get(address, "/never", "").await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("DEADLINE_EXCEEDED"), "{answer}");
    // A body that cannot express its end is cut off: the final chunk is missing.
    let answer = get(address, "/endless", "patience: 50 ms\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("1\r\na\r\n"), "{answer}");
    server.stop().await.unwrap();
    let expected = [("other", "200"), ("other", "500"), ("other", "504"), ("endless", "200")];
    assert_eq!(*toy.0.lock(), expected.map(|(name, code)| (name, code.to_owned())));
}
