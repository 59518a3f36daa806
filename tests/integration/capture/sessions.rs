//! What a writer's session says of itself, and sessions that are not ordinary ones.

use crate::support::{
    Database, TestHub,
    ledger::{Ledger, Variant},
    until,
};
use trex::{
    app::Settings,
    embedded::testing::EphemeralPostgres,
    faces::Registry,
    proto::rh_trex::v1::{ListDinosaursRequest, WatchDinosaursRequest},
};

const THING: &str = "CREATE TABLE thing (id int PRIMARY KEY, name text)";

/// Actor, origin and trace of every change, in order.
async fn attributions(ledger: &Ledger) -> Vec<[Option<String>; 3]> {
    let rows = ledger.session.query("SELECT actor, origin, trace FROM hub.change ORDER BY seq", &[]).await;
    rows.unwrap().iter().map(|row| [row.get(0), row.get(1), row.get(2)]).collect()
}

#[tokio::test]
async fn a_session_can_say_who_writes_and_why() {
    for variant in Variant::ALL {
        let ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        ledger
            .run(
                "BEGIN; SET LOCAL hub.actor = 'ann'; SET LOCAL hub.origin = 'import';
                 SET LOCAL hub.trace = '00-abc';
                 UPDATE thing SET name = 'b'; COMMIT",
            )
            .await;
        // What was local has become an empty setting, which says nothing.
        ledger.run("DELETE FROM thing").await;
        let said = |text: &str| Some(text.to_owned());
        let by_default = [said("postgres"), None, None];
        let expected = [by_default.clone(), [said("ann"), said("import"), said("00-abc")], by_default];
        assert_eq!(attributions(&ledger).await, expected, "{variant:?}");
    }
}

#[tokio::test]
async fn the_role_that_was_set_is_the_actor() {
    let ledger = Ledger::with_thing(Variant::Statement, THING).await;
    let role = ledger.database.role("clerk", "").await;
    ledger
        .run(&format!("GRANT INSERT ON thing TO {role}; SET ROLE {role}; INSERT INTO thing VALUES (1, 'a')"))
        .await;
    ledger.run("RESET ROLE").await;
    assert_eq!(attributions(&ledger).await[0][0].as_deref(), Some(role.as_str()));
}

#[tokio::test]
async fn replication_apply_is_captured_once() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("SET session_replication_role = replica").await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b')").await;
        ledger.run("UPDATE thing SET name = 'c' WHERE id = 1").await;
        ledger.run("UPDATE thing SET id = 3 WHERE id = 2").await;
        ledger.run("DELETE FROM thing WHERE id = 1").await;
        ledger.run("TRUNCATE thing").await;
        ledger.expect(&["+1", "+2", "~1", "-2", "+3", "-1", "-3"]).await;
        ledger.run("SET session_replication_role = origin; INSERT INTO thing VALUES (4, 'd')").await;
        ledger.expect(&["+4"]).await;
        ledger.check("Thing", "thing").await;
    }
}

/// Values whose text depends on settings of the session.
const ODD: &str = "CREATE TABLE thing (day date, at timestamptz, PRIMARY KEY (day, at),
    f float8, r real, i interval, b bytea, days daterange, hours tstzrange, price money, days_list date[],
    t timetz)";

const SETTINGS: &str =
    "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET intervalstyle = 'sql_standard';
    SET extra_float_digits = -10; SET bytea_output = 'escape'";

#[tokio::test]
async fn what_is_recorded_does_not_depend_on_the_sessions_settings() {
    let insert = "INSERT INTO thing VALUES (date '2026-02-01', timestamptz '2026-02-01 20:00:00+00',
                    0.1::float8 + 0.2, 0.3, '1 year 2 days 03:04:05',
        '\\x00ff', daterange(date '2026-02-01', date '2026-03-01'),
        tstzrange(timestamptz '2026-02-01 20:00:00+00', NULL), 12.5,
        ARRAY[date '2026-02-01'], timetz '20:00+00')";
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, ODD).await;
        ledger.run(insert).await;
        ledger.run("DELETE FROM thing").await;
        let plain = ledger.take().await;
        ledger.run(SETTINGS).await;
        ledger.run(insert).await;
        ledger.run("TRUNCATE thing").await;
        let odd = ledger.take().await;
        for (plain, odd) in plain.iter().zip(&odd) {
            assert_eq!((&plain.id, &plain.after, &plain.before), (&odd.id, &odd.after, &odd.before));
        }
        assert_eq!((plain.len(), odd.len()), (2, 2));
        assert_eq!(plain[0].id, "2026-02-01/2026-02-01 20:00:00+00");
        let row = plain[0].after.as_ref().unwrap();
        assert_eq!(row["f"].to_string(), "0.30000000000000004");
        assert_eq!((row["i"].as_str(), row["b"].as_str()), (Some("P1Y2DT3H4M5S"), Some("\\x00ff")));
        assert_eq!(row["days"], "[2026-02-01,2026-03-01)");
    }
}

#[tokio::test]
async fn a_new_column_that_needs_settings_is_a_fault_until_the_table_is_watched_anew() {
    let mut ledger = Ledger::with_thing(Variant::Statement, THING).await;
    ledger.run("ALTER TABLE thing ADD COLUMN f float8").await;
    assert_eq!(
        ledger.faults("Thing").await,
        ["public.thing: the capture function does not fit the table's columns or primary key"]
    );
    ledger.watch("Thing", "thing").await;
    ledger.run("SET extra_float_digits = -10; INSERT INTO thing VALUES (1, 'a', 0.1::float8 + 0.2)").await;
    assert_eq!(ledger.take().await[0].after.as_ref().unwrap()["f"].to_string(), "0.30000000000000004");
}

#[tokio::test]
async fn where_transactions_can_be_prepared_writers_ring_no_bell_and_the_hub_polls() {
    let cluster =
        EphemeralPostgres::start(vec![("max_prepared_transactions".into(), "5".into())]).await.unwrap();
    let database = Database::create_on(&cluster).await;
    let mut settings = Settings::new(database.target());
    settings.capture.backup_poll = std::time::Duration::from_secs(3600);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut client = hub.client().await;
    let mut watch = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    let session = database.connect().await;
    session
        .batch_execute("BEGIN; INSERT INTO dinosaurs (species) VALUES ('prepared'); PREPARE TRANSACTION 'p'")
        .await
        .unwrap();
    session.batch_execute("INSERT INTO dinosaurs (species) VALUES ('plain')").await.unwrap();
    let species = async |watch: &mut tonic::Streaming<trex::proto::rh_trex::v1::DinosaurWatchEvent>| {
        watch.message().await.unwrap().unwrap().dinosaur.unwrap().species
    };
    assert_eq!(species(&mut watch).await, "plain", "a prepared transaction delays only its own events");
    session.batch_execute("COMMIT PREPARED 'p'").await.unwrap();
    assert_eq!(species(&mut watch).await, "prepared");
    assert_eq!(hub.metric("hub_doorbell_rings_total", ""), 0.0);
    let listed = client.list_dinosaurs(ListDinosaursRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.items.len(), 2);
    until("both are counted as sent", || hub.metric("grpc_stream_events_sent_total", "") == 2.0).await;
    hub.stop().await;
    cluster.stop().await.unwrap();
}
