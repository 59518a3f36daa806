//! The whole of somebody else's database, followed by a client that knows nothing of it: what it has from
//! states and events is at the end what the tables have, byte for byte.

use super::{everything, hub_of, next, watch};
use crate::{stress::number, support::Database};
use std::collections::BTreeMap;
use trex::{
    app::App,
    proto::{
        hub::v1::{WatchEvent, WatchRequest},
        rh_trex::v1::EventType,
    },
    store::Driven,
};

const SHOP: &str = include_str!("../../data/samples/shop.sql");
const RENTAL: &str = include_str!("../../data/samples/rental.sql");

/// The rows of a table by their keys, as its stream tells them.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<String, String>,
    revision: u64,
    events: u64,
}

impl Replica {
    fn take(&mut self, event: WatchEvent, table: &str) {
        let WatchEvent { row, previous, resource_id: id, revision, .. } = event.clone();
        match event.r#type() {
            EventType::Snapshot => assert_eq!(self.rows.insert(id, row), None, "{table}"),
            EventType::Bookmark => self.revision = self.revision.max(revision),
            kind => {
                assert!(revision > self.revision, "{table}: {revision} after {}", self.revision);
                assert!(event.transaction_end >= revision && !event.actor.is_empty(), "{table}: {event:?}");
                self.revision = revision;
                self.events += 1;
                let known = self.rows.get(&id);
                match kind {
                    EventType::Created => assert_eq!(known, None, "{table} {id}: there already"),
                    _ => assert_eq!(known, Some(&previous), "{table} {id}: the row before"),
                }
                match kind {
                    EventType::Deleted => self.rows.remove(&id),
                    _ => self.rows.insert(id, row),
                };
            }
        }
    }
}

/// Runs what a schema's own workload does, a statement at a time; what its constraints refuse is part of it.
async fn work(session: &Driven, steps: u64, seed: u64) -> u64 {
    let mut done = 0;
    for step in 0..steps {
        let (step, seed) = (step as i64, seed as i64);
        let row = session.query_one("SELECT sample.statement($1, $2)", &[&step, &seed]).await.unwrap();
        let statement: String = row.get(0);
        match session.batch_execute(&statement).await {
            Ok(()) => done += 1,
            Err(error) => {
                let code = error.code().expect("an answer of the server").code().to_owned();
                assert!(
                    code.starts_with("23") || code == "P0001" || code == "40P01",
                    "{statement}: {error:?}"
                );
                let _ = session.batch_execute("ROLLBACK").await;
            }
        }
    }
    done
}

/// What the tables have now.
async fn truth(session: &Driven, app: &App) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut truth = BTreeMap::new();
    for kind in app.catalog().kinds().iter() {
        let sql = "SELECT query FROM hub.state_query($1)";
        let query: String = session.query_one(sql, &[&kind.name().as_str()]).await.unwrap().get(0);
        let query = query.replacen("SELECT ", "SELECT to_json(t.*)::text, ", 1);
        let rows = session.query(&query, &[]).await.unwrap();
        let rows = rows.iter().map(|row| (row.get(1), row.get::<_, String>(0).replace(['\r', '\n'], " ")));
        truth.insert(kind.table.name.to_string(), rows.collect());
    }
    truth
}

async fn follow_all_of(schema: &str, seed: u64) {
    let database = Database::create().await;
    let hub = hub_of(&database, schema, "public.*").await;
    let session = database.connect().await;
    session.batch_execute("SET timezone = 'UTC'; SET intervalstyle = iso_8601").await.unwrap();
    work(&session, 200, seed).await;
    let names: Vec<_> = hub.app().catalog().kinds().iter().map(|kind| kind.table.name.to_string()).collect();
    assert!(names.len() > 4, "{names:?}");
    let steps = number("TREX_STEPS", 300);
    let writers: Vec<_> = (1..=3)
        .map(|writer| {
            let target = database.target();
            tokio::spawn(async move { work(&target.open().await.unwrap(), steps, seed * 100 + writer).await })
        })
        .collect();
    let mut streams = Vec::new();
    for name in &names {
        let request = WatchRequest { send_initial_state: true, include_previous: true, ..everything(name) };
        streams.push((name.clone(), watch(&hub, request).await, Replica::default()));
    }
    let mut done = 0;
    for writer in writers {
        done += writer.await.unwrap();
    }
    assert!(done > steps, "most of it is done: {done}");
    let last =
        session.query_one("SELECT revision FROM hub.seal()", &[]).await.unwrap().get::<_, i64>(0) as u64;
    let truth = truth(&session, hub.app()).await;
    let mut events = 0;
    for (name, stream, replica) in &mut streams {
        // Bookmarks say how far a quiet table has come.
        let newest = "SELECT coalesce(max(revision), 0) FROM (
            SELECT l.revision - l.events + row_number() OVER (PARTITION BY l.revision
              ORDER BY c.seq) AS revision, c.kind
            FROM hub.log l JOIN hub.change c ON c.xid = l.xid) e JOIN hub.watched w ON w.kind = e.kind
            WHERE w.relation = $1::text::regclass";
        let newest: i64 = session.query_one(newest, &[&name.as_str()]).await.unwrap().get(0);
        let mut has_state = false;
        while !has_state || (replica.revision < newest as u64 && replica.revision < last) {
            let event = next(stream).await.unwrap();
            has_state |= event.r#type() == EventType::Bookmark;
            replica.take(event, name);
        }
        assert_eq!(Some(&replica.rows), truth.get(name.as_str()), "{name}");
        events += replica.events;
    }
    assert!(events > 0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_is_followed() {
    follow_all_of(SHOP, number("TREX_SEED", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_business_is_followed() {
    follow_all_of(RENTAL, number("TREX_SEED", 2)).await;
}
