//! What surrounds every call: an operation id, the deadline, recovery from a panic, one log line, and the
//! metrics.

use super::{
    face::{Endable, Method, Service},
    tls::PeerCertificate,
};
use crate::{
    auth::{Authenticator, Denied, Offered, Over, Principal, Several, Term, Terms, jwt::Refusal},
    call::{Call, Particulars},
    error::{Credential, Error},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    error,
    future::poll_fn,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};
use tokio::time::Sleep;

const OPERATION_ID: &str = "x-operation-id";

/// The most characters of a caller's name.
const LONGEST_ACTOR: usize = 255;

/// Serves the calls of a face.
#[derive(Clone)]
pub struct Calls<S> {
    service: S,
    /// A call that does not stream may take this long, unless its client sets an earlier deadline.
    limit: Duration,
    /// The metadata that names the caller.
    trusted: Option<HeaderName>,
    /// Knows who calls.
    authenticator: Arc<Authenticator>,
    /// The streams of the connection, if that may become too old.
    connection: Option<Arc<Terms>>,
}

impl<S: Service> Calls<S> {
    /// Around this face. A call that does not stream may take as long as `limit`.
    pub fn new(service: S, limit: Duration) -> Self {
        Self { service, limit, trusted: None, authenticator: Arc::default(), connection: None }
    }

    /// Believes what this metadata says about the caller: for a hub that only a proxy can reach, which sets
    /// it.
    pub fn trusting(self, metadata: Option<HeaderName>) -> Self {
        Self { trusted: metadata, ..self }
    }

    /// On a connection that ends its streams.
    pub(super) fn ending_with(self, connection: Option<Arc<Terms>>) -> Self {
        Self { connection, ..self }
    }

    /// Asks who calls.
    pub fn known_by(self, authenticator: Arc<Authenticator>) -> Self {
        Self { authenticator, ..self }
    }

    /// One call.
    pub(super) async fn call(
        self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<CallBody<S>>, Infallible> {
        let Self { service, limit, trusted, authenticator, connection } = self;
        let started = Instant::now();
        let method = service.method(&request);
        let asked = service.patience(request.headers()).map(|limit| started + limit);
        let limit = (!method.streams).then(|| started + limit);
        let deadline = [asked, limit].into_iter().flatten().min();
        // What somebody says who is trusted counts only where nobody proves anything.
        let trusted = trusted.filter(|_| !authenticator.is_required());
        let (principal, refused) = match caller(&authenticator, &request, method, started) {
            Ok(principal) => (principal, None),
            Err(error) => (None, Some(error)),
        };
        let (said, refused) = match attribution(request.headers(), trusted.as_ref()) {
            Ok(said) => (said, refused),
            Err(error) => (Attribution::default(), refused.or(Some(error))),
        };
        let proved = principal.as_deref().and_then(Principal::name).map(Box::from);
        let term = method.streams.then(|| term(&authenticator, principal.as_ref(), connection)).flatten();
        let call = Call::from(Particulars {
            operation: uuid::Uuid::now_v7().simple().to_string().into(),
            peer: Some(peer),
            principal,
            actor: proved.or(said.actor),
            trace: said.trace,
            deadline,
            term,
        });
        let record = Record { service, method, started, call, outcome: None };
        if let Some(error) = refused {
            let refused = record.refuse(error);
            return Ok(record.respond(refused, asked));
        }
        let answer = AssertUnwindSafe(record.service.answer(&record.call, request)).catch_unwind();
        let answer = in_term(record.call.term(), within(deadline, answer));
        let response = match answer.await {
            Err(why) => record.refuse(over(why)),
            Ok(Some(Ok(response))) => response,
            Ok(Some(Err(_panic))) => {
                record.refuse(Error::Internal(anyhow::anyhow!("a panic; see the log line before this one")))
            }
            Ok(None) => record.refuse(Error::DeadlineExceeded),
        };
        Ok(record.respond(response, asked))
    }
}

/// What may end a stream before its client does: its caller's credential, and its connection.
fn term(
    authenticator: &Authenticator,
    principal: Option<&Arc<Principal>>,
    connection: Option<Arc<Terms>>,
) -> Option<Term> {
    let term = authenticator.begin_term(principal.cloned());
    match connection {
        Some(connection) => Some(connection.join(term)),
        None => term,
    }
}

/// Who makes a call, as its credential proves.
fn caller(
    authenticator: &Authenticator,
    request: &Request<Incoming>,
    method: Method,
    now: Instant,
) -> Result<Option<Arc<Principal>>, Error> {
    if method.anonymous || authenticator.is_open(method.name) {
        return Ok(None);
    }
    let mut headers = request.headers().get_all(AUTHORIZATION).iter();
    let (first, second) = (headers.next(), headers.next());
    let certificate = request.extensions().get::<PeerCertificate>();
    let offered = Offered {
        authorization: first.map(|value| if second.is_none() { Ok(value.as_bytes()) } else { Err(Several) }),
        certificate: certificate.map(|PeerCertificate(der)| &***der),
    };
    authenticator.authenticate(offered, (SystemTime::now(), now)).map_err(refusal)
}

fn refusal(denied: Denied) -> Error {
    let credential = match &denied {
        Denied::Unready(why) => {
            return Error::Unavailable { why, retry_after: Duration::from_secs(1) };
        }
        Denied::Nobody(_) => Credential::Missing,
        Denied::Expired | Denied::Token(Refusal::Expired) => Credential::Expired,
        Denied::Scheme(_) | Denied::Token(_) | Denied::Key | Denied::Certificate(_) => Credential::Invalid,
    };
    Error::Unauthenticated { credential, why: denied.to_string().into() }
}

/// How a stream ends whose time is over.
fn over(over: Over) -> Error {
    let unauthenticated =
        |credential, why: &'static str| Error::Unauthenticated { credential, why: why.into() };
    match over {
        Over::Expired => unauthenticated(
            Credential::Expired,
            "the credential has expired: get a new one, and go on after the revision in the trailers",
        ),
        Over::Revoked => unauthenticated(Credential::Revoked, "the API key was revoked"),
        Over::GrantGone => {
            Error::Denied { why: "what was granted is not granted any more".into(), revoked: true }
        }
        Over::PolicyChanged => Error::PolicyChanged,
        Over::ConnectionTooOld => Error::Unavailable {
            why: "the connection is as old as it may become: connect again",
            retry_after: Duration::from_millis(100),
        },
    }
}

/// What a request says of its call.
#[derive(Debug, Default, PartialEq, Eq)]
struct Attribution {
    actor: Option<Box<str>>,
    trace: Option<Box<str>>,
}

/// Whom the call's writes are recorded under.
fn attribution(headers: &HeaderMap, trusted: Option<&HeaderName>) -> Result<Attribution, Error> {
    let actor = trusted.and_then(|name| headers.get(name)).map(|value| {
        let text = value.to_str().ok().filter(|text| (1..=LONGEST_ACTOR).contains(&text.len()));
        let rule = format!("must have 1 to {LONGEST_ACTOR} printable ASCII characters");
        text.map(Box::from).ok_or_else(|| Error::invalid("actor metadata", rule))
    });
    // An unknown form of trace is ignored, and no reason to refuse a call.
    let trace =
        headers.get("traceparent").and_then(|value| value.to_str().ok()).filter(|text| is_trace(text));
    Ok(Attribution { actor: actor.transpose()?, trace: trace.map(Box::from) })
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

/// A client's stream is read for as long as its caller may go on.
async fn in_term<T>(term: Option<&Term>, future: impl Future<Output = T>) -> Result<T, Over> {
    let Some(term) = term else { return Ok(future.await) };
    tokio::select! {
        biased;
        done = future => Ok(done),
        over = poll_fn(|cx| term.poll_over(cx)) => Err(over),
    }
}

async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// The record of a call. It is logged and counted when this is dropped: at the end of the response, however
/// that comes.
struct Record<S: Service> {
    service: S,
    method: Method,
    started: Instant,
    call: Call,
    /// How it ended, once its client has been told.
    outcome: Option<String>,
}

impl<S: Service> Record<S> {
    fn refuse(&self, error: Error) -> Response<S::Body> {
        self.service.refuse(&self.call, self.method, error)
    }

    fn respond(
        mut self,
        mut response: Response<S::Body>,
        deadline: Option<Instant>,
    ) -> Response<CallBody<S>> {
        if let Ok(operation) = HeaderValue::from_str(self.call.operation()) {
            response.headers_mut().insert(OPERATION_ID, operation);
        }
        self.outcome = self.service.outcome(&response);
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        response.map(|body| CallBody { body: Some(body), deadline, record: self })
    }

    /// The outcome may stand at the end of an answer.
    fn note(&mut self, frame: &Frame<Bytes>) {
        if let Some(outcome) = frame.trailers_ref().and_then(|trailers| self.service.outcome_in(trailers)) {
            self.outcome = Some(outcome);
        }
    }
}

impl<S: Service> Drop for Record<S> {
    fn drop(&mut self) {
        let (method, elapsed) = (self.method, self.started.elapsed());
        // The client was told nothing: it left first.
        let code = self.outcome.as_deref().unwrap_or("Canceled");
        self.service.count(method, code, (!method.streams).then_some(elapsed));
        let peer = self.call.peer().map(tracing::field::display);
        tracing::info!(method = method.name, code, ?elapsed, peer, operation = self.call.operation(), "call");
    }
}

/// A response's body, under the call's deadline.
pub(super) struct CallBody<S: Service> {
    /// `None`: it was ended.
    body: Option<S::Body>,
    deadline: Option<Pin<Box<Sleep>>>,
    record: Record<S>,
}

impl<S: Service> Body for CallBody<S> {
    type Data = Bytes;
    type Error = Box<dyn error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, deadline, record } = &mut *self;
        let Some(open) = body else { return Poll::Ready(None) };
        let ends = match record.call.term().map(|term| term.poll_over(cx)) {
            Some(Poll::Ready(why)) => Some(over(why)),
            _ if deadline.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) => {
                Some(Error::DeadlineExceeded)
            }
            _ => None,
        };
        let frame = if let Some(why) = ends {
            let told = why.to_string();
            let last = open.end(why);
            *body = None;
            Some(last.ok_or_else(|| told.into()))
        } else {
            ready!(Pin::new(open).poll_frame(cx)).map(|frame| frame.map_err(Into::into))
        };
        if let Some(Ok(frame)) = &frame {
            record.note(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
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
}
