//! The listener as the server sees it: requests in, answers out.

use super::{
    body::{HttpBody, with_status},
    gate::Gate,
    gzip,
    problem::{Problem, Style},
    routes::{Answered, Routes},
    web,
};
use crate::{
    call::Call,
    error::Error,
    faces::grpc::GrpcFace,
    server::{Method, Service},
    telemetry::Metrics,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};

/// The method that a request to an unknown path is counted under.
const UNKNOWN: Method = Method { name: "unknown", streams: false, anonymous: false };

/// Nothing that is served here runs or shows anything by itself.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// The headers that pages of allowed origins may read besides the usual ones.
const EXPOSED: &str = "hub-revision, hub-epoch, hub-dropped, grpc-status, grpc-message, \
                       grpc-status-details-bin, retry-after, x-operation-id, etag, location";

/// The HTTP API, ready to be served.
#[derive(Clone)]
pub struct HttpFace(Arc<Shared>);

struct Shared {
    routes: Routes,
    gate: Gate,
    /// The services, for gRPC-Web.
    grpc: GrpcFace,
    max_body: usize,
    metrics: Arc<Metrics>,
}

impl HttpFace {
    pub(super) fn new(
        routes: Routes,
        (gate, grpc): (Gate, GrpcFace),
        max_body: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared { routes, gate, grpc, max_body, metrics }))
    }

    async fn routed(&self, call: &Call, request: Request<Incoming>) -> Answered {
        self.0.gate.check(&request)?;
        let found = self.0.routes.find(request.uri().path());
        if request.method() == http::Method::OPTIONS {
            let allow = found.map(|(route, _)| route.allow());
            let of_service = || self.0.grpc.known(request.uri().path()).map(|_| web::allowed());
            return self.options(&request, allow.or_else(of_service));
        }
        if found.is_none() && self.0.grpc.known(request.uri().path()).is_some() {
            return web::answer(&self.0.grpc, call, request).await;
        }
        let (route, parameters) = found.ok_or_else(Problem::no_such_path)?;
        route.answer(call, request.into_parts(), parameters, self.0.max_body).await
    }

    /// The methods of a path; to a browser's preflight, whether a page may use them.
    fn options(&self, request: &Request<Incoming>, allow: Option<HeaderValue>) -> Answered {
        let headers = request.headers();
        let allow = allow.ok_or_else(Problem::no_such_path)?;
        let mut response = with_status(StatusCode::NO_CONTENT, HttpBody::empty());
        let is_preflight = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if is_preflight && self.0.gate.allowed_origin(headers).is_some() {
            let answer = response.headers_mut();
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow.clone());
            if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response.headers_mut().insert(header::ALLOW, allow);
        Ok(response)
    }

    /// Headers of every answer.
    fn dressed(&self, mut response: Response<HttpBody>, asked: &Asked) -> Response<HttpBody> {
        let headers = response.headers_mut();
        protect(headers);
        if !self.0.gate.origins.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = &asked.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
        if asked.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Headers for browsers.
fn protect(headers: &mut HeaderMap) {
    let set = |headers: &mut HeaderMap, name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, header::CONTENT_SECURITY_POLICY, POLICY);
    set(headers, header::CACHE_CONTROL, "no-store");
}

/// What the answer needs to know of its request.
struct Asked {
    style: Style,
    is_head: bool,
    takes_gzip: bool,
    origin: Option<HeaderValue>,
    /// A proxy may have read another length for a chunked body: nothing that follows on the connection is
    /// trusted.
    closes: bool,
}

impl Service for HttpFace {
    type Body = HttpBody;

    const HTTP1: bool = true;

    fn method(&self, request: &Request<Incoming>) -> Method {
        let found = self.0.routes.find(request.uri().path());
        // A browser asks so before it sends what its page has, without any of it.
        let anonymous = request.method() == http::Method::OPTIONS;
        let of_service = || match self.0.grpc.known(request.uri().path()) {
            Some(method) => Method { anonymous: anonymous || method.anonymous, ..method },
            None => Method { anonymous, ..UNKNOWN },
        };
        found.map_or_else(of_service, |(route, _)| Method {
            name: route.pattern(),
            streams: route.streams(),
            anonymous,
        })
    }

    fn patience(&self, headers: &HeaderMap) -> Option<Duration> {
        self.0.grpc.web_patience(headers)
    }

    async fn answer(&self, call: &Call, request: Request<Incoming>) -> Response<HttpBody> {
        let headers = request.headers();
        let asked = Asked {
            style: Style::of(request.uri().path()),
            is_head: request.method() == http::Method::HEAD,
            takes_gzip: gzip::is_taken(headers),
            origin: self.0.gate.allowed_origin(headers).cloned(),
            closes: request.version() < Version::HTTP_2 && headers.contains_key(header::TRANSFER_ENCODING),
        };
        let answered = self.routed(call, request).await;
        let mut response = answered.unwrap_or_else(|problem| problem.answer(call, asked.style));
        if matches!(response.body(), HttpBody::Whole(_)) {
            response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            if asked.takes_gzip {
                response = gzip::compressed(response).await;
            }
        }
        if asked.is_head {
            let length = response.body().size_hint().exact();
            response.headers_mut().extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
            *response.body_mut() = HttpBody::empty();
        }
        self.dressed(response, &asked)
    }

    fn refuse(&self, call: &Call, method: Method, error: Error) -> Response<HttpBody> {
        let mut response = match self.0.grpc.known(method.name) {
            Some(_) => web::streamed(self.0.grpc.refuse_web(call, method, error)),
            None => Problem::from(error).answer(call, Style::of(method.name)),
        };
        protect(response.headers_mut());
        response
    }

    fn outcome<B>(&self, answer: &Response<B>) -> Option<String> {
        Some(answer.status().as_str().to_owned())
    }

    fn outcome_in(&self, _: &HeaderMap) -> Option<String> {
        None
    }

    fn count(&self, method: Method, outcome: &str, duration: Option<Duration>) {
        self.0.metrics.http_request(method.name, outcome, duration);
    }
}
