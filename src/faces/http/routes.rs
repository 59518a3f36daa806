//! Routes: paths, methods, handlers.

use super::{
    body::HttpBody,
    problem::Problem,
    query::{Query, decoded},
};
use crate::{call::Call, error::Error};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A handler's answer.
pub type Answered = Result<Response<HttpBody>, Problem>;

type Handler = Arc<dyn Fn(Exchange) -> BoxFuture<'static, Answered> + Send + Sync>;

/// The values of a path's parameters, still percent-encoded.
type Parameters = Vec<(String, String)>;

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";

/// A request that has passed the gate.
pub struct Exchange {
    /// The call.
    pub call: Call,
    head: Parts,
    parameters: Parameters,
    body: Incoming,
    max_body: usize,
}

impl Exchange {
    /// The value of this parameter of the path.
    pub fn parameter(&self, name: &str) -> Result<String, Problem> {
        let found = self.parameters.iter().find(|(is, _)| is == name);
        found.map_or_else(|| Err(Problem::no_such_path()), |(_, value)| decoded(value))
    }

    /// The request's parameters.
    pub fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.head.uri.query().unwrap_or_default())
    }

    /// A header's text; a header that is no text counts as absent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// All of a header's texts, as a list.
    pub fn header_list(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The media type that the client prefers, the first of several; `None`: it accepts none.
    pub fn preferred<'a>(&self, offered: &[&'a str]) -> Option<&'a str> {
        preferred(&self.head, offered)
    }

    /// The body, which must be JSON of this form.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Undecodable(error.to_string()).into())
    }

    async fn bytes(self) -> Result<Bytes, Problem> {
        let read = Limited::new(self.body, self.max_body).collect().await;
        read.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::TooLarge(format!("it may have {} bytes", self.max_body)).into()
            } else {
                Problem::bad_request("UNREADABLE", format!("the body cannot be read: {error}"))
            }
        })
    }
}

/// A path, or a pattern of paths, with its methods.
pub struct Route {
    pattern: &'static str,
    streams: bool,
    produces: &'static [&'static str],
    handlers: Vec<(Method, Handler)>,
}

impl Route {
    /// A route for this pattern, with parameters in braces. The answers are JSON.
    pub fn at(pattern: &'static str) -> Self {
        Self { pattern, streams: false, produces: &[JSON], handlers: Vec::new() }
    }

    /// Adds a method and its handler.
    pub fn on<F>(mut self, method: Method, handler: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        self.handlers.push((method, Arc::new(move |exchange| Box::pin(handler(exchange)))));
        self
    }

    /// Makes the answers streams, of these media types.
    pub fn streaming(self, produces: &'static [&'static str]) -> Self {
        Self { streams: true, produces, ..self }
    }

    /// Its pattern, which names it in metrics.
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// Whether its answers are streams.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// The methods of the route, for `Allow`.
    pub fn allow(&self) -> HeaderValue {
        let mut methods: Vec<_> = self.handlers.iter().map(|(method, _)| method.as_str()).collect();
        if self.has_head() {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }

    /// A stream has no HEAD: it would begin only to be thrown away.
    fn has_head(&self) -> bool {
        !self.streams && self.handlers.iter().any(|(method, _)| method == Method::GET)
    }

    /// Answers a request for a path of this route.
    pub async fn answer(
        &self,
        call: &Call,
        (head, body): (Parts, Incoming),
        parameters: Parameters,
        max_body: usize,
    ) -> Answered {
        let asked = if head.method == Method::HEAD && self.has_head() { &Method::GET } else { &head.method };
        let Some((_, handler)) = self.handlers.iter().find(|(method, _)| method == asked) else {
            let message = format!("{} is not done here", head.method);
            let problem =
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", message);
            return Err(problem.header(header::ALLOW, self.allow()));
        };
        if preferred(&head, self.produces).is_none() {
            let message = format!("there is only {}", self.produces.join(", "));
            return Err(Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "INVALID_ARGUMENT",
                "NOT_ACCEPTABLE",
                message,
            ));
        }
        handler(Exchange { call: call.clone(), head, parameters, body, max_body }).await
    }
}

/// All routes.
#[derive(Default)]
pub(super) struct Routes(matchit::Router<Arc<Route>>);

impl Routes {
    /// Adds one.
    pub(super) fn add(&mut self, route: Route) -> Result<(), matchit::InsertError> {
        self.0.insert(route.pattern, Arc::new(route))
    }

    /// The route of a path, and the path's parameters.
    pub(super) fn find(&self, path: &str) -> Option<(Arc<Route>, Parameters)> {
        let found = self.0.at(path).ok()?;
        let parameters = found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((found.value.clone(), parameters.collect()))
    }
}

/// The offered media type that a request prefers, the first of several; all count alike if it does not say.
fn preferred<'a>(head: &Parts, offered: &[&'a str]) -> Option<&'a str> {
    let said: Vec<_> = head.headers.get_all(header::ACCEPT).iter().collect();
    if said.is_empty() {
        return offered.first().copied();
    }
    let ranges: Vec<_> = said
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(range)
        .collect();
    let quality = |media: &str| {
        // The most specific range counts.
        let matching = ranges.iter().filter_map(|(range, quality)| {
            let particular = match range.as_str() {
                range if range == media => 2,
                "*/*" => 0,
                range => {
                    let family = range.strip_suffix('*').filter(|family| family.ends_with('/'))?;
                    media.starts_with(family).then_some(1)?
                }
            };
            Some((particular, *quality))
        });
        matching.max_by_key(|(particular, _)| *particular).map_or(0, |(_, quality)| quality)
    };
    let mut best = None;
    for media in offered {
        let quality = quality(media);
        if quality > 0 && best.is_none_or(|(_, other)| quality > other) {
            best = Some((*media, quality));
        }
    }
    best.map(|(media, _)| media)
}

/// A range of media types in lower case, with its weight in thousandths.
fn range(text: &str) -> Option<(String, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|media| !media.is_empty())?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok())?;
    // Within bounds, so it fits.
    Some((media, (weight.clamp(0.0, 1.0) * 1000.0) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_media_type_that_is_taken_best_is_found() {
        let of = |accept: &str, offered: &[&'static str]| {
            let request = Request::builder().header(header::ACCEPT, accept).body(()).unwrap();
            preferred(&request.into_parts().0, offered)
        };
        let both = ["text/event-stream", "application/x-ndjson"];
        assert_eq!(of("*/*", &both), Some("text/event-stream"));
        assert_eq!(of("application/x-ndjson", &both), Some("application/x-ndjson"));
        assert_eq!(of("text/*;q=0.5, application/*", &both), Some("application/x-ndjson"));
        assert_eq!(of("*/*, text/event-stream;q=0", &both), Some("application/x-ndjson"));
        assert_eq!(of("text/html", &both), None);
        assert_eq!(of("", &both), None);
        assert_eq!(preferred(&Request::new(()).into_parts().0, &both), Some("text/event-stream"));
    }

    #[test]
    fn paths_are_found_by_their_parts() {
        let mut routes = Routes::default();
        routes
            .add(
                Route::at("/v1/tables/{t}/rows/{id}").on(Method::GET, async |_| Err(Problem::no_such_path())),
            )
            .unwrap();
        let (route, parameters) = routes.find("/v1/tables/a%2Fb/rows/7").unwrap();
        assert_eq!(route.allow(), "GET, HEAD, OPTIONS");
        assert_eq!(parameters, [("t".into(), "a%2Fb".into()), ("id".into(), "7".into())]);
        assert!(routes.find("/v1/tables/a/rows/7/8").is_none());
    }
}
