//! The load: writers that create at a rate, watchers that note when each row came.

use super::rows::Rows;
use crate::{
    client::{Hub, Link},
    proto::rh_trex::v1::{
        BackpressurePolicy, CreateDinosaurRequest, EventType, WatchDinosaursRequest,
        dinosaur_service_client::DinosaurServiceClient,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// How long the last events may take to arrive.
const GRACE: Duration = Duration::from_secs(10);

/// What to write.
pub(super) struct Load {
    pub(super) span: Duration,
    /// Rows a second of all writers; 0: as many as they can.
    pub(super) rate: u32,
    pub(super) writers: u32,
}

/// When a row was sent, and acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) sent: Instant,
    /// `None`: the call failed.
    pub(super) acknowledged: Option<Instant>,
}

/// What was written, by writer.
pub(super) struct Written {
    pub(super) rows: Vec<Vec<Row>>,
    pub(super) took: Duration,
}

impl Written {
    pub(super) fn acknowledged(&self) -> u64 {
        self.rows.iter().flatten().filter(|row| row.acknowledged.is_some()).count() as u64
    }
}

impl Load {
    /// Writes until the time is over, or Ctrl-C.
    pub(super) async fn write(&self, hub: &Hub, rows: &Rows) -> Result<Written, Status> {
        let stop = CancellationToken::new();
        let began = Instant::now();
        let mut writers = JoinSet::new();
        for writer in 0..self.writers {
            let channel = hub.connect().await?;
            let pause = Duration::from_secs(1) * self.writers / self.rate.max(1);
            let pause = if self.rate == 0 { Duration::ZERO } else { pause };
            // Not all at once: the first rows are spread over the first interval.
            let first = pause * writer / self.writers;
            let client = DinosaurServiceClient::new(channel);
            writers.spawn(write_one(client, rows.clone(), writer, (first, pause), stop.clone()));
        }
        tokio::select! {
            () = tokio::time::sleep(self.span) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
        let mut written: Vec<_> = (0..self.writers).map(|_| Vec::new()).collect();
        while let Some(ended) = writers.join_next().await {
            let (writer, rows) = ended.map_err(|error| Status::internal(error.to_string()))??;
            if let Some(place) = written.get_mut(writer as usize) {
                *place = rows;
            }
        }
        Ok(Written { rows: written, took: began.elapsed() })
    }
}

async fn write_one(
    mut client: DinosaurServiceClient<Link>,
    rows: Rows,
    writer: u32,
    (first, pause): (Duration, Duration),
    stop: CancellationToken,
) -> Result<(u32, Vec<Row>), Status> {
    let mut written = Vec::new();
    let mut due = Instant::now() + first;
    loop {
        // A writer that is late does not hurry: the rate is the most there is.
        due = due.max(Instant::now());
        let sleeping = tokio::time::sleep_until(due.into());
        if stop.run_until_cancelled(sleeping).await.is_none() || stop.is_cancelled() {
            return Ok((writer, written));
        }
        let request = CreateDinosaurRequest { species: rows.species(writer, written.len()) };
        let sent = Instant::now();
        match client.create_dinosaur(request).await {
            Ok(_) => written.push(Row { sent, acknowledged: Some(Instant::now()) }),
            // A full hub is part of what is measured.
            Err(status) if status.code() == Code::Unavailable && !written.is_empty() => {
                written.push(Row { sent, acknowledged: None });
            }
            Err(status) => return Err(status),
        }
        due += pause;
    }
}

/// When a row of a writer came to a watcher.
pub(super) type Received = (usize, usize, Instant);

/// The watchers at work.
pub(super) struct Watching {
    tasks: JoinSet<Vec<Received>>,
    stop: CancellationToken,
    progress: Arc<Progress>,
    watchers: u64,
}

#[derive(Default)]
struct Progress {
    received: AtomicU64,
    more: Notify,
}

/// Opens the watches: when it returns, all of them see whatever is committed from now on.
pub(super) async fn watch(hub: &Hub, rows: &Rows, watchers: u32) -> Result<Watching, Status> {
    let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let mut client = DinosaurServiceClient::new(hub.connect().await?);
        let request = WatchDinosaursRequest {
            types: vec![EventType::Created.into()],
            filter: rows.filter(),
            backpressure: BackpressurePolicy::CatchUp.into(),
            ..Default::default()
        };
        let stream = client.watch_dinosaurs(request).await?.into_inner();
        let (rows, stop, progress) = (rows.clone(), stop.clone(), progress.clone());
        tasks.spawn(async move {
            let mut received = Vec::new();
            stop.run_until_cancelled(read(stream, &rows, &progress, &mut received)).await;
            received
        });
    }
    Ok(Watching { tasks, stop, progress, watchers: watchers.into() })
}

/// Runs until the stream ends; a stream that ends early shows as missing events.
async fn read(
    mut stream: Streaming<crate::proto::rh_trex::v1::DinosaurWatchEvent>,
    rows: &Rows,
    progress: &Progress,
    received: &mut Vec<Received>,
) {
    while let Ok(Some(event)) = stream.message().await {
        let now = Instant::now();
        let row = event.dinosaur.as_ref().and_then(|dinosaur| rows.parse(&dinosaur.species));
        if let Some((writer, n)) = row {
            received.push((writer, n, now));
            progress.received.fetch_add(1, Ordering::Relaxed);
            progress.more.notify_one();
        }
    }
}

impl Watching {
    /// Waits until every watcher has all that was acknowledged, for a few seconds at most.
    pub(super) async fn finish(mut self, acknowledged: u64) -> Vec<Vec<Received>> {
        let all = async {
            while self.progress.received.load(Ordering::Relaxed) < acknowledged * self.watchers {
                self.progress.more.notified().await;
            }
        };
        // What is not there by then is reported as missing.
        let _ = timeout(GRACE, all).await;
        self.stop.cancel();
        let mut received = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            received.extend(ended);
        }
        received
    }
}
