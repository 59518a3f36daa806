//! What a stream says: to whom it may, from where, and why it ends.

use super::{
    reader::{LINES, Reader, SSE},
    wire::{Connection, escaped},
};
use crate::{
    support::{Database, TestHub, until},
    tables::{hub_of, settings},
};
use serde_json::{Value, json};
use std::time::Duration;
use trex::faces::Registry;

const TABLE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, status text, note json);
                     COMMENT ON TABLE orders IS 'what was ordered'";
const WATCH: &str = "/v1/tables/orders/watch";

async fn open(hub: &TestHub, query: &str, media: &str, headers: &str) -> Reader {
    Reader::open(&hub.app().addresses().api, &format!("{WATCH}?{query}"), media, headers).await
}

#[tokio::test]
async fn a_stream_says_where_it_begins_and_what_its_rows_are() {
    let database = Database::create().await;
    let hub = hub_of(&database, TABLE, "public.orders").await;
    let session = database.connect().await;
    let mut sse = open(&hub, "previous=true", SSE, "").await;
    assert_eq!((sse.status, sse.header("content-type")), (200, Some(SSE)));
    assert_eq!(sse.header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(sse.header("x-accel-buffering"), Some("no"));
    let mut lines = open(&hub, "numbers=as-is", LINES, "").await;
    let opened = sse.expect("open").await;
    let (epoch, revision) = (opened.text("epoch").to_owned(), opened.number("revision"));
    assert_eq!(opened.id, Some(format!("{epoch}:{revision}:0")));
    assert_eq!(opened.retry, Some(1000));
    let schema = &opened.data["schema"];
    assert_eq!((&schema["comment"], &schema["key"]), (&json!("what was ordered"), &json!(["id"])));
    assert_eq!(schema["columns"][0]["type"], "bigint");
    assert_eq!(lines.expect("open").await.data, opened.data);
    session
        .batch_execute(
            "INSERT INTO orders VALUES (9007199254740993, 'open', E'{\"a\":\\r\\n1}');
             UPDATE orders SET status = E'two\\nlines'; DELETE FROM orders",
        )
        .await
        .unwrap();
    let created = sse.expect("created").await;
    assert_eq!(created.id, Some(format!("{epoch}:{}:0", created.number("revision"))));
    let row = json!({"id": "9007199254740993", "status": "open", "note": {"a": 1}});
    assert_eq!(created.data["row"], row);
    assert_eq!(created.text("resource_id"), "9007199254740993");
    assert!(created.text("occurred_at").ends_with('Z') && !created.text("actor").is_empty());
    let updated = sse.expect("updated").await;
    assert_eq!((&updated.data["row"]["status"], &updated.data["previous"]), (&json!("two\nlines"), &row));
    let deleted = sse.expect("deleted").await;
    assert_eq!((&deleted.data["row"], &deleted.data["previous"]), (&Value::Null, &updated.data["row"]));
    let created = lines.expect("created").await;
    assert_eq!(created.data["row"]["id"], json!(9_007_199_254_740_993_u64));
    assert_eq!(created.data["previous"], Value::Null);

    // From a position that a client kept, by the address or by what a browser sends.
    let after = format!("after={epoch}:{}", created.number("revision"));
    let mut resumed = open(&hub, &after, LINES, "").await;
    assert_eq!(resumed.expect("open").await.number("revision"), created.number("revision"));
    assert_eq!(resumed.expect("updated").await.data["row"]["status"], "two\nlines");
    let id = updated.id.unwrap();
    for (query, headers) in
        [("state=true", format!("last-event-id: {id}\r\n")), (&format!("last_event_id={id}"), String::new())]
    {
        let mut resumed = open(&hub, query, SSE, &headers).await;
        assert_eq!(resumed.expect("open").await.id, Some(id.clone()));
        resumed.expect("deleted").await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_state_has_no_position_before_it_is_complete() {
    let database = Database::create().await;
    let hub = hub_of(&database, TABLE, "public.orders").await;
    let session = database.connect().await;
    session.batch_execute("INSERT INTO orders VALUES (1, 'open'), (2, 'paid')").await.unwrap();
    let query = format!("state=true&columns=status&bookmarks=100ms&filter={}", escaped("status = \"open\""));
    let mut state = open(&hub, &query, SSE, "").await;
    assert_eq!(state.expect("open").await.id, None);
    let row = state.expect("snapshot").await;
    assert_eq!((row.id, &row.data["row"]), (None, &json!({"id": "1", "status": "open"})));
    let bookmark = state.expect("bookmark").await;
    assert!(
        bookmark.id.is_some_and(|id| id.ends_with(&format!(":{}:0", state.header("hub-revision").unwrap())))
    );
    state.expect("bookmark").await;
    session.batch_execute("UPDATE orders SET status = 'paid' WHERE id = 1").await.unwrap();
    loop {
        let said = state.next().await.unwrap();
        if said.name != "bookmark" {
            assert_eq!((said.name.as_str(), &said.data["row"]), ("deleted", &Value::Null));
            assert_eq!(said.data["previous"], json!({"id": "1", "status": "open"}));
            break;
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_first_request_gets_a_status_and_one_that_comes_again_is_told_what_to_do() {
    let database = Database::create().await;
    let hub = hub_of(&database, TABLE, "public.orders").await;
    let mut client = Connection::open(&hub).await;
    let epoch = open(&hub, "", SSE, "").await.header("hub-epoch").unwrap().to_owned();
    let ask =
        |query: &str, headers: &str| (format!("{WATCH}?{query}"), format!("accept: {SSE}\r\n{headers}"));
    for (query, status, reason) in [
        ("filter=nothing%20%3D%201", 400, "INVALID_FIELD"),
        ("fliter=x", 400, "INVALID_PARAMETER"),
        ("after=7", 400, "INVALID_PARAMETER"),
        ("columns=nothing", 400, "INVALID_FIELD"),
        ("bookmarks=1ms", 400, "INVALID_FIELD"),
        ("after=another:7", 410, "EPOCH_CHANGED"),
        (&format!("after={epoch}:999999999"), 410, "REVISION_UNKNOWN"),
    ] {
        let (path, headers) = ask(query, "");
        let answer = client.ask("GET", &path, &headers, "").await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        assert_eq!(answer.json()["error"]["details"][0]["reason"], reason, "{query}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let unknown = client.ask("GET", "/v1/tables/nothing/watch", "", "").await;
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));

    // One that comes again and has lost its place is told to forget it.
    for id in ["another:7:0".to_owned(), format!("{epoch}:999999999:0")] {
        let (_, headers) = ask("", "");
        let mut again = open(&hub, "", SSE, &format!("last-event-id: {id}\r\n")).await;
        assert_eq!((again.status, again.header("content-type")), (200, Some(SSE)), "{headers}");
        let end = again.expect("end").await;
        assert_eq!((end.id.as_deref(), &end.data["error"]["status"]), (Some(""), &json!("OUT_OF_RANGE")));
        assert_eq!(again.last_id, "");
    }
    // One that can never be served is sent away.
    for (query, id) in [("filter=nothing%20%3D%201", format!("{epoch}:0:0")), ("", "nonsense".to_owned())] {
        let (path, headers) = ask(query, &format!("last-event-id: {id}\r\n"));
        let answer = client.ask("GET", &path, &headers, "").await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{id}");
    }
    // Lines are read by programs, which see a status.
    let lines = open(&hub, "", LINES, "last-event-id: another:7\r\n").await;
    assert_eq!(lines.status, 410);
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_stops_and_a_table_that_goes_end_a_stream_with_a_reason() {
    let database = Database::create().await;
    let hub =
        hub_of(&database, &format!("{TABLE}; CREATE TABLE gone (id int PRIMARY KEY)"), "public.*").await;
    let address = hub.app().addresses().api.clone();
    let mut gone = Reader::open(&address, "/v1/tables/gone/watch", SSE, "").await;
    let mut sse = open(&hub, "", SSE, "").await;
    let mut lines = open(&hub, "", LINES, "").await;
    let id = gone.expect("open").await.id.unwrap();
    database.connect().await.batch_execute("DROP TABLE gone").await.unwrap();
    let end = gone.expect("end").await;
    assert_eq!((end.id, &end.data["error"]["details"][0]["reason"]), (None, &json!("TABLE_DROPPED")));
    assert_eq!(gone.next().await, None);
    let again = format!("last-event-id: {id}\r\n");
    assert_eq!(Reader::open(&address, "/v1/tables/gone/watch", SSE, &again).await.status, 204);
    hub.stop().await;
    sse.expect("open").await;
    let end = sse.expect("end").await;
    assert_eq!((&end.id, &end.data["error"]["status"]), (&None, &json!("UNAVAILABLE")));
    assert!(end.retry.is_some_and(|retry| retry >= 1000), "{end:?}");
    assert_eq!(end.number("dropped"), 0);
    lines.expect("open").await;
    assert_eq!(lines.expect("end").await.data["error"]["code"], 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_blocked_and_told_what_it_lost() {
    let database = Database::create().await;
    database.connect().await.batch_execute(TABLE).await.unwrap();
    let mut settings = settings(&database, "public.orders");
    settings.limits.blocked_after = Duration::from_millis(200);
    let hub = TestHub::start_with(settings, Registry::new(vec![])).await;
    let mut slow = open(&hub, "buffer=10", SSE, "").await;
    let mut slow_lines = open(&hub, "buffer=10", LINES, "").await;
    let mut patient = open(&hub, "buffer=10&policy=catch-up", SSE, "").await;
    let session = database.connect().await;
    let (mut written, load) = (
        0_i64,
        "INSERT INTO orders SELECT g, repeat('x', 2000) FROM generate_series($1::bigint, $1 + 999) g",
    );
    while hub.metric("grpc_stream_events_dropped_total", "") < 2000.0 {
        session.execute(load, &[&written]).await.unwrap();
        written += 1000;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(written < 200_000, "nobody is blocked");
    }
    session.batch_execute("INSERT INTO orders VALUES (-1)").await.unwrap();
    for (reader, loses) in [(&mut slow, true), (&mut slow_lines, true), (&mut patient, false)] {
        let (mut delivered, mut dropped) = (0, 0);
        loop {
            let said = reader.next().await.unwrap();
            match said.name.as_str() {
                "open" => {}
                "dropped" => {
                    assert_eq!(said.id, None);
                    dropped += said.number("count");
                }
                "created" => {
                    delivered += 1;
                    dropped += said.data["dropped_before"].as_str().map_or(0, |text| text.parse().unwrap());
                    if said.text("resource_id") == "-1" {
                        break;
                    }
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!(delivered + dropped, written as u64 + 1);
        assert_eq!(dropped > 0, loses);
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_reader_that_goes_leaves_nothing_behind() {
    let database = Database::create().await;
    let hub = hub_of(&database, TABLE, "public.orders").await;
    let active = || hub.metric("grpc_stream_subscribers_active", "");
    let readers = [open(&hub, "", SSE, "").await, open(&hub, "", LINES, "").await];
    until("both are there", || active() == 2.0).await;
    drop(readers);
    until("both are gone", || active() == 0.0).await;
    hub.stop().await;
}
