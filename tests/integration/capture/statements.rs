//! Every kind of statement, captured per statement and per row.

use crate::support::ledger::{Captured, Ledger, OWN_TRIGGER, Variant};
use trex::store::{Bell, BellConnection};

const THING: &str = "CREATE TABLE thing (id int PRIMARY KEY, name text)";

#[tokio::test]
async fn inserts_updates_and_deletes_are_captured() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b')").await;
        ledger.run("UPDATE thing SET name = 'c' WHERE id = 1").await;
        ledger.run("DELETE FROM thing WHERE id = 2").await;
        ledger.expect(&["+1", "+2", "~1", "-2"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_a_create() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        ledger.run("UPDATE thing SET id = 9, name = 'b'").await;
        ledger.expect(&["+1", "-1", "+9"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_statements_deletes_come_before_its_creates() {
    let mut ledger = Ledger::with_thing(Variant::Statement, THING).await;
    ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
    ledger.take().await;
    ledger.run("UPDATE thing SET id = id + 10 WHERE id > 1").await;
    let mut events = ledger.take_short().await;
    assert!(events[..2].iter().all(|event| event.starts_with('-')), "{events:?}");
    events.sort();
    assert_eq!(events, ["+12", "+13", "-2", "-3"]);
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn swapped_and_shifted_keys_lose_no_row() {
    // A deferrable key is captured by statement, whatever triggers the table has.
    for own in ["", OWN_TRIGGER] {
        let mut ledger = Ledger::create().await;
        ledger.run("CREATE TABLE thing (id int PRIMARY KEY DEFERRABLE, name text)").await;
        ledger.run(own).await;
        ledger.watch("Thing", "thing").await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b')").await;
        ledger.run("UPDATE thing SET id = 3 - id").await;
        ledger.take().await;
        ledger.check("Thing", "thing").await;
        ledger.run("UPDATE thing SET id = id + 1").await;
        ledger.take().await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn truncate_is_a_delete_of_every_row() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing SELECT n, 'x' FROM generate_series(1, 3) n").await;
        ledger.take().await;
        ledger.run("BEGIN; INSERT INTO thing VALUES (4, 'mine'); TRUNCATE thing; COMMIT").await;
        ledger.expect(&["+4", "-1", "-2", "-3", "-4"]).await;
        ledger.run("TRUNCATE thing").await;
        ledger.expect(&[]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn truncate_with_an_older_snapshot_is_captured_if_nobody_else_came() {
    for variant in Variant::ALL {
        for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
            let mut ledger = Ledger::with_thing(variant, THING).await;
            ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b')").await;
            ledger
                .run(&format!("BEGIN ISOLATION LEVEL {isolation}; INSERT INTO thing VALUES (3, 'c')"))
                .await;
            ledger.run("TRUNCATE thing; INSERT INTO thing VALUES (1, 'd'); TRUNCATE thing; COMMIT").await;
            ledger.run("INSERT INTO thing VALUES (4, 'e')").await;
            ledger.expect(&["+1", "+2", "+3", "-1", "-2", "-3", "+1", "-1", "+4"]).await;
            ledger.check("Thing", "thing").await;
        }
    }
}

#[tokio::test]
async fn truncate_of_rows_that_its_snapshot_does_not_see_is_told_to_those_of_its_table() {
    let mut ledger = Ledger::with_thing(Variant::Statement, THING).await;
    ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
    ledger.take().await;
    ledger.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM thing").await;
    let other = ledger.database.connect().await;
    other.batch_execute("INSERT INTO thing VALUES (2, 'b')").await.unwrap();
    ledger.run("TRUNCATE thing; COMMIT").await;
    // What is told has the next seal's number.
    let mut events = ledger.take_raw().await;
    events.extend(ledger.take_raw().await);
    let short: Vec<_> = events.iter().map(Captured::short).collect();
    assert_eq!(short, ["+2", "-1", "!"]);
    let told = events[2].after.as_ref().unwrap();
    assert_eq!(told["state_changed"], "rows were truncated by a transaction that did not see them");
    ledger.expect(&[]).await;
}

#[tokio::test]
async fn truncate_cascade_reaches_watched_children() {
    let mut ledger = Ledger::with_thing(Variant::Statement, THING).await;
    ledger.run("CREATE TABLE child (id int PRIMARY KEY, thing int REFERENCES thing)").await;
    ledger.watch("Child", "child").await;
    ledger.run("INSERT INTO thing VALUES (1, 'a'); INSERT INTO child VALUES (7, 1)").await;
    ledger.run("TRUNCATE thing CASCADE").await;
    let mut events = ledger.take_short().await;
    events.sort();
    assert_eq!(events, ["+1", "-1", "Child+7", "Child-7"]);
    ledger.check("Child", "child").await;
}

#[tokio::test]
async fn on_conflict_captures_what_happened() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        ledger.run("INSERT INTO thing VALUES (1, 'b'), (2, 'c') ON CONFLICT (id) DO NOTHING").await;
        ledger.expect(&["+1", "+2"]).await;
        ledger
            .run(
                "INSERT INTO thing VALUES (1, 'd'), (3, 'e') ON CONFLICT (id) DO UPDATE
                  SET name = excluded.name",
            )
            .await;
        let mut events = ledger.take_short().await;
        events.sort();
        assert_eq!(events, ["+3", "~1"]);
        ledger.run("INSERT INTO thing VALUES (1, 'f') ON CONFLICT (id) DO NOTHING").await;
        ledger.expect(&[]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn merge_captures_what_happened() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
        ledger.take().await;
        ledger
            .run(
                "MERGE INTO thing t USING (VALUES (1, 'changed'), (2, NULL), (4, 'new')) AS s (id, name)
                 ON t.id = s.id
                 WHEN MATCHED AND s.name IS NULL THEN DELETE
                 WHEN MATCHED THEN UPDATE SET name = s.name
                 WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.name)",
            )
            .await;
        let mut events = ledger.take_short().await;
        events.sort();
        assert_eq!(events, ["+4", "-2", "~1"]);
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_row_deleted_and_inserted_by_one_statement_stays() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        ledger.take().await;
        // Two source rows: the first is matched and deletes, the second joins nothing and inserts the same
        // key.
        ledger
            .run(
                "MERGE INTO thing t USING (VALUES (1, 0), (1, 1)) AS s (id, n) ON t.id = s.id AND s.n = 0
                 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'again')",
            )
            .await;
        ledger.expect(&["-1", "+1"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn copy_is_captured() {
    use futures_util::SinkExt;
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        let sink = ledger.session.copy_in::<_, bytes::Bytes>("COPY thing FROM STDIN").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(bytes::Bytes::from_static(b"1\ta\n2\t\\N\n")).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 2);
        ledger.expect(&["+1", "+2"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn data_modifying_ctes_are_captured() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (2, 'b')").await;
        ledger
            .run(
                "WITH gone AS (DELETE FROM thing WHERE id = 1 RETURNING name),
                 changed AS (UPDATE thing SET name = 'z' WHERE id = 2)
                 INSERT INTO thing SELECT 3, name FROM gone",
            )
            .await;
        let mut events = ledger.take_short().await;
        events.sort();
        assert_eq!(events, ["+1", "+2", "+3", "-1", "~2"]);
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn savepoints_keep_the_order_and_rolled_back_changes_never_come() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger
            .run(
                "BEGIN; INSERT INTO thing VALUES (1, 'a');
                 SAVEPOINT s; INSERT INTO thing VALUES (2, 'b'); UPDATE thing SET name = 'lost';
                 ROLLBACK TO s;
                 INSERT INTO thing VALUES (3, 'c'); SAVEPOINT t; UPDATE thing SET name = 'kept'
                 WHERE id = 1; RELEASE t; COMMIT",
            )
            .await;
        ledger.run("BEGIN; DELETE FROM thing; ROLLBACK").await;
        ledger.expect(&["+1", "+3", "~1"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn statements_without_rows_capture_nothing_and_ring_no_bell() {
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        let mut bells = BellConnection::open(&ledger.database.target()).await.unwrap();
        ledger
            .run(
                "INSERT INTO thing SELECT 1, 'a' WHERE false; UPDATE thing SET name = 'b';
                 DELETE FROM thing; TRUNCATE thing;
                 MERGE INTO thing USING (SELECT 1 AS id WHERE false) s ON thing.id = s.id
                 WHEN MATCHED THEN DELETE",
            )
            .await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        ledger.run("SELECT pg_notify('hub_sealed', '42')").await;
        assert_eq!(bells.next().await, Some(Bell::Doorbell), "for the row");
        let next = bells.next().await;
        assert!(matches!(next, Some(Bell::Sealed(revision)) if revision.get() == 42), "a bell for nothing");
        ledger.expect(&["+1"]).await;
    }
}

#[tokio::test]
async fn a_statement_over_100_000_rows_is_one_transaction_in_the_log() {
    const ROWS: i64 = 120_000;
    for variant in Variant::ALL {
        let mut ledger = Ledger::with_thing(variant, THING).await;
        ledger.run(&format!("INSERT INTO thing SELECT n, 'x' FROM generate_series(1, {ROWS}) n")).await;
        let events = ledger.take().await;
        assert_eq!(events.len() as i64, ROWS);
        assert!(events.iter().zip(1u64..).all(|(event, n)| event.revision == n && event.id == n.to_string()));
        let row = ledger.session.query_one("SELECT count(*), sum(events)::bigint FROM hub.log", &[]).await;
        let row = row.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, ROWS));
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn instants_are_in_utc_and_the_session_keeps_its_zone() {
    for variant in Variant::ALL {
        let mut ledger =
            Ledger::with_thing(variant, "CREATE TABLE thing (id int PRIMARY KEY, at timestamptz)").await;
        for zone in ["UTC", "Asia/Kathmandu", "-07"] {
            ledger.run(&format!("SET TimeZone = '{zone}'; DELETE FROM thing")).await;
            let before: String = ledger.session.query_one("SHOW TimeZone", &[]).await.unwrap().get(0);
            ledger.run("INSERT INTO thing VALUES (1, '2020-06-01 12:00+02')").await;
            ledger
                .run(
                    "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo';
                        UPDATE thing SET at = at + interval '1 s'; COMMIT",
                )
                .await;
            let after: String = ledger.session.query_one("SHOW TimeZone", &[]).await.unwrap().get(0);
            assert_eq!(before, after);
            let taken = ledger.take().await;
            let told: Vec<_> =
                taken.iter().filter_map(|event| event.after.as_ref()).map(|row| &row["at"]).collect();
            assert_eq!(
                told,
                ["2020-06-01T10:00:00+00:00", "2020-06-01T10:00:01+00:00"],
                "{variant:?}, {zone}"
            );
        }
    }
}
