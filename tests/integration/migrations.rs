//! Migrations: applied once, by one hub, and never backwards; and what the hub says when its triggers were
//! changed.

mod found;

use crate::support::{
    Database, TestHub,
    fossil::Fossils,
    ledger::{Ledger, Variant},
    until,
};
use std::{sync::Arc, time::Duration};
use trex::{
    app::Settings,
    faces::{Registry, dinosaurs::Dinosaurs},
    proto::rh_trex::v1::WatchDinosaursRequest,
    store::{MigrateError, Migration, Scope, migrate},
};

fn scopes() -> Vec<Scope> {
    Registry::of_this_program().kinds().scopes()
}

/// As the command line prints it, in one line with its causes.
fn full(error: MigrateError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// Of all scopes: the hub's and one of the dinosaurs.
const MIGRATIONS: usize = 8;

#[tokio::test]
async fn a_second_run_applies_nothing() {
    let database = Database::create().await;
    assert_eq!(migrate(&database.target(), &scopes()).await.unwrap(), MIGRATIONS);
    assert_eq!(migrate(&database.target(), &scopes()).await.unwrap(), 0);
    // A kind that comes later brings its own.
    let more = Registry::new(vec![Arc::new(Dinosaurs), Arc::new(Fossils)]).kinds().scopes();
    assert_eq!(migrate(&database.target(), &more).await.unwrap(), 1);
}

#[tokio::test]
async fn of_many_at_once_one_applies_each_migration() {
    let database = Database::create().await;
    let runs = (0..4).map(|_| {
        let target = database.target();
        tokio::spawn(async move { migrate(&target, &scopes()).await.unwrap() })
    });
    let mut applied = 0;
    for run in runs.collect::<Vec<_>>() {
        applied += run.await.unwrap();
    }
    assert_eq!(applied, MIGRATIONS);
}

#[tokio::test]
async fn a_changed_text_is_refused() {
    let database = Database::create().await;
    migrate(&database.target(), &scopes()).await.unwrap();
    let other = [Scope {
        migrations: &[Migration { version: 1, name: "dinosaurs", sql: "SELECT 1" }],
        ..scopes()[0]
    }];
    let refused = migrate(&database.target(), &other).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Changed { scope: "Dinosaur", version: 1 }), "{refused:?}");
    assert!(refused.to_string().contains("was applied with another text"));
}

#[tokio::test]
async fn a_schema_newer_than_the_program_is_refused() {
    let database = Database::create().await;
    migrate(&database.target(), &scopes()).await.unwrap();
    let newer =
        "INSERT INTO hub.migration (scope, version, name, checksum) VALUES ('hub', 99, 'future', 'x')";
    database.connect().await.batch_execute(newer).await.unwrap();
    let refused = migrate(&database.target(), &scopes()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the database has hub migration 99, this program knows only up to 7: run a newer trex"
    );
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_behind_and_can_be_repeated() {
    let database = Database::create().await;
    let broken = [Scope {
        name: "Broken",
        migrations: &[Migration {
            version: 1,
            name: "broken",
            sql: "CREATE TABLE half (id int); SELECT 1 / 0",
        }],
        table: None,
    }];
    let refused = full(migrate(&database.target(), &broken).await.unwrap_err());
    assert!(refused.contains("Broken migration 1 (broken)"), "{refused}");
    assert!(refused.contains("division by zero"), "{refused}");
    let row = database.connect().await.query_one("SELECT to_regclass('half') IS NULL", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!(migrate(&database.target(), &scopes()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_table_without_a_primary_key_is_refused() {
    let database = Database::create().await;
    let bare = [Scope {
        name: "Bare",
        migrations: &[Migration {
            version: 1,
            name: "bare",
            sql: "CREATE TABLE public.bare (id int UNIQUE)",
        }],
        table: Some("public.bare"),
    }];
    let refused = full(migrate(&database.target(), &bare).await.unwrap_err());
    assert!(refused.starts_with("cannot watch public.bare"), "{refused}");
    assert!(refused.contains("table public.bare has no primary key"), "{refused}");
}

#[tokio::test]
async fn a_touched_trigger_makes_the_hub_unready_until_migrate_mends_it() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.capture.inspect = Duration::from_millis(20);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    let reasons = || hub.app().health().reasons();
    for (touch, fault) in [
        (
            "ALTER TABLE dinosaurs DISABLE TRIGGER \"!trex_insert\"",
            "public.dinosaurs: trigger !trex_insert is disabled: changes are not captured",
        ),
        ("DROP TRIGGER \"!trex_update\" ON dinosaurs", "public.dinosaurs: trigger !trex_update is missing"),
        (
            "CREATE OR REPLACE TRIGGER \"!trex_insert\" AFTER INSERT
             ON dinosaurs REFERENCING NEW TABLE AS new_rows
               FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION hub.capture_1_insert()",
            "public.dinosaurs: trigger !trex_insert is altered",
        ),
        (
            "CREATE TRIGGER \"!trex_second\" AFTER INSERT ON dinosaurs FOR EACH ROW
             EXECUTE FUNCTION hub.capture_1_insert()",
            "public.dinosaurs: trigger !trex_second does not belong here",
        ),
        (
            "CREATE OR REPLACE FUNCTION hub.capture_1_insert() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN RETURN NULL; END'",
            "public.dinosaurs: a capture function is missing or altered",
        ),
    ] {
        session.batch_execute(touch).await.unwrap();
        until(fault, || reasons() == [fault]).await;
        assert_eq!(hub.metric("hub_capture_faults", r#"kind="Dinosaur""#), 1.0);
        assert_eq!(migrate(&database.target(), &scopes()).await.unwrap(), 0);
        until("the fault is mended", || reasons().is_empty()).await;
    }
    let mut watch =
        hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    session.batch_execute("INSERT INTO dinosaurs (species) VALUES ('seen')").await.unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().dinosaur.unwrap().species, "seen");
    hub.stop().await;
}

#[tokio::test]
async fn a_table_that_took_the_name_of_the_watched_one_is_watched_instead_and_its_streams_begin_anew() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.capture.inspect = Duration::from_millis(20);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    let mut watch =
        hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    session
        .batch_execute(
            "ALTER TABLE dinosaurs RENAME TO dinosaurs_old;
                        CREATE TABLE dinosaurs (LIKE dinosaurs_old INCLUDING ALL)",
        )
        .await
        .unwrap();
    let ended = watch.message().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::OutOfRange);
    assert!(ended.message().contains("another table has come in its place"), "{ended}");
    until("the new table is watched", || hub.app().health().reasons().is_empty()).await;
    let mut watch =
        hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    session
        .batch_execute(
            "INSERT INTO dinosaurs_old (species) VALUES ('old'); TRUNCATE dinosaurs_old;
             INSERT INTO dinosaurs (species) VALUES ('new')",
        )
        .await
        .unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().dinosaur.unwrap().species, "new");
    hub.stop().await;
}

#[tokio::test]
async fn a_dropped_table_makes_the_hub_unready() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.capture.inspect = Duration::from_millis(20);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    session.batch_execute("DROP TABLE dinosaurs").await.unwrap();
    let fault = "the table of kind Dinosaur was never watched, or is gone";
    until(fault, || hub.app().health().reasons() == [fault]).await;
    let refused = full(migrate(&database.target(), &scopes()).await.unwrap_err());
    assert!(refused.starts_with("cannot watch public.dinosaurs"), "{refused}");
    session.batch_execute("CREATE TABLE dinosaurs (id text PRIMARY KEY, species text)").await.unwrap();
    migrate(&database.target(), &scopes()).await.unwrap();
    until("the new table is watched", || hub.app().health().reasons().is_empty()).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_changed_primary_key_is_a_fault_until_the_table_is_watched_anew() {
    let create = "CREATE TABLE thing (id int PRIMARY KEY, other int NOT NULL DEFAULT 7)";
    let mut ledger = Ledger::with_thing(Variant::Statement, create).await;
    for change in [
        "ALTER TABLE thing RENAME COLUMN id TO ident",
        "ALTER TABLE thing DROP CONSTRAINT thing_pkey, ADD PRIMARY KEY (other, ident)",
    ] {
        ledger.run(change).await;
        let fault = "public.thing: the capture function does not fit the table's columns or primary key";
        assert_eq!(ledger.faults("Thing").await, [fault]);
        ledger.watch("Thing", "thing").await;
    }
    ledger.run("INSERT INTO thing VALUES (1)").await;
    // That the rows are called otherwise is told.
    ledger.expect(&["!", "+7/1"]).await;
    ledger.run("ALTER TABLE thing DROP CONSTRAINT thing_pkey").await;
    assert_eq!(ledger.faults("Thing").await, ["public.thing: has no primary key"]);
}
