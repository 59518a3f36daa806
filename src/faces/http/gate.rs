//! What a request must fulfil before anything is done for it. The hub cannot know who sits at a browser, so
//! it must not do what a stranger's page makes the browser ask.

use super::problem::Problem;
use crate::faces::host::{Hosts, Stranger};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use std::sync::Arc;

/// The callers that the listener answers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// The names that it answers to.
    pub hosts: Hosts,
    /// The origins whose pages may use it.
    pub origins: Arc<[String]>,
}

impl Gate {
    /// Whether a request may be answered.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let headers = request.headers();
        if request.version() < Version::HTTP_2
            && headers.contains_key(header::TRANSFER_ENCODING)
            && headers.contains_key(header::CONTENT_LENGTH)
        {
            let message = "a body has a Content-Length or a Transfer-Encoding, not both";
            return Err(Problem::bad_request("AMBIGUOUS_LENGTH", message));
        }
        self.hosts.check(request).map_err(|stranger| match stranger {
            Stranger::Unclear => Problem::bad_request("HOST", "name one host"),
            Stranger::Unknown => Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "FAILED_PRECONDITION",
                "HOST",
                "this hub does not go by that name; --http-hosts names those that it goes by",
            ),
        })?;
        let is_change = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if is_change && !headers.contains_key(header::AUTHORIZATION) {
            self.check_origin(request)?;
            check_media(request.method(), headers)?;
        }
        Ok(())
    }

    /// The origin that a request names, if its pages may read answers.
    pub fn allowed_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.origins.iter().any(|allowed| origin == allowed.as_str()).then_some(origin)
    }

    fn check_origin<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let headers = request.headers();
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        // The host is one that no stranger's page can have, so a page from there is the hub's own.
        let host = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let host = host.or_else(|| headers.get(header::HOST).map(HeaderValue::as_bytes));
        let own = [b"http://".as_slice(), b"https://"]
            .iter()
            .any(|scheme| origin.as_bytes().strip_prefix(*scheme).is_some_and(|rest| Some(rest) == host));
        if own || self.allowed_origin(headers).is_some() {
            return Ok(());
        }
        let message = "pages of this origin may change nothing here; --cors-origins names those that may";
        Err(Problem::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", "ORIGIN", message))
    }
}

/// Browsers send a POST without a preflight if its body has one of the form types; these are not among them.
/// All other methods get a preflight.
fn check_media(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method == Method::DELETE || media(headers).is_some_and(is_told) {
        return Ok(());
    }
    let message = "send JSON as application/json, or gRPC-Web";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT", "MEDIA_TYPE", message))
}

fn is_told(media: &str) -> bool {
    let media = media.to_ascii_lowercase();
    media == "application/json"
        || (media.starts_with("application/") && media.ends_with("+json"))
        || media.starts_with("application/grpc-web")
}

/// The media type of a request's body, without its parameters.
pub(super) fn media(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, headers: &[(&str, &str)]) -> u16 {
        let gate = Gate { hosts: Hosts::default(), origins: ["https://app.example".to_owned()].into() };
        let mut request = Request::builder().method(method).header("host", "localhost:8000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate.check(&request.body(()).unwrap()).map_or_else(|problem| problem.http().as_u16(), |()| 200)
    }

    #[test]
    fn a_page_of_somebody_else_changes_nothing() {
        const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
        assert_eq!(status("POST", &[JSON]), 200);
        assert_eq!(status("POST", &[]), 415);
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            assert_eq!(status("POST", &[("content-type", form)]), 415, "{form}");
        }
        assert_eq!(status("POST", &[("content-type", "application/grpc-web-text")]), 200);
        assert_eq!(status("POST", &[("content-type", "text/plain"), ("authorization", "Bearer x")]), 200);
        assert_eq!(status("DELETE", &[]), 200);
        for (origin, expected) in [
            ("https://app.example", 200),
            ("http://localhost:8000", 200),
            ("http://localhost:3000", 403),
            ("https://evil.example", 403),
            ("null", 403),
        ] {
            assert_eq!(status("POST", &[JSON, ("origin", origin)]), expected, "{origin}");
            assert_eq!(status("DELETE", &[("origin", origin)]), expected, "{origin}");
            assert_eq!(status("GET", &[("origin", origin)]), 200, "{origin}");
        }
    }

    #[test]
    fn a_body_of_two_lengths_is_refused() {
        assert_eq!(status("GET", &[("content-length", "3"), ("transfer-encoding", "chunked")]), 400);
    }
}
