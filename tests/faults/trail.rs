//! The audit trail that both hubs keep, whichever of them lives: as a stream among the others, so that every
//! validator sees it.

use crate::{
    support::history::{End, Event, Headers, Row, Stream},
    world::World,
};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use trex::{model::ChangeType, proto::rh_trex::v1::WatchDinosaursRequest};

/// Everything that is sealed is in it, and nothing is a dead letter.
const COMPLETE: &str = "SELECT c.revision = h.revision AND NOT EXISTS (SELECT FROM hub.dead_letter)
                        FROM hub.controller c, hub.head h";
const RECORDS: &str = "SELECT revision, type, resource_id, after->>'species',
                       (extract(epoch FROM (after->>'updated_at')::timestamptz) * 1000000)::bigint,
    before->>'species', (extract(epoch FROM (before->>'updated_at')::timestamptz) * 1000000)::bigint, epoch
    FROM hub.audit WHERE type > 0 ORDER BY revision, epoch";

/// The whole trail, as soon as it is complete.
pub async fn of(world: &World) -> Stream {
    let mut control = world.control.lock().await;
    let client = control.client().await;
    while !client.query_one(COMPLETE, &[]).await.expect("a controller").get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    read(client).await
}

async fn read(client: &Client) -> Stream {
    let records = client.query(RECORDS, &[]).await.expect("records");
    let epoch = records.first().expect("a record").get(7);
    let event = |record: &tokio_postgres::Row| {
        let row = |at: usize| Some(Row::new(record.get::<_, Option<String>>(at)?, record.get(at + 1)));
        Event {
            revision: record.get::<_, i64>(0) as u64,
            change: ChangeType::from_number(record.get::<_, i16>(1).into()).expect("a change"),
            id: record.get(2),
            after: row(3),
            previous: row(5),
            dropped_before: 0,
            conflated: 0,
            took: None,
        }
    };
    Stream {
        name: "audit trail".to_owned(),
        request: WatchDinosaursRequest {
            include_previous: true,
            after_revision: Some(0),
            ..Default::default()
        },
        timeout: None,
        stalls: false,
        headers: Headers { revision: 0, epoch, seen: Instant::now() },
        state: Vec::new(),
        events: records.iter().map(event).collect(),
        bookmarks: Vec::new(),
        end: End::Finished,
        status: None,
    }
}
