//! What a broker behind this server loop cannot exceed: the loop itself, with nothing to think about.

use super::{
    Feed,
    head::{FRAMES, FRAMES_OF_NOTHING, Follower, Head},
    watch::{Watch, encode},
};
use crate::{client::FRAME, support::wire::HEADER};
use bytes::Bytes;
use std::{
    convert::Infallible,
    future::ready,
    pin::Pin,
    task::{Context, Poll},
};
use tokio_stream::Stream;
use tonic::{Status, body::Body};
use trex::faces::grpc::Grpc;

/// Slices of one static segment as an HTTP/2 body.
pub(super) fn body(grpc: &mut Grpc) -> Box<dyn Feed> {
    let head = Head::default();
    let follow = head.clone();
    grpc.add(Watch(move |_| {
        let mut response = http::Response::new(Body::new(Slices(follow.follow())));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
        ready(response)
    }));
    Box::new(head)
}

/// Ready messages, one by one, through tonic's encoder.
pub(super) fn tonic(grpc: &mut Grpc) -> Box<dyn Feed> {
    let head = Head::default();
    let follow = head.clone();
    grpc.add(Watch(move |request| encode(Messages(follow.follow()), request)));
    Box::new(head)
}

struct Slices(Follower);

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let passed = self.0.poll_pass(FRAMES, cx);
        passed.map(|events| Some(Ok(http_body::Frame::data(FRAMES_OF_NOTHING.slice(..events * FRAME)))))
    }
}

struct Messages(Follower);

impl Stream for Messages {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_pass(1, cx).map(|_| Some(Ok(FRAMES_OF_NOTHING.slice(HEADER..FRAME))))
    }
}
