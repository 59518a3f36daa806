//! The services of a listener as the server sees them: calls in, answers out.

use super::{
    methods::Methods,
    status::{explain, status, trailers},
    watch::{RawBody, WatchBody},
};
use crate::{
    call::Call,
    error::Error,
    server::{Endable, Method, Service},
    telemetry::Metrics,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service as _;

/// Services, health and reflection, ready to be served.
#[derive(Clone)]
pub struct GrpcFace(Arc<Shared>);

struct Shared {
    routes: Routes,
    methods: Methods,
    metrics: Arc<Metrics>,
}

impl GrpcFace {
    pub(super) fn new(routes: Routes, metrics: Arc<Metrics>) -> Result<Self, prost::DecodeError> {
        Ok(Self(Arc::new(Shared { routes, methods: Methods::of_all_services()?, metrics })))
    }

    /// The method of a path.
    pub(super) fn found(&self, path: &str) -> Method {
        self.0.methods.find(path)
    }

    /// Has the services answer a call, however its body came.
    pub(super) async fn dispatch<B>(&self, call: &Call, mut request: Request<B>) -> Response<GrpcBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        request.extensions_mut().insert(call.clone());
        let response = match self.0.routes.clone().call(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (mut head, body) = explained(response, call).into_parts();
        let body = match head.extensions.remove::<RawBody>().and_then(RawBody::take) {
            Some(watch) => GrpcBody::Watch(watch),
            None => GrpcBody::Messages(body, call.clone()),
        };
        Response::from_parts(head, body)
    }
}

impl Service for GrpcFace {
    type Body = GrpcBody;

    const HTTP1: bool = false;

    fn method(&self, request: &Request<Incoming>) -> Method {
        self.found(request.uri().path())
    }

    fn patience(&self, headers: &HeaderMap) -> Option<Duration> {
        headers.get("grpc-timeout").and_then(grpc_timeout)
    }

    async fn answer(&self, call: &Call, request: Request<Incoming>) -> Response<GrpcBody> {
        self.dispatch(call, request).await
    }

    fn refuse(&self, call: &Call, _: Method, error: Error) -> Response<GrpcBody> {
        status(&error, call).into_http().map(|body| GrpcBody::Messages(body, call.clone()))
    }

    fn outcome<B>(&self, answer: &Response<B>) -> Option<String> {
        self.outcome_in(answer.headers())
    }

    fn outcome_in(&self, trailers: &HeaderMap) -> Option<String> {
        Some(name(Code::from_bytes(trailers.get(Status::GRPC_STATUS)?.as_bytes())))
    }

    fn count(&self, method: Method, outcome: &str, duration: Option<Duration>) {
        self.0.metrics.request(method.name, outcome, duration);
    }
}

/// What tonic refuses by itself comes with a bare status; here it gets the reason that every error of the hub
/// carries.
fn explained(response: Response<Body>, call: &Call) -> Response<Body> {
    let headers = response.headers();
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(said) if said.code() != Code::Ok => explain(&said, call).into_http(),
        _ => response,
    }
}

/// As gRPC's Go library names codes, which dashboards know.
fn name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

/// A deadline as a client writes it: at most eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, Timeout).
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (number, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = (number.len() <= 8).then(|| number.parse().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The body of an answer.
pub enum GrpcBody {
    /// Ready-made bytes.
    Watch(WatchBody),
    /// Messages that tonic encodes, for this call.
    Messages(Body, Call),
}

impl Endable for GrpcBody {
    fn end(&mut self, error: Error) -> Option<Frame<Bytes>> {
        let trailers = match self {
            Self::Watch(watch) => watch.end(error),
            Self::Messages(_, call) => trailers(&status(&error, call)),
        };
        trailers.map(Frame::trailers).ok()
    }
}

impl http_body::Body for GrpcBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Watch(body) => Pin::new(body).poll_frame(cx),
            Self::Messages(body, _) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Watch(_) => false,
            Self::Messages(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Watch(_) => SizeHint::default(),
            Self::Messages(body, _) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        let read = |text: &'static str| grpc_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(read("999999999m"), None);
        for bad in ["", "S", "1", "1x", "-1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
