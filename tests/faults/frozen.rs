//! A hub that is frozen for longer than history is retained: when it goes on, its streams are told, and skip
//! nothing without a word.

use crate::{
    ONE_AT_A_TIME,
    process::{Frozen, Manner},
    suite::say,
    support::PATIENCE,
    support::writer::session,
    world::{Hub, World},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tonic_types::StatusExt;
use trex::proto::rh_trex::v1::{
    BackpressurePolicy, DinosaurWatchEvent, EventType, WatchDinosaursRequest,
    dinosaur_service_client::DinosaurServiceClient,
};

const LOOK: Duration = Duration::from_millis(20);
/// Events that are kept, and those that come while the hub is frozen.
const KEPT: &[&str] = &["--retention-events", "1000"];
const MISSED: u64 = 5000;
/// Events of one transaction.
const ROWS: u64 = 50;

/// An open watch, and the last revision that it is complete up to.
pub struct Stream {
    name: &'static str,
    events: Streaming<DinosaurWatchEvent>,
    epoch: String,
    at: u64,
}

impl Stream {
    pub async fn open(hub: &Hub, name: &'static str, request: WatchDinosaursRequest) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", hub.plain.address)).expect("a URL");
        let mut client = DinosaurServiceClient::new(endpoint.connect().await.expect("a connection"));
        let response = client.watch_dinosaurs(request).await?;
        let text = |name| response.metadata().get(name).and_then(|value| value.to_str().ok());
        let at = text("hub-revision").and_then(|text| text.parse().ok()).expect("hub-revision");
        let epoch = text("hub-epoch").expect("hub-epoch").to_owned();
        Ok(Self { name, events: response.into_inner(), epoch, at })
    }

    /// Reads on. Every revision is that of an event, so each comes after the one before, or the stream has
    /// skipped one.
    async fn next(&mut self) -> Result<(), Status> {
        let next = timeout(*PATIENCE, self.events.message()).await;
        let event = next.unwrap_or_else(|_| panic!("{}: nothing comes after {}", self.name, self.at))?;
        let event = event.expect("a stream does not end with OK");
        assert_eq!(event.dropped_before, 0, "{}: it was dropped from", self.name);
        if event.r#type() == EventType::Bookmark {
            assert_eq!(event.revision, self.at, "{}: a bookmark beyond what was delivered", self.name);
        } else {
            assert_eq!(event.revision, self.at + 1, "{}: skipped something without a word", self.name);
            self.at += 1;
        }
        Ok(())
    }

    pub async fn until(&mut self, revision: u64) {
        while self.at < revision {
            self.next().await.unwrap_or_else(|status| panic!("{}: {status:?}", self.name));
        }
    }

    /// Reads to the end, which the hub makes.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

fn watches() -> [(&'static str, WatchDinosaursRequest); 4] {
    let of = |backpressure: BackpressurePolicy| WatchDinosaursRequest {
        backpressure: backpressure.into(),
        ..Default::default()
    };
    let bookmarked = WatchDinosaursRequest {
        bookmark_interval: prost_types::Duration::try_from(Duration::from_millis(100)).ok(),
        ..of(BackpressurePolicy::CatchUp)
    };
    [
        ("drop", of(BackpressurePolicy::Drop)),
        ("catch up", of(BackpressurePolicy::CatchUp)),
        ("disconnect", of(BackpressurePolicy::Disconnect)),
        ("bookmarked", bookmarked),
    ]
}

pub async fn write(client: &Client, events: u64) {
    let insert = format!("INSERT INTO dinosaurs (species) SELECT 's' FROM generate_series(1, {ROWS})");
    for _ in 0..events / ROWS {
        client.batch_execute(&insert).await.expect("rows");
    }
}

pub async fn floor(client: &Client) -> u64 {
    let row = client.query_one("SELECT compacted FROM hub.retention WHERE low_water = compacted", &[]).await;
    row.map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).expect("a revision"))
}

/// The reason of an error, and the oldest revision in it.
pub fn told(status: &Status) -> (String, u64) {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    let oldest = info.metadata.get("oldest_revision").map_or("0", String::as_str);
    (info.reason, oldest.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_frozen_beyond_retention_tells_its_streams() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let manner = Manner { options: KEPT, ..Manner::default() };
    let world = World::start_with("frozen", manner).await;
    let [frozen, other] = &world.hubs;
    let client = session(&world.url()).await.expect("a session");
    let mut head = 0;
    for round in 1..=3 {
        let mut streams = Vec::new();
        for (name, request) in watches() {
            streams.push(Stream::open(frozen, name, request).await.expect("a watch"));
        }
        write(&client, 500).await;
        head += 500;
        for stream in &mut streams {
            stream.until(head).await;
        }
        let stopped = Frozen::new(vec![frozen.pid().await]);
        write(&client, MISSED).await;
        let seen = head;
        head += MISSED;
        // The other hub seals and trims.
        while floor(&client).await <= seen + ROWS {
            sleep(LOOK).await;
        }
        drop(stopped);
        for stream in &mut streams {
            let status = stream.end().await;
            let (reason, oldest) = told(&status);
            assert_eq!(
                (status.code(), reason.as_str()),
                (Code::OutOfRange, "REVISION_COMPACTED"),
                "{}",
                stream.name
            );
            assert!(
                oldest > stream.at,
                "{}: told at {}, which is retained from {oldest}",
                stream.name,
                stream.at
            );
            let trailer = status.metadata().get("hub-revision").expect("hub-revision");
            assert_eq!(trailer, &stream.at.to_string(), "{}: it has what it was said to have", stream.name);
            for hub in [frozen, other] {
                let again = WatchDinosaursRequest {
                    after_revision: Some(stream.at),
                    epoch: stream.epoch.clone(),
                    ..Default::default()
                };
                let refused = Stream::open(hub, "again", again).await.err().expect("a refusal");
                assert_eq!(told(&refused).0, "REVISION_COMPACTED", "{}: {refused:?}", hub.name);
            }
        }
        // From where there is something, it goes on at the one that was frozen.
        let oldest = floor(&client).await;
        let request = WatchDinosaursRequest { after_revision: Some(oldest), ..Default::default() };
        let mut resumed = Stream::open(frozen, "resumed", request).await.expect("a watch");
        resumed.until(head).await;
        say(&format!(
            "frozen, round {round}: {} streams told at {seen}, oldest {oldest}, head {head}",
            streams.len()
        ));
    }
    world.stop().await;
}
