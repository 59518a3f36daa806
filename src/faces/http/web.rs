//! gRPC-Web, beside the routes: each service has its own paths.

use super::{
    body::{HttpBody, Streamed},
    problem::Problem,
    routes::Answered,
};
use crate::{
    call::Call,
    error::Error,
    faces::grpc::{GrpcFace, WebBody, is_web},
    server::Endable,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use std::pin::Pin;

/// What may be done at the path of a service's method.
pub(super) fn allowed() -> HeaderValue {
    HeaderValue::from_static("POST, OPTIONS")
}

/// Answers a request for a method of a service.
pub(super) async fn answer(face: &GrpcFace, call: &Call, request: Request<Incoming>) -> Answered {
    if request.method() != Method::POST {
        let message = format!("{} is not done here", request.method());
        let problem =
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", message);
        return Err(problem.header(header::ALLOW, allowed()));
    }
    if !is_web(request.headers()) {
        let (status, message) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gRPC-Web is spoken here");
        return Err(Problem::new(status, "INVALID_ARGUMENT", "MEDIA_TYPE", message));
    }
    Ok(streamed(face.answer_web(call, request).await))
}

/// An answer as this listener has it.
pub(super) fn streamed(response: Response<WebBody>) -> Response<HttpBody> {
    response.map(|body| HttpBody::Stream(Box::pin(body)))
}

impl Streamed for WebBody {
    fn last(self: Pin<&mut Self>, error: Error) -> Option<Frame<Bytes>> {
        self.get_mut().end(error)
    }
}
