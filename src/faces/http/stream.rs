//! Watches as streams of one answer: server-sent events, or lines of JSON.

use super::{
    body::{HttpBody, Streamed, with_status},
    problem::Problem,
    query::Query,
    routes::{Answered, Exchange, Route},
    sse::{self, Again},
    tables,
    watch::{Asked, Place},
};
use crate::{
    call::Call,
    catalog::Attached,
    error::Error,
    service::{UseCases, WatchEnd, WatchStep, WatchStream},
    wire::Rendition,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body, Frame};
use serde_json::{Value, json};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

const SSE: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

/// The routes.
pub(super) fn routes(cases: &UseCases) -> Vec<Route> {
    let cases = cases.clone();
    let watch = Route::at("/v1/tables/{table}/watch").streaming(&[SSE, LINES]);
    vec![watch.on(Method::GET, move |exchange| watch_table(cases.clone(), exchange))]
}

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sse,
    Lines,
}

async fn watch_table(cases: UseCases, exchange: Exchange) -> Answered {
    let form = match exchange.preferred(&[SSE, LINES]) {
        Some(LINES) => Form::Lines,
        _ => Form::Sse,
    };
    let last_seen = last_seen(&exchange);
    let comes_again = form == Form::Sse && last_seen.as_ref().map_or(true, Option::is_some);
    let opened = async { begin(&cases, &exchange, form, last_seen?).await };
    match opened.await {
        Err(problem) if comes_again => Ok(turned_away(&problem, &exchange.call)),
        opened => opened,
    }
}

/// The id of the last event that a reader saw which was cut off; `None`: it comes for the first time.
fn last_seen(exchange: &Exchange) -> Result<Option<String>, Problem> {
    let said = exchange.header("last-event-id").filter(|id| !id.is_empty()).map(str::to_owned);
    match said {
        Some(id) => Ok(Some(id)),
        None => Ok(exchange.query()?.get("last_event_id")?.filter(|id| !id.is_empty()).map(str::to_owned)),
    }
}

async fn begin(cases: &UseCases, exchange: &Exchange, form: Form, last_seen: Option<String>) -> Answered {
    let query: Query = exchange.query()?;
    let resumes = last_seen.map(|id| Place::parse("Last-Event-ID", &id)).transpose()?;
    let rendition = match form {
        Form::Sse => Rendition::Sse,
        Form::Lines => Rendition::Lines,
    };
    let (request, seen) = Asked::from_query(&query)?.request(rendition, resumes)?;
    let (has_state, table) = (request.initial_state, exchange.parameter("table")?);
    let (stream, attached) = cases.watch_any_table(&exchange.call, &table, request, &seen).await?;
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("hub-revision"), stream.revision_at_start().get().into());
    if let Ok(epoch) = HeaderValue::from_str(stream.epoch().as_str()) {
        headers.insert(HeaderName::from_static("hub-epoch"), epoch);
    }
    if let Ok(mark) = HeaderValue::from_str(stream.mark())
        && !mark.is_empty()
    {
        headers.insert(HeaderName::from_static("hub-policy"), mark);
    }
    let opening = opening(form, &stream, attached.as_deref(), has_state);
    let body = Events { call: exchange.call.clone(), form, opening: Some(opening.into()), stream };
    let mut response = answer(form, HttpBody::Stream(Box::pin(body)));
    response.headers_mut().extend(headers);
    Ok(response)
}

/// What a stream begins with: where, and what the rows look like.
fn opening(form: Form, stream: &WatchStream, attached: Option<&Attached>, has_state: bool) -> Vec<u8> {
    let (epoch, revision) = (stream.epoch(), stream.revision_at_start());
    let what = open_message(stream, attached);
    match form {
        Form::Sse => sse::open(&what, (!has_state).then_some((epoch, revision))),
        Form::Lines => line("open", &what),
    }
}

/// What is said when a watch begins.
pub(super) fn open_message(stream: &WatchStream, attached: Option<&Attached>) -> Value {
    let mut what = json!({
        "epoch": stream.epoch().as_str(),
        "revision": stream.revision_at_start().to_string(),
    });
    if !stream.mark().is_empty() {
        what["policy"] = stream.mark().into();
    }
    if let Some(attached) = attached {
        what["schema"] = tables::described(attached);
    }
    what
}

/// What is said when the hub ends a watch: why, and what its client has.
pub(super) fn end_message(end: WatchEnd, call: &Call) -> (Problem, Value) {
    let problem = Problem::from(end.error);
    let mut what = json!({ "error": problem.told(call), "dropped": end.dropped.to_string() });
    if let Some(revision) = end.revision {
        what["revision"] = revision.to_string().into();
    }
    (problem, what)
}

fn line(name: &str, what: &Value) -> Vec<u8> {
    format!("{{\"{name}\":{what}}}\n").into_bytes()
}

/// A stream, to be handed on as it comes.
fn answer(form: Form, body: HttpBody) -> Response<HttpBody> {
    let mut response = with_status(StatusCode::OK, body);
    let headers = response.headers_mut();
    let media = match form {
        Form::Sse => SSE,
        Form::Lines => LINES,
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx would gather it.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// The answer to a reader that comes again and cannot be served. `EventSource` gives up, without a word to
/// its page, after any other status than these.
fn turned_away(problem: &Problem, call: &Call) -> Response<HttpBody> {
    match Again::after(problem) {
        Again::Never => with_status(StatusCode::NO_CONTENT, HttpBody::empty()),
        again => {
            let end = sse::end(&json!({ "error": problem.told(call) }), again);
            answer(Form::Sse, HttpBody::whole(end))
        }
    }
}

/// The body of a watch: the log's bytes, as they are.
struct Events {
    call: Call,
    form: Form,
    /// Until it is sent.
    opening: Option<Bytes>,
    stream: WatchStream,
}

impl Events {
    /// With the policy in the ids, which what is shared does not know.
    fn marked(&self, frames: Bytes) -> Bytes {
        match (self.form, self.stream.mark()) {
            (Form::Lines, _) | (Form::Sse, "") => frames,
            (Form::Sse, mark) => sse::marked(&frames, mark).into(),
        }
    }

    fn end(&self, end: WatchEnd) -> Frame<Bytes> {
        let (problem, what) = end_message(end, &self.call);
        Frame::data(Bytes::from(match self.form {
            Form::Sse => sse::end(&what, Again::after(&problem)),
            Form::Lines => line("end", &what),
        }))
    }
}

impl Streamed for Events {
    fn last(mut self: Pin<&mut Self>, error: Error) -> Option<Frame<Bytes>> {
        let end = self.stream.end(error);
        Some(self.end(end))
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(Ok(Frame::data(self.marked(opening)))));
        }
        Poll::Ready(match ready!(self.stream.poll_next(cx)) {
            Some(WatchStep::Frames(frames)) => Some(Ok(Frame::data(self.marked(frames)))),
            Some(WatchStep::End(end)) => Some(Ok(self.end(end))),
            None => None,
        })
    }
}
