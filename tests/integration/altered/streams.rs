//! Streams of tables that are altered: which go on, which end, and what each is told.

use super::BOTH;
use crate::{
    support::{Database, TestHub, until},
    tables::{everything, hub_of, next, reason, settings, short, start, take, watch, watches},
};
use tonic::{Code, Streaming};
use trex::{
    faces::Registry,
    proto::{
        hub::v1::{Table, WatchEvent, WatchRequest},
        rh_trex::v1::{EventType, WatchDinosaursRequest},
    },
};

async fn database(hears: bool) -> Database {
    let database = Database::create().await;
    if !hears {
        database.without_event_triggers().await;
    }
    database
}

fn told(table: &str) -> WatchRequest {
    WatchRequest { schema_events: true, ..everything(table) }
}

/// The next event, which tells of the table: what that is from here on, and whether rows changed.
async fn schema(stream: &mut Streaming<WatchEvent>) -> (Table, bool) {
    let event = next(stream).await.expect("an event");
    assert_eq!(event.r#type(), EventType::Schema, "{event:?}");
    (event.schema.expect("a table"), event.state_changed)
}

async fn end(stream: &mut Streaming<WatchEvent>) -> (Code, String) {
    reason(&next(stream).await.expect_err("its end"))
}

fn columns(table: &Table) -> Vec<&str> {
    table.columns.iter().map(|column| column.name.as_str()).collect()
}

const KEY_CHANGED: (Code, &str) = (Code::OutOfRange, "KEY_CHANGED");
const STATE_CHANGED: (Code, &str) = (Code::OutOfRange, "STATE_CHANGED");
const COLUMN_GONE: (Code, &str) = (Code::InvalidArgument, "COLUMN_GONE");
const COLUMN_CHANGED: (Code, &str) = (Code::InvalidArgument, "COLUMN_CHANGED");

fn is((code, reason): &(Code, String), expected: (Code, &str)) -> bool {
    (*code, reason.as_str()) == expected
}

#[tokio::test]
async fn columns_come_change_and_go() {
    for hears in BOTH {
        let database = database(hears).await;
        let create =
            "CREATE TABLE t (id int PRIMARY KEY, v text, n int); CREATE TABLE calm (id int PRIMARY KEY)";
        let hub = hub_of(&database, create, "public.*").await;
        let session = database.connect().await;
        let mut calm = watch(&hub, everything("calm")).await;
        let (mut hearing, mut plain) = (watch(&hub, told("t")).await, watch(&hub, everything("t")).await);
        let mut named = watch(&hub, WatchRequest { columns: vec!["v".into()], ..told("t") }).await;
        let mut filtered = watch(&hub, WatchRequest { filter: "v = \"a\"".into(), ..told("t") }).await;
        session.batch_execute("INSERT INTO t VALUES (1, 'a', 1)").await.unwrap();
        for stream in [&mut hearing, &mut plain, &mut named, &mut filtered] {
            assert_eq!(take(stream, 1).await, ["+1"]);
        }

        session.batch_execute("ALTER TABLE t ADD COLUMN d int").await.unwrap();
        for stream in [&mut hearing, &mut named, &mut filtered] {
            let (table, changed) = schema(stream).await;
            assert_eq!((columns(&table), changed), (vec!["id", "v", "n", "d"], false));
        }
        session.batch_execute("ALTER TABLE t RENAME v TO w").await.unwrap();
        let (table, changed) = schema(&mut hearing).await;
        assert_eq!(
            (table.columns[1].name.as_str(), table.columns[1].renamed_from.as_str(), changed),
            ("w", "v", false)
        );
        for stream in [&mut named, &mut filtered] {
            let end = end(stream).await;
            assert!(is(&end, COLUMN_GONE), "{end:?}");
        }
        session.batch_execute("ALTER TABLE t DROP COLUMN d").await.unwrap();
        assert_eq!(columns(&schema(&mut hearing).await.0), ["id", "w", "n"]);
        session.batch_execute("INSERT INTO t VALUES (2, 'b', 2)").await.unwrap();
        for stream in [&mut hearing, &mut plain] {
            let event = next(stream).await.unwrap();
            assert_eq!((short(&event).as_str(), event.row.as_str()), ("+2", r#"{"id":2,"w":"b","n":2}"#));
        }

        let mut filtered = watch(&hub, WatchRequest { filter: "n = 2".into(), ..told("t") }).await;
        session.batch_execute("ALTER TABLE t ALTER n TYPE text USING 'n' || n").await.unwrap();
        let (table, changed) = schema(&mut hearing).await;
        assert_eq!((table.columns[2].r#type.as_str(), changed), ("text", true));
        let last = next(&mut plain).await.unwrap_err();
        assert!(
            is(&reason(&last), STATE_CHANGED) && last.message().contains("column n has another type"),
            "{last}"
        );
        assert!(is(&end(&mut filtered).await, COLUMN_CHANGED));
        // It cannot be passed by resuming before it, but by whoever is told.
        let revision = last.metadata().get("hub-revision").unwrap().to_str().unwrap().parse().unwrap();
        let resumed = WatchRequest { after_revision: Some(revision), ..everything("t") };
        assert!(is(&end(&mut watch(&hub, resumed.clone()).await).await, STATE_CHANGED));
        assert!(schema(&mut watch(&hub, WatchRequest { schema_events: true, ..resumed }).await).await.1);
        let mut anew = watch(&hub, WatchRequest { send_initial_state: true, ..everything("t") }).await;
        assert_eq!(next(&mut anew).await.unwrap().row, r#"{"id":1,"w":"a","n":"n1"}"#);
        assert_eq!(take(&mut anew, 2).await, ["=2", "."]);

        session.batch_execute("ALTER TABLE t RENAME TO u").await.unwrap();
        assert_eq!(schema(&mut hearing).await.0.name, "public.u");
        session.batch_execute("INSERT INTO u VALUES (3, 'c', 'n')").await.unwrap();
        for stream in [&mut hearing, &mut anew] {
            assert_eq!(take(stream, 1).await, ["+3"]);
        }
        session
            .batch_execute("INSERT INTO u VALUES (4, 'd', 'n'); DROP TABLE u; INSERT INTO calm VALUES (1)")
            .await
            .unwrap();
        for stream in [&mut hearing, &mut anew] {
            assert_eq!(take(stream, 1).await, ["+4"]);
            assert!(is(&end(stream).await, (Code::NotFound, "TABLE_DROPPED")));
        }
        assert_eq!(take(&mut calm, 1).await, ["+1"]);
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_renamed_key_ends_no_stream_and_another_key_ends_all() {
    for hears in BOTH {
        let database = database(hears).await;
        let hub = hub_of(&database, "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL)", "t").await;
        let session = database.connect().await;
        let mut streams = [watch(&hub, told("t")).await, watch(&hub, everything("t")).await];
        session.batch_execute("ALTER TABLE t RENAME id TO key; INSERT INTO t VALUES (1, 'a')").await.unwrap();
        assert_eq!(take(&mut streams[1], 1).await, ["+1"]);
        let mut heard = take(&mut streams[0], 2).await;
        heard.sort();
        assert_eq!(heard, ["+1", "?"]);
        session
            .batch_execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v, key)")
            .await
            .unwrap();
        for stream in &mut streams {
            let end = end(stream).await;
            assert!(is(&end, KEY_CHANGED), "{end:?}");
        }
        let mut anew = watch(&hub, WatchRequest { send_initial_state: true, ..everything("t") }).await;
        session.batch_execute("INSERT INTO t VALUES (2, 'b')").await.unwrap();
        assert_eq!(take(&mut anew, 3).await, ["=a/1", ".", "+b/2"]);
        hub.stop().await;
    }
}

#[tokio::test]
async fn partitions_that_come_and_go_are_told_to_those_of_their_table() {
    for hears in BOTH {
        let database = database(hears).await;
        let create = "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
            CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (11), (12)";
        let hub = hub_of(&database, create, "t").await;
        let session = database.connect().await;
        for (done, rows) in [
            ("ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (10) TO (20)", 2),
            ("ALTER TABLE t DETACH PARTITION more", 0),
            ("ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (10) TO (20)", 2),
            ("DROP TABLE more", 0),
        ] {
            let (mut hearing, mut plain) = (watch(&hub, told("t")).await, watch(&hub, everything("t")).await);
            session.batch_execute(done).await.unwrap();
            assert!(schema(&mut hearing).await.1, "{done}");
            assert!(is(&end(&mut plain).await, STATE_CHANGED), "{done}");
            let mut anew = watch(&hub, WatchRequest { send_initial_state: true, ..everything("t") }).await;
            let listed = take(&mut anew, rows + 1).await;
            assert_eq!(
                listed.iter().filter(|event| event.starts_with('=')).count(),
                rows,
                "{done}: {listed:?}"
            );
        }
        session.batch_execute("CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20)").await.unwrap();
        let mut plain = watch(&hub, everything("t")).await;
        session.batch_execute("INSERT INTO t VALUES (11); UPDATE t SET id = 1 WHERE id = 11").await.unwrap();
        assert_eq!(take(&mut plain, 3).await, ["+11", "-11", "+1"]);
        hub.stop().await;
    }
}

/// A compiled kind's clients know of no schema: they begin anew.
#[tokio::test]
async fn a_compiled_kind_begins_anew_and_no_other_does() {
    for hears in BOTH {
        let database = database(hears).await;
        database.connect().await.batch_execute("CREATE TABLE other (id int PRIMARY KEY)").await.unwrap();
        let hub = TestHub::start_with(settings(&database, "other"), Registry::of_this_program()).await;
        let session = database.connect().await;
        session.batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 'Rex')").await.unwrap();
        let mut other = watch(&hub, everything("other")).await;
        let mut client = hub.client().await;
        let mut stream = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
        session
            .batch_execute("ALTER TABLE dinosaurs ALTER species TYPE text USING upper(species)")
            .await
            .unwrap();
        // The row that was there may still have been on its way when the watch began.
        let end = loop {
            match stream.message().await {
                Ok(event) => assert_eq!(event.expect("an event").resource_id, "a"),
                Err(end) => break end,
            }
        };
        assert!(is(&reason(&end), STATE_CHANGED), "{end}");
        let state = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
        let mut anew = client.watch_dinosaurs(state).await.unwrap().into_inner();
        assert_eq!(anew.message().await.unwrap().unwrap().dinosaur.unwrap().species, "REX");
        session.batch_execute("INSERT INTO other VALUES (1)").await.unwrap();
        assert_eq!(take(&mut other, 1).await, ["+1"]);
        until("it is ready", || hub.app().health().reasons().is_empty()).await;
        hub.stop().await;
    }
}

/// What happens while no hub runs is told when one comes.
#[tokio::test]
async fn a_table_that_is_altered_while_no_hub_runs() {
    for hears in BOTH {
        let database = database(hears).await;
        let hub = hub_of(
            &database,
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')",
            "t",
        )
        .await;
        let stream = watches(&hub).await.watch(everything("t")).await.unwrap();
        let revision = stream.metadata().get("hub-revision").unwrap().to_str().unwrap().parse().unwrap();
        drop(stream);
        hub.stop().await;
        let session = database.connect().await;
        session.batch_execute("INSERT INTO t VALUES (2, 'b')").await.unwrap();
        session.batch_execute("ALTER TABLE t ALTER v TYPE text USING upper(v)").await.unwrap();
        let hub = start(&database, "t").await;
        let resumed = WatchRequest { after_revision: Some(revision), ..everything("t") };
        let mut plain = watch(&hub, resumed.clone()).await;
        assert_eq!(take(&mut plain, 1).await, ["+2"]);
        assert!(is(&end(&mut plain).await, STATE_CHANGED));
        let mut hearing = watch(&hub, WatchRequest { schema_events: true, ..resumed }).await;
        assert_eq!(take(&mut hearing, 1).await, ["+2"]);
        assert!(schema(&mut hearing).await.1);
        hub.stop().await;
    }
}
