//! What surrounds every call: an operation id, the deadline, recovery from a panic, one log line, and the metrics.

use super::methods::{Method, Methods};
use crate::{
    error::{Error, OPERATION, explain},
    faces::grpc::{CALLER, RawBody, WatchBody},
    model::Caller,
    store::{ATTRIBUTION, Attribution},
    telemetry::Metrics,
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::Sleep;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;

const OPERATION_ID: &str = "x-operation-id";

/// A name of who calls may have so many characters.
const LONGEST_ACTOR: usize = 255;

/// Serves calls.
#[derive(Clone)]
pub struct Calls {
    routes: Routes,
    methods: Arc<Methods>,
    metrics: Arc<Metrics>,
    /// A unary call may take so long, if its client does not want it sooner.
    limit: Duration,
    /// The metadata that says who calls.
    trusted: Option<HeaderName>,
}

impl Calls {
    /// Around these services.
    pub fn new(routes: Routes, metrics: Arc<Metrics>, limit: Duration) -> Result<Self, prost::DecodeError> {
        Ok(Self { routes, methods: Arc::new(Methods::of_all_services()?), metrics, limit, trusted: None })
    }

    /// Believes what this metadata says of who calls: for a hub that only a proxy can reach, which sets it.
    pub fn trusting(self, metadata: Option<HeaderName>) -> Self {
        Self { trusted: metadata, ..self }
    }

    /// One call.
    pub(super) async fn call(
        self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<CallBody>, Infallible> {
        let method = self.methods.find(request.uri().path());
        let started = Instant::now();
        let asked = request.headers().get("grpc-timeout").and_then(grpc_timeout).map(|limit| started + limit);
        let limit = (!method.streams).then(|| started + self.limit);
        let operation: Arc<str> = uuid::Uuid::now_v7().simple().to_string().into();
        let record = Record { method, started, peer, operation, code: None, metrics: self.metrics };
        let attribution = match attribution(request.headers(), self.trusted.as_ref()) {
            Ok(attribution) => attribution,
            Err(error) => {
                let refused = record.fail(error);
                return Ok(record.respond(refused, asked, Who::default()));
            }
        };
        let mut routes = self.routes;
        let (principal, operation) = (attribution.actor.clone(), record.operation.clone());
        let who = Who { caller: Caller { peer: Some(peer), principal, operation }, attribution };
        let answer = async move { routes.call(request.map(Body::new)).await };
        let answer = CALLER.scope(who.caller.clone(), ATTRIBUTION.scope(who.attribution.clone(), answer));
        let answer = OPERATION.scope(record.operation.clone(), answer);
        let answer =
            within([asked, limit].into_iter().flatten().min(), AssertUnwindSafe(answer).catch_unwind()).await;
        let response = match answer {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(never))) => match never {},
            Some(Err(_panic)) => {
                record.fail(Error::Internal(anyhow::anyhow!("a panic; see the log line before this one")))
            }
            None => record.fail(Error::DeadlineExceeded),
        };
        Ok(record.respond(response, asked, who))
    }
}

/// Who makes a call: known to its service, and to the body of its answer, in which a stream may only begin.
#[derive(Default)]
struct Who {
    caller: Caller,
    attribution: Attribution,
}

impl Who {
    fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(self.caller.clone(), || ATTRIBUTION.sync_scope(self.attribution.clone(), work))
    }
}

/// Whom the call's writes are recorded under.
fn attribution(headers: &HeaderMap, trusted: Option<&HeaderName>) -> Result<Attribution, Error> {
    let actor = trusted.and_then(|name| headers.get(name)).map(|value| {
        let text = value.to_str().ok().filter(|text| (1..=LONGEST_ACTOR).contains(&text.len()));
        let rule = format!("must have 1 to {LONGEST_ACTOR} printable ASCII characters");
        text.map(Arc::from).ok_or_else(|| Error::invalid("actor metadata", rule))
    });
    // Another form of trace than this is not for us to understand, and no reason to refuse a call.
    let trace =
        headers.get("traceparent").and_then(|value| value.to_str().ok()).filter(|text| is_trace(text));
    Ok(Attribution { actor: actor.transpose()?, trace: trace.map(Arc::from) })
}

/// As of <https://www.w3.org/TR/trace-context/#traceparent-header>, version 00.
fn is_trace(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let hexadecimal =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts.iter().all(|part| hexadecimal(part))
        && parts[0] == "00"
}

/// What tonic refuses by itself comes with a bare status; here it gets the reason that every error of the hub carries.
fn explained(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => explain(&status).into_http(),
        _ => response,
    }
}

async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
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

/// What is known of a call. It is logged and counted when this is dropped: at the end of its response, however that comes.
struct Record {
    method: Method,
    started: Instant,
    peer: SocketAddr,
    operation: Arc<str>,
    code: Option<Code>,
    metrics: Arc<Metrics>,
}

impl Record {
    fn fail(&self, error: Error) -> Response<Body> {
        OPERATION.sync_scope(self.operation.clone(), || Status::from(error)).into_http()
    }

    fn respond(
        mut self,
        response: Response<Body>,
        deadline: Option<Instant>,
        who: Who,
    ) -> Response<CallBody> {
        let (mut head, body) = explained(response).into_parts();
        if let Ok(operation) = HeaderValue::from_str(&self.operation) {
            head.headers.insert(OPERATION_ID, operation);
        }
        self.note(&head.headers);
        let inner = match head.extensions.remove::<RawBody>().and_then(RawBody::take) {
            Some(watch) => Inner::Watch(watch),
            None => Inner::Other(body, who),
        };
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        Response::from_parts(head, CallBody { inner, deadline, record: self })
    }

    /// The status is in the trailers, or in the headers of a response without a body.
    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // No status was sent: the client went away first.
        let code = self.code.unwrap_or(Code::Cancelled);
        let elapsed = self.started.elapsed();
        let name = name(code);
        self.metrics.request(self.method.path, &name, (!self.method.streams).then_some(elapsed));
        tracing::info!(method = self.method.path, code = name, ?elapsed, peer = %self.peer, operation = &*self.operation, "call");
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

enum Inner {
    /// It has asked what it must know of its call.
    Watch(WatchBody),
    Other(Body, Who),
    Ended,
}

/// A response's body, under the call's deadline.
pub(super) struct CallBody {
    inner: Inner,
    deadline: Option<Pin<Box<Sleep>>>,
    record: Record,
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, deadline, record } = &mut *self;
        if let Some(timer) = deadline
            && timer.as_mut().poll(cx).is_ready()
            && !matches!(inner, Inner::Ended)
        {
            let end = || match std::mem::replace(inner, Inner::Ended) {
                Inner::Watch(mut watch) => watch.end(Error::DeadlineExceeded),
                Inner::Other(..) | Inner::Ended => {
                    let mut trailers = HeaderMap::new();
                    Status::from(Error::DeadlineExceeded).add_header(&mut trailers)?;
                    Ok(Frame::trailers(trailers))
                }
            };
            let frame = OPERATION.sync_scope(record.operation.clone(), end);
            if let Ok(Some(trailers)) = frame.as_ref().map(Frame::trailers_ref) {
                record.note(trailers);
            }
            return Poll::Ready(Some(frame));
        }
        let frame = OPERATION.sync_scope(record.operation.clone(), || match inner {
            Inner::Watch(body) => Pin::new(body).poll_frame(cx),
            Inner::Other(body, who) => who.scope(|| Pin::new(body).poll_frame(cx)),
            Inner::Ended => Poll::Ready(None),
        });
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            record.note(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Watch(_) => false,
            Inner::Other(body, _) => body.is_end_stream(),
            Inner::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Other(body, _) => body.size_hint(),
            Inner::Watch(_) | Inner::Ended => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_told_from_other_text() {
        assert!(is_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_trace(bad), "{bad}");
        }
    }

    #[test]
    fn who_calls_is_believed_only_where_it_is_trusted() {
        let name = HeaderName::from_static("trex-actor");
        let headers =
            |value: &str| HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(value).unwrap())]);
        assert_eq!(attribution(&headers("alice"), None).unwrap(), Attribution::default());
        assert_eq!(attribution(&headers("alice"), Some(&name)).unwrap().actor.as_deref(), Some("alice"));
        assert!(
            attribution(&headers(""), Some(&name)).is_err()
                && attribution(&headers(&"a".repeat(256)), Some(&name)).is_err()
        );
    }

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
