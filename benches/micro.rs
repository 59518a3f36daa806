//! The parts that every event goes through, one by one: encode, append, take, seal and read.
//!
//! `cargo bench --bench micro`; seal and read need a durable Postgres, which the bench starts.

mod support;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};
use support::{
    broker::{Broker, KIND, interest},
    cluster::Cluster,
};
use tokio::runtime::Runtime;
use trex::{
    broker::{Step, Subscription},
    catalog::Kind,
    faces::{ServedKind, dinosaurs::Dinosaurs},
    log::{Batch, Log, Part, Parts},
    model::{Change, ChangeType, Revision, Selector, Start, Writer},
    store::{HubConnection, LogPosition, PageBound},
    wire::{Rendition, envelope},
};

const DATABASE: &str = "micro";
const ROW: &str = concat!(
    r#"{"id":"0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f","species":"Tyrannosaurus","#,
    r#""created_at":"2026-11-20T05:45:41.574626+00:00","updated_at":"2026-11-20T05:45:41.574626+00:00"}"#
);

fn change(revision: u64, before: Option<&'static str>) -> Change<'static> {
    Change {
        revision: Revision::new(revision),
        kind: KIND,
        resource_id: "0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f",
        change: if before.is_some() { ChangeType::Updated } else { ChangeType::Created },
        after: Some(ROW),
        before,
        captured_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_153_541)),
        transaction_end: Revision::new(revision),
        writer: Writer { actor: Some("postgres"), ..Writer::default() },
    }
}

/// Events as the tailer adds them, after a revision.
fn batch(kind: &Kind, after: u64, events: u64) -> Batch {
    let mut batch = Batch::new(kind.name().clone(), kind.renderer.clone());
    for revision in after + 1..=after + events {
        batch.push(&change(revision, None), 0);
    }
    batch
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode a change");
    group.throughput(Throughput::Elements(1));
    let kind = Dinosaurs.kind();
    for (name, before) in [("created", None), ("updated, with the row before", Some(ROW))] {
        let change = change(1 << 20, before);
        let (mut event, mut previous) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                event.clear();
                previous.clear();
                let _ = envelope::event(black_box(&change), &*kind.renderer, &mut event);
                let _ = envelope::previous(&change, &*kind.renderer, &mut previous);
                event.len()
            });
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append to the log");
    // As for a plain watch: what it is sent is made before it is appended.
    let parts: Parts = [Part::Events(Rendition::Grpc)].into_iter().collect();
    for events in [1_u64, 16, 256] {
        group.throughput(Throughput::Elements(events));
        let (log, kind) = (Log::new(Revision::ZERO), Dinosaurs.kind());
        let mut revision = 0;
        group.bench_function(BenchmarkId::from_parameter(events), |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let ready = batch(&kind, revision, events);
                    revision += events;
                    let started = Instant::now();
                    log.append(ready, Revision::new(revision), parts);
                    spent += started.elapsed();
                    if let Some(floor) = log.excess(8 << 20) {
                        log.trim(floor, floor);
                    }
                }
                spent
            });
        });
    }
    group.finish();
}

fn take(criterion: &mut Criterion) -> anyhow::Result<()> {
    const EVENTS: u64 = 4096;
    let broker = Broker::new()?;
    broker.publish(batch(&Dinosaurs.kind(), 0, EVENTS), EVENTS);
    let mut group = criterion.benchmark_group("take from the log");
    group.throughput(Throughput::Elements(EVENTS));
    let ids = |id: &str| Selector::new(&[], vec![id.to_owned()]);
    for (name, selector, include_previous) in [
        ("plain: slices", Selector::ALL, false),
        ("filtered by id, all match", ids("0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f"), false),
        ("filtered by id, none match", ids("another"), false),
        ("filtered by type, none match", Selector::new(&[ChangeType::Deleted], Vec::new()), false),
        ("with the row before", Selector::ALL, true),
    ] {
        let interest = interest(selector, include_previous);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || broker.topic.subscribe(Start::After(Revision::ZERO), interest.clone()).ok(),
                |subscription| subscription.map(|mut subscription| (drain(&mut subscription), subscription)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    Ok(())
}

/// Takes until nothing is left. A filtered stream yields now and then: it is polled as often as it asks for.
fn drain(subscription: &mut Subscription) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    let mut idle = 0;
    while idle < 2 {
        match subscription.poll_next(&mut cx) {
            Poll::Ready(Step::Frames(frames)) => bytes += frames.len(),
            Poll::Ready(Step::End(_)) => break,
            Poll::Pending => idle += 1,
        }
    }
    bytes
}

/// One packet: seals and reads what this many transactions have captured.
fn seal_and_read(criterion: &mut Criterion) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let cluster = runtime.block_on(async {
        let cluster = Cluster::start(None).await?;
        cluster.create_database(DATABASE).await?;
        anyhow::Ok(cluster)
    })?;
    let target = cluster.target(DATABASE)?;
    let (sealer, writer) = runtime.block_on(async {
        anyhow::Ok((HubConnection::open(&target).await?, cluster.connect(DATABASE).await?))
    })?;
    let mut group = criterion.benchmark_group("seal and read");
    group.sample_size(20);
    for (events, transactions) in [(1, 1), (100, 1), (100, 100), (1000, 1), (1000, 1000)] {
        group.throughput(Throughput::Elements(events));
        let rows = events / transactions;
        let insert = format!(
            "INSERT INTO dinosaurs (species) SELECT 'Tyrannosaurus' FROM generate_series(1, {rows});"
        );
        // The fsyncs of what is to be sealed are not what is measured.
        let work = format!(
            "SET synchronous_commit = off; {}",
            format!("BEGIN; {insert} COMMIT;").repeat(transactions as usize)
        );
        let run = async |times: u64| {
            let mut spent = Duration::ZERO;
            let bound = PageBound { events: 1000, ..PageBound::HUB };
            let mut position = LogPosition::after(sealer.seal().await?.revision);
            for _ in 0..times {
                writer.batch_execute(&work).await?;
                let started = Instant::now();
                let (sealed, rows) = sealer.seal_and_read(&mut position, bound).await?;
                spent += started.elapsed();
                anyhow::ensure!(sealed.events == events && rows.len() as u64 == events, "{sealed:?}");
            }
            anyhow::Ok(spent)
        };
        let name = format!("{events} events in {transactions} transactions");
        let mut failure = None;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(run(times)).unwrap_or_else(|error| {
                    failure = Some(error);
                    Duration::from_secs(1)
                })
            });
        });
        if let Some(error) = failure {
            return Err(error);
        }
    }
    group.finish();
    drop((sealer, writer));
    runtime.block_on(cluster.stop())
}

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    append(&mut criterion);
    take(&mut criterion)?;
    seal_and_read(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
