//! Errors as HTTP answers: a status, and an object. Under `/api/rh-trex` it is the object of the upstream
//! service, whose clients read its code; everywhere else it is a `google.rpc.Status`, with the details that
//! gRPC clients get.

use super::body::{HttpBody, json};
use crate::{
    call::Call,
    error::{Code, DOMAIN, Error, Violation},
};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// The format of errors at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the upstream service does.
    Upstream,
    /// As `google.rpc.Status`.
    Status,
}

impl Style {
    /// The format for a path or a route's pattern.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/api/rh-trex") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Upstream,
            _ => Self::Status,
        }
    }
}

/// Why a request fails.
#[derive(Debug)]
pub struct Problem(Box<Facts>);

/// Boxed, because most answers are no problems.
#[derive(Debug)]
struct Facts {
    http: StatusCode,
    status: &'static str,
    /// For programs; finer than the status.
    reason: &'static str,
    message: Cow<'static, str>,
    metadata: Vec<(&'static str, String)>,
    violation: Option<Violation>,
    retry_after: Option<Duration>,
    /// The upstream service's code, where the status does not tell it.
    upstream: Option<u16>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    cause: Option<anyhow::Error>,
}

impl Problem {
    /// An error of HTTP itself, which no use case knows.
    pub fn new(
        http: StatusCode,
        status: &'static str,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Facts {
            http,
            status,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violation: None,
            retry_after: None,
            upstream: None,
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// A request that HTTP does not allow.
    pub fn bad_request(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", reason, message)
    }

    /// Nothing is at this path.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "NO_SUCH_PATH", "there is nothing at this path")
    }

    /// Sets the upstream service's code for it.
    pub fn upstream(mut self, code: u16) -> Self {
        self.0.upstream = Some(code);
        self
    }

    /// Sets this text in place of the usual one.
    pub fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The HTTP status.
    pub fn http(&self) -> StatusCode {
        self.0.http
    }

    /// The name of its code, as `google.rpc.Code` has it.
    pub fn status(&self) -> &'static str {
        self.0.status
    }

    /// When the same request may succeed; `None`: not by waiting.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// As a stream tells of it that has begun. The cause of an internal error is logged here, and never sent.
    pub fn told(&self, call: &Call) -> Value {
        self.log(call);
        self.as_status(call.operation())
    }

    fn log(&self, call: &Call) {
        if let Some(cause) = &self.0.cause {
            tracing::error!(operation = call.operation(), error = format!("{cause:#}"), "internal error");
        }
    }

    /// The answer to a call. The cause of an internal error is logged here, and never sent.
    pub fn answer(self, call: &Call, style: Style) -> Response<HttpBody> {
        self.log(call);
        let (http, object) = match style {
            Style::Upstream => self.as_upstream(call.operation()),
            Style::Status => (self.0.http, json!({ "error": self.as_status(call.operation()) })),
        };
        let mut response = json(http, &object);
        let headers = response.headers_mut();
        if let Some(pause) = self.0.retry_after {
            // In whole seconds, rounded up.
            let seconds = u64::try_from(pause.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        headers.extend(self.0.headers);
        response
    }

    /// The object of a `google.rpc.Status`, in ProtoJSON, whose code is that of HTTP.
    pub fn as_status(&self, operation: &str) -> Value {
        let kind = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
        let metadata: BTreeMap<_, _> = self.0.metadata.iter().map(|(name, value)| (*name, value)).collect();
        let mut details = vec![json!({
            "@type": kind("ErrorInfo"), "reason": self.0.reason, "domain": DOMAIN, "metadata": metadata,
        })];
        if let Some(Violation { field, rule }) = &self.0.violation {
            let violations = [json!({ "field": field, "description": rule })];
            details.push(json!({ "@type": kind("BadRequest"), "fieldViolations": violations }));
        }
        if let Some(pause) = self.0.retry_after {
            details.push(
                json!({ "@type": kind("RetryInfo"), "retryDelay": format!("{}s", pause.as_secs_f64()) }),
            );
        }
        if !operation.is_empty() {
            details.push(json!({ "@type": kind("RequestInfo"), "requestId": operation }));
        }
        let Facts { http, status, message, .. } = &*self.0;
        json!({ "code": http.as_u16(), "status": status, "message": message, "details": details })
    }

    fn as_upstream(&self, operation: &str) -> (StatusCode, Value) {
        let code = self.0.upstream.unwrap_or_else(|| upstream_code(self.0.http, self.0.reason));
        // The upstream service does not use 422.
        let http = if self.0.http == StatusCode::UNPROCESSABLE_ENTITY {
            StatusCode::BAD_REQUEST
        } else {
            self.0.http
        };
        let object = json!({
            "id": code.to_string(),
            "kind": "Error",
            "href": format!("/api/rh-trex/v1/errors/{code}"),
            "code": format!("rh-trex-{code}"),
            "reason": self.0.message,
            "operation_id": operation,
        });
        (http, object)
    }
}

/// The upstream service's code for a status.
fn upstream_code(http: StatusCode, reason: &str) -> u16 {
    match (http.as_u16(), reason) {
        (_, "UNDECODABLE") => 17,
        (400 | 422, "INVALID_FIELD" | "REFUSED_BY_DATABASE") => 8,
        (400, _) => 21,
        (401, _) => 15,
        (403, _) => 4,
        (404, _) => 7,
        (405 | 501, _) => 10,
        (406 | 413..=431, _) => 21,
        (409, _) => 6,
        _ => 9,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let row = error.row();
        let http = StatusCode::from_u16(row.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut problem = Self::new(http, status(row.code), row.reason, error.to_string());
        problem.0.metadata = error.metadata();
        if http == StatusCode::UNAUTHORIZED {
            problem = problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        problem.0.retry_after = row.retry_after;
        match error {
            Error::Invalid(violation) => problem.0.violation = Some(violation),
            Error::Internal(cause) => problem.0.cause = Some(cause),
            _ => {}
        }
        problem
    }
}

/// The name of a code, as `google.rpc.Code` has it.
fn status(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Revision;

    #[test]
    fn an_error_keeps_its_row() {
        let error = Error::RevisionCompacted { asked: Revision::new(3), oldest: Revision::new(7) };
        let status = Problem::from(error).as_status("op");
        assert_eq!((&status["code"], &status["status"]), (&json!(410), &json!("OUT_OF_RANGE")));
        let info = &status["details"][0];
        assert_eq!((&info["reason"], &info["domain"]), (&json!("REVISION_COMPACTED"), &json!("trex.hub")));
        assert_eq!(info["metadata"]["oldest_revision"], "7");
        assert_eq!(status["details"][1]["requestId"], "op");
    }

    #[test]
    fn upstream_clients_read_the_codes_that_they_know() {
        let of = |error: Error| {
            let (http, object) = Problem::from(error).as_upstream("op");
            (http.as_u16(), object["code"].as_str().unwrap().to_owned())
        };
        let refused = Error::Refused { sqlstate: "23514".into(), constraint: None, message: "no".into() };
        assert_eq!(of(Error::invalid("species", "is required")), (400, "rh-trex-8".into()));
        assert_eq!(of(refused), (400, "rh-trex-8".into()));
        assert_eq!(of(Error::AlreadyExists { kind: "Dinosaur".into() }), (409, "rh-trex-6".into()));
        assert_eq!(of(Error::Undecodable("no".into())), (400, "rh-trex-17".into()));
        assert_eq!(of(Error::Internal(anyhow::anyhow!("secret"))), (500, "rh-trex-9".into()));
        assert_eq!(Style::of("/api/rh-trex/v1/x"), Style::Upstream);
        assert_eq!(Style::of("/api/rh-trexes"), Style::Status);
    }

    #[test]
    fn causes_are_not_sent() {
        let problem = Problem::from(Error::Internal(anyhow::anyhow!("secret")));
        assert!(!problem.as_status("op").to_string().contains("secret"));
    }
}
