//! A burst, far larger than a stream's buffer, to watchers that keep reading: nobody loses anything.

use crate::support::{
    Database, TestHub,
    history::{History, Journal, Row},
    recorder::{Recorder, SENTINEL},
    validators::validate,
    writer::{MARKS, Open, Verb, session},
};
use trex::proto::rh_trex::v1::WatchDinosaursRequest;

/// More than the default buffer of 8,192.
const EVENTS: usize = 10_000;
const WATCHERS: usize = 100;
const CONNECTIONS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_in_one_transaction_reaches_all_who_read() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let writer = session(database.url()).await.expect("a session");
    writer.batch_execute(MARKS).await.expect("a table");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(hub.client().await);
    }
    let mut watchers = Vec::new();
    for (number, client) in clients.iter().cycle().take(WATCHERS).enumerate() {
        let request = WatchDinosaursRequest::default();
        watchers.push(Recorder::start(client.clone(), &format!("watcher {number}"), request).await);
    }

    let mut journal = Journal::default();
    let burst: Vec<String> = (0..EVENTS).map(|number| format!("row-{number}")).collect();
    let end = [SENTINEL.to_owned()];
    let transactions: [(&str, &[Verb], &[String]); 2] =
        [("burst", &[Verb::Insert], &burst), ("end", &[Verb::Insert, Verb::Update, Verb::Delete], &end)];
    for (mark, verbs, ids) in transactions {
        let mut open = Open::begin(&writer, mark.to_owned()).await.expect("BEGIN");
        for verb in verbs {
            open.run(*verb, ids).await.expect("a change");
        }
        journal.transactions.push(open.commit().await);
    }
    let table = "SELECT id, species, (extract(epoch FROM updated_at) * 1000000)::bigint FROM dinosaurs";
    let rows = writer.query(table, &[]).await.expect("rows");
    journal.table =
        rows.iter().map(|row| (row.get(0), Row::new(row.get::<_, String>(1), row.get(2)))).collect();

    let mut history = History::default();
    for watcher in watchers {
        let stream = watcher.finish().await;
        assert_eq!((stream.events.len(), stream.dropped()), (EVENTS + 3, 0), "{}", stream.name);
        history.streams.push(stream);
    }
    assert_eq!(hub.metric("grpc_stream_events_dropped_total", ""), 0.0);
    hub.stop().await;
    validate(&history, &journal);
}
