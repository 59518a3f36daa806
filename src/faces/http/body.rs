//! The bodies of answers.

use crate::{error::Error, server::Endable};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use serde::Serialize;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body.
pub enum HttpBody {
    /// A complete body.
    Whole(Full<Bytes>),
    /// A stream.
    Stream(Pin<Box<dyn Streamed>>),
}

/// The body of a stream.
pub trait Streamed: Body<Data = Bytes, Error = anyhow::Error> + Send {
    /// The last frame of a stream that ends for this reason, as in [`Endable`].
    fn last(self: Pin<&mut Self>, error: Error) -> Option<Frame<Bytes>>;
}

impl HttpBody {
    /// An empty body.
    pub fn empty() -> Self {
        Self::Whole(Full::default())
    }

    /// A complete body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

/// An answer that is this value in JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<HttpBody> {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            with_status(StatusCode::INTERNAL_SERVER_ERROR, HttpBody::empty())
        }
    }
}

/// An answer that is this text, which is JSON.
pub fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Response<HttpBody> {
    let mut response = with_status(status, HttpBody::whole(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An answer with this status.
pub fn with_status(status: StatusCode, body: HttpBody) -> Response<HttpBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl Endable for HttpBody {
    fn end(&mut self, error: Error) -> Option<Frame<Bytes>> {
        match self {
            Self::Whole(_) => None,
            Self::Stream(body) => body.as_mut().last(error),
        }
    }
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
