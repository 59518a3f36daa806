//! What the server knows of a face. A face reads requests and writes answers in a protocol of its own; the
//! server gives every call its name, its deadline, its log line and its count, whatever the protocol.

use crate::{call::Call, error::Error};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::{error, time::Duration};

/// A method of a face, as metrics and the log name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Its name. There are finitely many: a path that a client makes up has no name.
    pub name: &'static str,
    /// Whether either side streams. Such a call has only its client's deadline, and is left out of call
    /// durations.
    pub streams: bool,
    /// Whether nobody is asked who calls it.
    pub anonymous: bool,
}

/// What answers calls.
pub trait Service: Clone + Send + Sync + Unpin + 'static {
    /// The body of an answer.
    type Body: Endable;

    /// Whether its clients may speak HTTP/1.1, upgrades included, and not HTTP/2 alone.
    const HTTP1: bool;

    /// The method that a request is for.
    fn method(&self, request: &Request<Incoming>) -> Method;

    /// How long the client waits for its answer, if it says so.
    fn patience(&self, headers: &HeaderMap) -> Option<Duration>;

    /// Answers a call.
    fn answer(
        &self,
        call: &Call,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The answer to a call that failed outside the face.
    fn refuse(&self, call: &Call, method: Method, error: Error) -> Response<Self::Body>;

    /// How the call ended, in the protocol's terms, if this answer says so before its body.
    fn outcome<B>(&self, answer: &Response<B>) -> Option<String>;

    /// The same for the trailers of an answer.
    fn outcome_in(&self, trailers: &HeaderMap) -> Option<String>;

    /// Counts a call that has ended. `duration` is given for calls that do not stream.
    fn count(&self, method: Method, outcome: &str, duration: Option<Duration>);
}

/// The body of an answer, which the server may have to end early.
pub trait Endable:
    Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>> + Unpin + Send + 'static
{
    /// The last frame of a body that ends for this reason, such as a deadline; `None`: the protocol cannot
    /// express it, and the stream is cut off. The body is not polled afterwards.
    fn end(&mut self, error: Error) -> Option<Frame<Bytes>>;
}
