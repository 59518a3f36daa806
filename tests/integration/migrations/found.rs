//! What a start makes of a database that is not a new one: an older schema, a table that is there, an
//! encoding, a lock.

use super::{full, scopes};
use crate::support::{Database, PATIENCE, TestHub};
use tokio::time::timeout;
use trex::{
    proto::rh_trex::v1::WatchDinosaursRequest,
    store::{MigrateError, Target, migrate},
};

#[tokio::test]
async fn a_schema_of_before_the_baseline_is_refused_in_one_line() {
    let database = Database::create().await;
    let earlier =
        "CREATE SCHEMA hub; CREATE TABLE hub.migration (scope text, version int, name text, checksum text)";
    database.connect().await.batch_execute(earlier).await.unwrap();
    let refused = full(migrate(&database.target(), &scopes()).await.unwrap_err());
    assert!(refused.contains("DROP SCHEMA hub CASCADE") && !refused.contains('\n'), "{refused}");
}

#[tokio::test]
async fn a_changed_function_is_replaced_and_one_that_went_is_dropped() {
    let database = Database::create().await;
    migrate(&database.target(), &scopes()).await.unwrap();
    let session = database.connect().await;
    session
        .batch_execute(
            "CREATE FUNCTION hub.old_one(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
             INSERT INTO hub.function VALUES ('old_one', 'x'); UPDATE hub.function SET digest = 'x'
             WHERE name = 'seal';
             DROP FUNCTION hub.parts; CREATE FUNCTION hub.parts(regclass) RETURNS int LANGUAGE sql AS
             'SELECT 1';
             UPDATE hub.function SET digest = 'x' WHERE name = 'parts'",
        )
        .await
        .unwrap();
    assert_eq!(migrate(&database.target(), &scopes()).await.unwrap(), 0);
    let left =
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'hub'::regnamespace AND proname = 'old_one'";
    assert_eq!(session.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    session.batch_execute("SELECT hub.seal(); SELECT part, depth FROM hub.parts('dinosaurs')").await.unwrap();
    let odd = session.query("SELECT FROM hub.function WHERE length(digest) <> 64", &[]).await.unwrap();
    assert_eq!(odd.len(), 0);
}

#[tokio::test]
async fn a_table_that_is_there_is_adopted_if_it_fits_and_else_nothing_is_made() {
    let database = Database::create().await;
    let session = database.connect().await;
    for create in [
        "CREATE TABLE dinosaurs (id text PRIMARY KEY)",
        "CREATE TABLE dinosaurs (id uuid PRIMARY KEY, species text)",
        "CREATE VIEW dinosaurs AS SELECT 1",
        "CREATE UNLOGGED TABLE dinosaurs (id text PRIMARY KEY)",
    ] {
        session.batch_execute(create).await.unwrap();
        let refused = full(migrate(&database.target(), &scopes()).await.unwrap_err());
        assert!(
            refused
                .starts_with("table public.dinosaurs is there already and cannot be watched as Dinosaur: "),
            "{refused}"
        );
        assert!(!refused.contains('\n'), "{refused}");
        let made = "SELECT FROM pg_namespace WHERE nspname = 'hub'";
        assert_eq!(session.query(made, &[]).await.unwrap().len(), 0, "{create}");
        let drop = if create.contains("VIEW") { "DROP VIEW dinosaurs" } else { "DROP TABLE dinosaurs" };
        session.batch_execute(drop).await.unwrap();
    }
    migrate(&database.target(), &scopes()).await.unwrap();
    session
        .batch_execute(
            "DROP SCHEMA hub CASCADE; ALTER TABLE dinosaurs ADD COLUMN more int;
             INSERT INTO dinosaurs (id, species) VALUES ('kept', 's')",
        )
        .await
        .unwrap();
    let hub = TestHub::start(&database).await;
    let mut client = hub.client().await;
    let state = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let mut watch = client.watch_dinosaurs(state).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().resource_id, "kept");
    hub.stop().await;
}

#[tokio::test]
async fn an_encoding_with_holes_is_refused_in_one_line() {
    let database = Database::create().await;
    let session = database.connect().await;
    let name: String = session.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    for (encoding, is_fit) in [("SQL_ASCII", false), ("WIN1252", false), ("LATIN1", true)] {
        let other = format!("{name}_{}", encoding.to_lowercase());
        let create = format!(
            "CREATE DATABASE {other} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        session.batch_execute(&create).await.unwrap();
        let target =
            Target::parse(&database.url().replace(&format!("/{name}"), &format!("/{other}"))).unwrap();
        let made = migrate(&target, &scopes()).await;
        assert_eq!(made.is_ok(), is_fit, "{encoding}: {made:?}");
        if let Err(refused) = made {
            assert!(matches!(&refused, MigrateError::Encoding(named) if named == encoding), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn behind_an_open_transaction_writers_pass_and_nothing_is_locked_when_nothing_is_to_be_done() {
    let database = Database::create().await;
    migrate(&database.target(), &scopes()).await.unwrap();
    let (holder, writer) = (database.connect().await, database.connect().await);
    holder.batch_execute("BEGIN; LOCK TABLE dinosaurs IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    assert_eq!(migrate(&database.target(), &scopes()).await.unwrap(), 0);
    holder.batch_execute("ROLLBACK; ALTER TABLE dinosaurs DISABLE TRIGGER \"!trex_insert\"").await.unwrap();
    holder.batch_execute("BEGIN; INSERT INTO dinosaurs (species) VALUES ('open')").await.unwrap();
    let target = database.target();
    let mending = tokio::spawn(async move { migrate(&target, &scopes()).await });
    // It has come to the table, and found it locked.
    let waits = "SELECT FROM pg_locks WHERE relation = 'dinosaurs'::regclass AND NOT granted";
    let waiting = async { while holder.query(waits, &[]).await.unwrap().is_empty() {} };
    timeout(*PATIENCE, waiting).await.expect("it waits");
    writer.batch_execute("SET statement_timeout = '2s'").await.unwrap();
    for _ in 0..200 {
        writer.batch_execute("INSERT INTO dinosaurs (species) VALUES ('passes')").await.unwrap();
    }
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(mending.await.unwrap().unwrap(), 0);
    let faults = writer.query("SELECT hub.capture_faults('Dinosaur')", &[]).await.unwrap();
    assert_eq!(faults.len(), 0);
}
