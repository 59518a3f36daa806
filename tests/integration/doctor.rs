//! `trex doctor` on databases and machines that are broken, each in one way: the first line says which.

use crate::{commands::trex, support::Database};
use serde_json::Value;
use std::net::TcpListener;
use trex::{embedded::testing::EphemeralPostgres, faces::Registry, store::migrate};

/// A server whose settings have nothing wrong, which the cluster of the run, made for speed, has not.
async fn cluster(settings: &[(&str, &str)]) -> EphemeralPostgres {
    let settings = [&[("fsync", "on")], settings].concat();
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    EphemeralPostgres::start(settings).await.expect("a cluster")
}

/// On ports that nobody has, and with room for what waits.
const QUIET: [&str; 6] = [
    "--grpc-server-bindaddress=localhost:0",
    "--admin-server-bindaddress=localhost:0",
    "--metrics-server-bindaddress=localhost:0",
    "--api-server-bindaddress=localhost:0",
    "--health-check-server-bindaddress=localhost:0",
    "--max-state-spool-bytes=1000000",
];

struct Verdict {
    exit: Option<i32>,
    findings: Vec<Value>,
}

impl Verdict {
    /// Code and text of the first finding.
    fn first(&self) -> String {
        let Some(first) = self.findings.first() else { return "nothing".to_owned() };
        format!("{} {}", first["code"].as_str().unwrap(), first["what"].as_str().unwrap())
    }
}

async fn doctor_in(environment: &[(&str, &str)], arguments: &[&str]) -> Verdict {
    let arguments = [&["doctor", "--output=json"], arguments].concat();
    let output = trex(&arguments).envs(environment.iter().copied()).output().await.expect("a run");
    let text = String::from_utf8(output.stdout).expect("text");
    let complaint = String::from_utf8_lossy(&output.stderr);
    let object: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?} {complaint}"));
    let findings = object["findings"].as_array().expect("a list").clone();
    Verdict { exit: output.status.code(), findings }
}

async fn doctor(arguments: &[&str]) -> Verdict {
    doctor_in(&[], &[&QUIET, arguments].concat()).await
}

/// A migrated database on which this was said, and what the doctor says then, as `role` or as the owner.
async fn after(cluster: &EphemeralPostgres, statements: &str, role: Option<&str>, flags: &[&str]) -> Verdict {
    let database = Database::create_on(cluster).await;
    migrate(&database.target(), &Registry::of_this_program().kinds().scopes()).await.expect("a schema");
    let session = database.connect().await;
    let name: String = session.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    session.batch_execute(&statements.replace("THIS", &name)).await.expect(statements);
    let user =
        role.map_or_else(|| "postgres@".to_owned(), |role| format!("{}@", role.replace("THIS", &name)));
    let url = database.url().replacen("postgres@", &user, 1);
    doctor(&[&["--dinosaurs=true", "--database-url", &url], flags].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_says_what_is_wrong_with_a_database() {
    let cluster = cluster(&[]).await;
    let healthy = after(&cluster, "", None, &[]).await;
    assert_eq!((healthy.first().as_str(), healthy.exit), ("nothing", Some(0)));

    let role = "CREATE ROLE THIS_hub LOGIN; GRANT USAGE ON SCHEMA hub TO THIS_hub;
                GRANT SELECT ON ALL TABLES IN SCHEMA hub, public TO THIS_hub;";
    let seals = format!("{role} GRANT INSERT ON hub.log TO THIS_hub; GRANT UPDATE ON hub.head TO THIS_hub;");
    let (serves, hub): (&[&str], _) = (&["--migrate=false"], Some("THIS_hub"));
    let no_read = format!("{role} REVOKE SELECT ON dinosaurs FROM THIS_hub");
    let hidden = format!("{seals} ALTER TABLE dinosaurs ENABLE ROW LEVEL SECURITY");
    let triggered = "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
                     CREATE EVENT TRIGGER watchful ON ddl_command_end EXECUTE FUNCTION f()";
    for (statements, role, flags, exit, expected) in [
        (
            "ALTER TABLE dinosaurs DISABLE TRIGGER \"!trex_insert\"",
            None,
            &[][..],
            2,
            "capture public.dinosaurs: trigger !trex_insert",
        ),
        ("DROP TABLE dinosaurs CASCADE", None, serves, 2, "no-table table public.dinosaurs of kind Dinosaur"),
        ("DROP SCHEMA hub CASCADE", None, serves, 2, "not-migrated there is no schema hub"),
        ("DROP SCHEMA hub CASCADE; CREATE ROLE THIS_hub LOGIN", hub, &[], 2, "may-not-create role test_"),
        (
            "UPDATE hub.migration SET version = 99 WHERE version = 1 AND scope = 'hub'",
            None,
            &[],
            2,
            "newer-schema the database has hub migration 99",
        ),
        (
            "DELETE FROM hub.migration WHERE scope = 'hub' AND version > 0; INSERT INTO hub.migration
             VALUES ('hub', 0, '', '')",
            None,
            serves,
            2,
            "older-schema the database has hub migration 0",
        ),
        ("CREATE ROLE THIS_hub LOGIN", hub, serves, 2, "rights role test_"),
        (&no_read, hub, serves, 2, "rights role test_"),
        (role, hub, serves, 2, "rights role test_"),
        (&seals, hub, serves, 1, "upkeep-rights role test_"),
        (&seals, hub, &[], 2, "not-owner role test_"),
        (&hidden, hub, serves, 2, "row-security row-level security of public.dinosaurs"),
        (
            "ALTER DATABASE THIS SET default_transaction_read_only = on",
            None,
            &[],
            2,
            "read-only default_transaction_read_only is on",
        ),
        (
            "ALTER DATABASE THIS SET idle_session_timeout = '5s'",
            None,
            &[],
            1,
            "session-limit idle_session_timeout is 5000ms",
        ),
        (
            "ALTER DATABASE THIS CONNECTION LIMIT 9; CREATE ROLE THIS_hub LOGIN SUPERUSER",
            hub,
            &[],
            1,
            "connections there is room for",
        ),
        (
            triggered,
            None,
            &[],
            1,
            "event-triggers event triggers run when the hub changes its schema: watchful",
        ),
    ] {
        let verdict = after(&cluster, statements, role, flags).await;
        assert!(
            verdict.first().starts_with(expected),
            "{expected:?} after {statements}: {:?}",
            verdict.findings
        );
        assert_eq!(verdict.exit, Some(exit), "{:?}", verdict.findings);
    }
    cluster.stop().await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_open_is_named() {
    let cluster = cluster(&[("max_prepared_transactions", "2")]).await;
    let verdict = after(&cluster, "", None, &[]).await;
    assert!(
        verdict.first().starts_with("prepared-transactions max_prepared_transactions is 2"),
        "{}",
        verdict.first()
    );

    let left = "BEGIN; INSERT INTO dinosaurs (species) VALUES ('x'); PREPARE TRANSACTION 'left behind'";
    let verdict = after(&cluster, left, None, &["--old-transaction=1ms"]).await;
    let expected = "old-prepared-transaction the prepared transaction left behind is open";
    assert!(verdict.first().starts_with(expected), "{:?}", verdict.findings);

    let database = Database::create_on(&cluster).await;
    let session = database.connect().await;
    session.batch_execute("BEGIN; CREATE TABLE written ()").await.unwrap();
    let verdict =
        doctor(&["--dinosaurs=true", "--database-url", database.url(), "--old-transaction=1ms"]).await;
    assert!(verdict.first().starts_with("old-transaction a transaction of pid"), "{:?}", verdict.findings);
    let verdict = doctor(&["--dinosaurs=true", "--database-url", database.url()]).await;
    assert!(verdict.first().starts_with("prepared-transactions"), "{:?}", verdict.findings);

    session.batch_execute("ROLLBACK").await.unwrap();
    let sql = "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    session.batch_execute(sql).await.unwrap();
    let bytes = Database::of(&cluster, "bytes");
    let verdict = doctor(&["--dinosaurs=true", "--database-url", bytes.url(), "--wakeups=poll"]).await;
    assert!(
        verdict.first().starts_with("encoding the database's encoding is SQL_ASCII"),
        "{:?}",
        verdict.findings
    );
    cluster.stop().await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_made_for_speed_is_named() {
    let database = Database::create().await;
    let verdict = doctor(&["--dinosaurs=true", "--database-url", database.url()]).await;
    assert!(verdict.first().starts_with("fsync fsync is off"), "{:?}", verdict.findings);
    assert_eq!(verdict.exit, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_looked_at() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let nobody = "postgresql://nobody@127.0.0.1:1/nothing";
    let verdict = doctor(&["--dinosaurs=true", "--database-url", nobody]).await;
    assert!(
        verdict.first().starts_with("unreachable Postgres at 127.0.0.1, database nothing"),
        "{}",
        verdict.first()
    );
    assert_eq!(verdict.exit, Some(2));

    let verdict = doctor(&["--pg-bindir=/nonexistent", "--data-dir=/nonexistent"]).await;
    assert!(verdict.first().starts_with("programs "), "{}", verdict.first());

    let cluster = cluster(&[]).await;
    let database = Database::create_on(&cluster).await;
    let url = ["--dinosaurs=true", "--database-url", database.url()];
    let verdict =
        doctor_in(&[], &[&url[..], &QUIET[1..], &["--grpc-server-bindaddress", &address]].concat()).await;
    let expected = format!("port --grpc-server-bindaddress {address}: ");
    assert!(verdict.first().starts_with(&expected), "{}", verdict.first());

    let verdict = doctor_in(&[("TMPDIR", "/nonexistent")], &[&QUIET[..], &url].concat()).await;
    assert!(
        verdict.first().starts_with("spool no temporary file can be made in /nonexistent"),
        "{}",
        verdict.first()
    );

    let much = ["--max-state-spool-bytes=18000000000000000000"];
    let verdict = doctor_in(&[], &[&QUIET[..5], &url, &much].concat()).await;
    assert!(verdict.first().starts_with("spool-space "), "{}", verdict.first());
    cluster.stop().await.expect("an end");
}
