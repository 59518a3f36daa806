//! Where a broadcast channel belongs: waking 1,000 sleeping subscriptions by the broker's map of wakers, by
//! an async-broadcast channel that only rings, and by one that carries the events.
//!
//! `cargo bench --bench doorbell`

mod support;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use support::broker::{Broker, KIND, interest};
use trex::{
    broker::{Step, Subscription},
    log::Batch,
    model::{Change, ChangeType, Revision, Selector, Start, Writer},
    wire::{Renderer, Unreadable},
};

const SUBSCRIBERS: usize = 1000;
/// A framed event as the design counts them.
const EVENT: [u8; 167] = [7; 167];

/// Rows with which a frame is as long as the others.
struct Rows;

impl Renderer for Rows {
    fn message(&self, _: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.extend_from_slice(&[7; EVENT.len() - 13]);
        Ok(())
    }
}

/// What a woken task does at the least: it notes that it is to run.
#[derive(Default)]
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A broker with subscriptions that sleep.
struct Sleeping {
    broker: Broker,
    subscriptions: Vec<Subscription>,
    waker: Waker,
    rows: Arc<Rows>,
    next: u64,
}

impl Sleeping {
    fn new() -> anyhow::Result<Self> {
        let broker = Broker::new()?;
        let subscribe = |_| broker.topic.subscribe(Start::Now, interest(Selector::ALL, false)).ok();
        let subscriptions = (0..SUBSCRIBERS).filter_map(subscribe).collect();
        let (waker, rows) = (Waker::from(Arc::new(Count::default())), Arc::new(Rows));
        let mut this = Self { broker, subscriptions, waker, rows, next: 0 };
        this.drain();
        Ok(this)
    }

    fn publish(&mut self, events: usize) {
        let mut batch = Batch::new(KIND.into(), self.rows.clone());
        for _ in 0..events {
            self.next += 1;
            let revision = Revision::new(self.next);
            let change = Change {
                revision,
                kind: KIND,
                resource_id: "id",
                change: ChangeType::Created,
                after: Some("{}"),
                before: None,
                captured_at: None,
                writer: Writer::default(),
                transaction_end: revision,
            };
            batch.push(&change, 0);
        }
        self.broker.publish(batch, self.next);
    }

    /// Every subscription takes what there is, and goes to sleep. Returns the bytes taken.
    fn drain(&mut self) -> usize {
        let mut cx = Context::from_waker(&self.waker);
        let mut bytes = 0;
        for subscription in &mut self.subscriptions {
            while let Poll::Ready(Step::Frames(frames)) = subscription.poll_next(&mut cx) {
                bytes += frames.len();
            }
        }
        bytes
    }
}

/// The same with a channel: of nothing, as a doorbell, or of the events themselves.
struct Channel<T> {
    sender: async_broadcast::Sender<T>,
    receivers: Vec<async_broadcast::Receiver<T>>,
    waker: Waker,
}

impl<T: Clone> Channel<T> {
    fn new(capacity: usize) -> Self {
        let (mut sender, first) = async_broadcast::broadcast(capacity);
        sender.set_overflow(true);
        let mut receivers = vec![first];
        receivers.extend((1..SUBSCRIBERS).map(|_| sender.new_receiver()));
        Self { sender, receivers, waker: Waker::from(Arc::new(Count::default())) }
    }

    fn send(&self, items: usize, item: &T) {
        for _ in 0..items {
            let _ = self.sender.try_broadcast(item.clone());
        }
    }

    /// Every receiver takes what there is, and goes to sleep. Returns how many it took.
    fn drain(&mut self) -> usize {
        let mut cx = Context::from_waker(&self.waker);
        let mut taken = 0;
        for receiver in &mut self.receivers {
            let stream = receiver;
            while poll_once(&mut cx, stream) {
                taken += 1;
            }
        }
        taken
    }
}

fn poll_once<T: Clone>(cx: &mut Context<'_>, receiver: &mut async_broadcast::Receiver<T>) -> bool {
    let mut receiver = pin!(receiver);
    let mut next = pin!(poll_fn(|cx| futures_util::Stream::poll_next(receiver.as_mut(), cx)));
    matches!(next.as_mut().poll(cx), Poll::Ready(Some(_)))
}

/// Only the publisher's part: what stands between a seal and the first byte.
fn publishing(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("publish to 1,000 sleepers");
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    {
        let mut broker = Sleeping::new()?;
        group.bench_function("map of wakers", |bencher| {
            bencher.iter_custom(|times| {
                timed(
                    times,
                    &mut broker,
                    |b| b.publish(1),
                    |b| {
                        b.drain();
                    },
                )
            });
        });
    }
    let mut channel = Channel::new(1);
    group.bench_function("async-broadcast as the doorbell", |bencher| {
        bencher.iter_custom(|times| {
            timed(
                times,
                &mut channel,
                |c| c.send(1, &()),
                |c| {
                    c.drain();
                },
            )
        });
    });
    group.finish();
    Ok(())
}

/// `times` runs of one part, with another, not timed, after each.
fn timed<S>(times: u64, state: &mut S, part: impl Fn(&mut S), other: impl Fn(&mut S)) -> std::time::Duration {
    (0..times)
        .map(|_| {
            let started = std::time::Instant::now();
            part(state);
            let elapsed = started.elapsed();
            other(state);
            elapsed
        })
        .sum()
}

/// The whole way, publisher and all subscribers, for appends of 1, 16 and 256 events.
fn delivering(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("publish, wake and take");
    for events in [1_usize, 16, 256] {
        group.throughput(Throughput::Elements((events * SUBSCRIBERS) as u64));
        {
            let mut broker = Sleeping::new()?;
            group.bench_function(BenchmarkId::new("shared log, map of wakers", events), |bencher| {
                bencher.iter_batched(
                    || (),
                    |()| {
                        broker.publish(events);
                        broker.drain()
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        let mut channel = Channel::new(events);
        let event = Bytes::from_static(&EVENT);
        group.bench_function(BenchmarkId::new("async-broadcast of events", events), |bencher| {
            bencher.iter_batched(
                || (),
                |()| {
                    channel.send(events, &event);
                    channel.drain()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    publishing(&mut criterion)?;
    delivering(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
