//! Partitioned tables: every row once, whichever way it was written.

use crate::support::ledger::{Ledger, Variant};

const PARTITIONED: &str = "
    CREATE TABLE thing (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
    CREATE TABLE thing_low PARTITION OF thing FOR VALUES FROM (0) TO (100);
    CREATE TABLE thing_high PARTITION OF thing FOR VALUES FROM (100) TO (300) PARTITION BY RANGE (id);
    CREATE TABLE thing_high_1 PARTITION OF thing_high FOR VALUES FROM (100) TO (200);
    CREATE TABLE thing_high_2 PARTITION OF thing_high FOR VALUES FROM (200) TO (300)";

#[tokio::test]
async fn rows_come_once_through_the_parent_and_directly() {
    for variant in Variant::PARTITIONED {
        let mut ledger = Ledger::with_thing(variant, PARTITIONED).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (150, 'b')").await;
        ledger.run("INSERT INTO thing_low VALUES (2, 'c')").await;
        ledger.run("INSERT INTO thing_high VALUES (250, 'd')").await;
        ledger.run("INSERT INTO thing_high_1 VALUES (160, 'e')").await;
        ledger.expect(&["+1", "+150", "+2", "+250", "+160"]).await;
        ledger.run("UPDATE thing SET name = 'z' WHERE id = 160").await;
        ledger.run("UPDATE thing_high_1 SET name = 'y' WHERE id = 160").await;
        ledger.run("DELETE FROM thing_high WHERE id = 250").await;
        ledger.run("DELETE FROM thing_low WHERE id = 2").await;
        ledger.expect(&["~160", "~160", "-250", "-2"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_row_that_moves_between_partitions_keeps_its_chain() {
    for variant in Variant::PARTITIONED {
        let mut ledger = Ledger::with_thing(variant, PARTITIONED).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        ledger.run("UPDATE thing SET id = 150").await;
        ledger.expect(&["+1", "-1", "+150"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_move_that_keeps_the_watched_key_loses_nothing() {
    let create = "
        CREATE TABLE thing (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE thing_e PARTITION OF thing FOR VALUES IN ('e');
        CREATE TABLE thing_w PARTITION OF thing FOR VALUES IN ('w')";
    for variant in Variant::PARTITIONED {
        let mut ledger = Ledger::with_thing(variant, create).await;
        ledger.run("INSERT INTO thing VALUES (1, 'e'), (2, 'w')").await;
        ledger.run("UPDATE thing SET region = CASE region WHEN 'e' THEN 'w' ELSE 'e' END").await;
        let mut events = ledger.take_short().await;
        events.sort();
        assert_eq!(events, ["+1/e", "+1/w", "+2/e", "+2/w", "-1/e", "-2/w"]);
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn truncate_of_several_partitions_makes_no_doubles() {
    for variant in Variant::PARTITIONED {
        let mut ledger = Ledger::with_thing(variant, PARTITIONED).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a'), (150, 'b'), (250, 'c'), (251, 'd')").await;
        ledger.take().await;
        ledger.run("TRUNCATE thing_high_2").await;
        ledger.expect(&["-250", "-251"]).await;
        ledger.run("INSERT INTO thing VALUES (250, 'again')").await;
        ledger.run("TRUNCATE thing").await;
        let mut events = ledger.take_short().await;
        events.sort();
        assert_eq!(events, ["+250", "-1", "-150", "-250"]);
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_new_partition_is_a_fault_until_the_table_is_watched_anew() {
    for variant in Variant::PARTITIONED {
        let mut ledger = Ledger::with_thing(variant, PARTITIONED).await;
        ledger
            .run(
                "CREATE TABLE thing_new (id int PRIMARY KEY, name text);
                 ALTER TABLE thing ATTACH PARTITION thing_new FOR VALUES FROM (300) TO (400)",
            )
            .await;
        let faults = ledger.faults("Thing").await;
        assert!(
            faults.iter().all(|fault| fault.starts_with("public.thing_new: trigger !trex_")),
            "{faults:?}"
        );
        assert!(faults.iter().any(|fault| fault.ends_with("is missing")), "{faults:?}");
        ledger.watch("Thing", "thing").await;
        ledger.run("INSERT INTO thing_new VALUES (301, 'a')").await;
        ledger.run("INSERT INTO thing VALUES (302, 'b')").await;
        ledger.run("TRUNCATE thing_new").await;
        ledger.expect(&["+301", "+302", "-301", "-302"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn a_detached_partition_is_left_alone_when_the_table_is_watched_anew() {
    let mut ledger = Ledger::with_thing(Variant::Statement, PARTITIONED).await;
    ledger.run("ALTER TABLE thing DETACH PARTITION thing_low").await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (150, 'a')").await;
    ledger.expect(&["+150"]).await;
    ledger.run("ALTER TABLE thing ATTACH PARTITION thing_low FOR VALUES FROM (0) TO (100)").await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (1, 'b')").await;
    ledger.expect(&["+1"]).await;
}
