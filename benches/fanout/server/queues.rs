//! What one would write first: a queue for each subscriber, and tonic's encoder.

use super::{
    Feed,
    events::Events,
    watch::{Watch, Write, encode},
};
use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;
use trex::{faces::grpc::Grpc, proto::rh_trex::v1::DinosaurWatchEvent};

/// Events that a queue holds: the hub's default buffer.
const CAPACITY: usize = 8192;

type Subscribers<T> = Arc<Mutex<Vec<mpsc::Sender<T>>>>;

/// The queues hold bytes.
pub(super) fn encoded_once(grpc: &mut Grpc) -> anyhow::Result<Box<dyn Feed>> {
    serve(grpc, |event| Bytes::from(event.encode_to_vec()))
}

/// The queues hold events.
pub(super) fn encoded_for_each(grpc: &mut Grpc) -> anyhow::Result<Box<dyn Feed>> {
    serve(grpc, |event| Arc::new(event.clone()))
}

fn serve<T: Write + Clone>(
    grpc: &mut Grpc,
    ready: fn(&DinosaurWatchEvent) -> T,
) -> anyhow::Result<Box<dyn Feed>> {
    let subscribers = Subscribers::default();
    let subscribe = subscribers.clone();
    grpc.add(Watch(move |request| {
        let (sender, queue) = mpsc::channel(CAPACITY);
        subscribe.lock().push(sender);
        encode(Queue(queue), request)
    }));
    Ok(Box::new(Queues { subscribers, events: Events::new()?, ready }))
}

struct Queue<T>(mpsc::Receiver<T>);

impl<T> Stream for Queue<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}

struct Queues<T> {
    subscribers: Subscribers<T>,
    events: Events,
    ready: fn(&DinosaurWatchEvent) -> T,
}

impl<T: Write + Clone> Feed for Queues<T> {
    fn append(&mut self, events: u64) -> anyhow::Result<()> {
        for _ in 0..events {
            let event = (self.ready)(self.events.next());
            for queue in self.subscribers.lock().iter() {
                queue.try_send(event.clone()).ok().context("a queue is full, or its stream has ended")?;
            }
        }
        Ok(())
    }
}
