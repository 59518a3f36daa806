//! Attaching and detaching: who learns of it, who does not notice, and what is refused.

use super::{
    attach, everything, hub_of, next, reason, settings, short, start, store, take, until_tables, watch,
    watches,
};
use crate::support::{Database, TestHub, until};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tonic::Code;
use trex::{
    app::{App, Endpoints},
    error::Error,
    faces::Registry,
    proto::hub::v1::WatchRequest,
    store::AttachChoice,
};

#[tokio::test]
async fn every_hub_follows_what_one_was_told() {
    let database = Database::create().await;
    let create = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)";
    let one = hub_of(&database, create, "").await;
    let other = start(&database, "").await;
    let session = database.connect().await;
    let refused = watches(&one).await.watch(everything("a")).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "TABLE_NOT_ATTACHED".into()));
    assert!(refused.message().contains("trex attach 'public.a'"), "{refused}");

    session.batch_execute("INSERT INTO a VALUES (0)").await.unwrap();
    attach(&database, "a", AttachChoice::default()).await;
    for hub in [&one, &other] {
        until_tables(hub, 1).await;
    }
    let mut streams = [watch(&one, everything("a")).await, watch(&other, everything("a")).await];
    session.batch_execute("INSERT INTO a VALUES (1); UPDATE a SET id = 2 WHERE id = 1").await.unwrap();
    for stream in &mut streams {
        assert_eq!(take(stream, 3).await, ["+1", "-1", "+2"]);
    }
    // Its history begins where it was attached.
    let before = WatchRequest { after_revision: Some(0), ..everything("a") };
    let head = session.query_one("SELECT attached_revision FROM hub.attached", &[]).await.unwrap();
    if head.get::<_, i64>(0) > 0 {
        let refused = watches(&one).await.watch(before).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::OutOfRange, "REVISION_COMPACTED".into()));
    }
    // What came before the end is told before the end.
    session.batch_execute("INSERT INTO a VALUES (3)").await.unwrap();
    store(&database).detach(&"a".parse().unwrap(), true).await.unwrap();
    for stream in &mut streams {
        assert_eq!(take(stream, 1).await, ["+3"]);
        let ended = next(stream).await.unwrap_err();
        assert_eq!(reason(&ended), (Code::NotFound, "TABLE_DETACHED".into()));
        assert!(ended.message().contains("public.a"), "{ended}");
    }
    let left = "SELECT count(*) FROM hub.change WHERE after IS NOT NULL";
    assert_eq!(session.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'a'::regclass";
    assert_eq!(session.query_one(triggers, &[]).await.unwrap().get::<_, i64>(0), 0);

    attach(&database, "b", AttachChoice::default()).await;
    until_tables(&one, 1).await;
    let mut dropped = watch(&one, everything("b")).await;
    session.batch_execute("INSERT INTO b VALUES (1)").await.unwrap();
    assert_eq!(take(&mut dropped, 1).await, ["+1"]);
    session.batch_execute("DROP TABLE b").await.unwrap();
    let ended = next(&mut dropped).await.unwrap_err();
    assert_eq!(reason(&ended), (Code::NotFound, "TABLE_DROPPED".into()));
    for hub in [one, other] {
        hub.stop().await;
    }
}

#[tokio::test]
async fn what_is_wished_for_is_attached_when_it_is_seen() {
    let database = Database::create().await;
    let create = r#"CREATE SCHEMA "Odd.S";
        CREATE TABLE "Odd.S"."say ""hi"" / %" ("Key ""1""" text, "x y" int, "ключ" text,
          PRIMARY KEY ("Key ""1""", "ключ"));
        CREATE TABLE bare (id int); CREATE VIEW seen AS SELECT * FROM bare;
        CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
        CREATE TABLE "select" (id uuid PRIMARY KEY, at timestamptz);
        CREATE TABLE parted (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)"#;
    let hub = hub_of(&database, create, r#"public.*, "Odd.S".*"#).await;
    until_tables(&hub, 3).await;
    let session = database.connect().await;
    let mut odd = watch(&hub, everything(r#""Odd.S"."say ""hi"" / %""#)).await;
    let mut parted = watch(&hub, everything("parted")).await;
    session
        .batch_execute(
            r#"INSERT INTO "Odd.S"."say ""hi"" / %" VALUES ('a/b%', 1, 'é'); INSERT INTO parted VALUES (1, 1);
               CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2)"#,
        )
        .await
        .unwrap();
    let event = next(&mut odd).await.unwrap();
    assert_eq!(event.resource_id, "a%2Fb%25/é");
    assert_eq!(event.row, r#"{"Key \"1\"":"a/b%","x y":1,"ключ":"é"}"#);
    assert_eq!(take(&mut parted, 1).await, ["+1/1"]);
    session.batch_execute("CREATE TABLE later (id int PRIMARY KEY)").await.unwrap();
    until_tables(&hub, 4).await;
    // Whoever detaches one means it, whatever the wishes say.
    store(&database).detach(&"later".parse().unwrap(), false).await.unwrap();
    until_tables(&hub, 3).await;
    session.batch_execute("CREATE TABLE even_later (id int PRIMARY KEY)").await.unwrap();
    until_tables(&hub, 4).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_with_what_would_help() {
    let database = Database::create().await;
    let hub = hub_of(
        &database,
        "CREATE TABLE bare (id int); CREATE VIEW seen AS SELECT 1;
         CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
         CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY LIST (id);
         CREATE TABLE part PARTITION OF parted FOR VALUES IN (1)",
        "parted",
    )
    .await;
    let exclude = |name: &str| AttachChoice { exclude: vec![name.into()], ..AttachChoice::default() };
    for (table, choice, help) in [
        ("bare", AttachChoice::default(), "ALTER TABLE public.bare ADD PRIMARY KEY"),
        ("seen", AttachChoice::default(), "attach the tables that it reads"),
        ("fast", AttachChoice::default(), "SET LOGGED"),
        ("nothing", AttachChoice::default(), "there is no table public.nothing"),
        ("hub.change", AttachChoice::default(), "cannot be attached"),
        ("pg_catalog.pg_class", AttachChoice::default(), "cannot be attached"),
        ("part", AttachChoice::default(), "part of public.parted"),
        ("t", exclude("x"), "no column x"),
        ("t", exclude("id"), "part of the key"),
        ("t", AttachChoice { columns: vec!["n".into()], ..AttachChoice::default() }, "part of the key"),
    ] {
        let error = store(&database).attach(&table.parse().unwrap(), &choice).await.unwrap_err();
        assert!(matches!(&error, Error::CannotAttach { why } if why.contains(help)), "{table}: {error}");
    }
    hub.stop().await;
    for wrong in ["public.bare", "public.nothing"] {
        let endpoints = Endpoints::ephemeral().await.unwrap();
        let started = App::start_with(settings(&database, wrong), endpoints, Registry::new(vec![])).await;
        let error = format!("{:#}", started.err().expect("it does not start"));
        assert!(error.contains("--tables") && error.contains(wrong), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_and_go_and_no_other_stream_notices() {
    let database = Database::create().await;
    let create = "CREATE TABLE calm (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int);
                  CREATE TABLE busy (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)";
    let hub = hub_of(&database, create, "calm").await;
    let mut calm = watch(&hub, everything("calm")).await;
    let enough = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = ["calm (n) VALUES (1)", "busy DEFAULT VALUES"]
        .into_iter()
        .map(|what| {
            let (target, enough) = (database.target(), enough.clone());
            tokio::spawn(async move {
                let (session, mut written) = (target.open().await.unwrap(), 0_u64);
                while !enough.load(Ordering::Relaxed) {
                    written += session.execute(&format!("INSERT INTO {what}"), &[]).await.unwrap();
                }
                written
            })
        })
        .collect();
    for round in 0..crate::stress::number("TREX_ROUNDS", 10) {
        attach(&database, "busy", AttachChoice::default()).await;
        until_tables(&hub, 2).await;
        let mut busy = watch(&hub, WatchRequest { send_initial_state: true, ..everything("busy") }).await;
        let mut last = None;
        while last.is_none_or(|id| id < 0) {
            let event = next(&mut busy).await.unwrap_or_else(|status| panic!("round {round}: {status}"));
            last = short(&event).strip_prefix('+').map(|id| id.parse::<i64>().unwrap());
        }
        store(&database).detach(&"busy".parse().unwrap(), false).await.unwrap();
        let ended = loop {
            match next(&mut busy).await {
                Ok(event) => {
                    let id: i64 = event.resource_id.parse().unwrap();
                    assert_eq!(Some(id), last.map(|last| last + 1), "one after the other");
                    last = Some(id);
                }
                Err(status) => break status,
            }
        };
        assert_eq!(reason(&ended), (Code::NotFound, "TABLE_DETACHED".into()));
        until_tables(&hub, 1).await;
    }
    enough.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    let mut revision = 0;
    for id in 1..=written[0] {
        let event = next(&mut calm).await.unwrap();
        assert_eq!(short(&event), format!("+{id}"));
        assert!(event.revision > revision);
        revision = event.revision;
    }
    hub.stop().await;
}

/// Whether a hub is ready is no matter of a table that came and went.
#[tokio::test]
async fn a_hub_is_ready_whatever_is_attached() {
    let database = Database::create().await;
    let hub: TestHub = hub_of(&database, "CREATE TABLE t (id int PRIMARY KEY, n int)", "t").await;
    let session = database.connect().await;
    session
        .batch_execute(
            "ALTER TABLE t ADD COLUMN m int DEFAULT 5; ALTER TABLE t RENAME n TO o;
                           ALTER TABLE t RENAME id TO key",
        )
        .await
        .unwrap();
    session.batch_execute("INSERT INTO t VALUES (1, 2)").await.unwrap();
    let mut stream = watch(&hub, WatchRequest { send_initial_state: true, ..everything("t") }).await;
    assert_eq!(next(&mut stream).await.unwrap().row, r#"{"key":1,"o":2,"m":5}"#);
    assert_eq!(take(&mut stream, 1).await, ["."]);
    session.batch_execute("INSERT INTO t VALUES (2, 3)").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().row, r#"{"key":2,"o":3,"m":5}"#);
    session.batch_execute("ALTER TABLE t RENAME TO u").await.unwrap();
    until_renamed(&hub).await;
    let mut renamed = watch(&hub, everything("u")).await;
    session.batch_execute("INSERT INTO u VALUES (3, 4)").await.unwrap();
    assert_eq!(take(&mut renamed, 1).await, ["+3"]);
    assert_eq!(take(&mut stream, 1).await, ["+3"]);
    until("it is ready", || hub.app().health().reasons().is_empty()).await;
    hub.stop().await;
}

async fn until_renamed(hub: &TestHub) {
    until("the new name is known", || {
        let kinds = hub.app().catalog().kinds();
        kinds.iter().any(|kind| &*kind.table.name == "public.u")
    })
    .await;
}
