//! Tables whose own triggers change rows while they are being captured.

use crate::support::ledger::Ledger;

async fn counter(trigger: &str) -> Ledger {
    let ledger = Ledger::create().await;
    ledger.run("CREATE TABLE thing (id int PRIMARY KEY, n int NOT NULL)").await;
    ledger.run(trigger).await;
    ledger.watch("Thing", "thing").await;
    ledger
}

#[tokio::test]
async fn an_after_row_trigger_that_changes_the_same_row_comes_second() {
    let mut ledger = counter(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           UPDATE thing SET n = n + 100 WHERE id = NEW.id AND n < 100;
           RETURN NULL;
         END $$;
         CREATE TRIGGER aaa AFTER INSERT OR UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION again()",
    )
    .await;
    assert_eq!(ledger.mode("thing").await, "first");
    ledger.run("INSERT INTO thing VALUES (1, 0), (2, 0)").await;
    ledger.run("UPDATE thing SET n = 1 WHERE id = 1").await;
    ledger.take().await;
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn an_after_row_trigger_that_changes_another_row_of_the_statement_comes_second() {
    let mut ledger = counter(
        "CREATE FUNCTION sibling() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.id = 1 THEN UPDATE thing SET n = n + 100 WHERE id = 2; END IF;
           RETURN NULL;
         END $$;
         CREATE TRIGGER sibling AFTER INSERT OR UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION sibling()",
    )
    .await;
    ledger.run("INSERT INTO thing VALUES (1, 0), (2, 0)").await;
    ledger.run("UPDATE thing SET n = n + 1").await;
    ledger.take().await;
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn an_after_statement_trigger_that_changes_rows_comes_second() {
    let mut ledger = counter(
        "CREATE FUNCTION cap() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           UPDATE thing SET n = 10 WHERE n > 10;
           RETURN NULL;
         END $$;
         CREATE TRIGGER aaa AFTER INSERT OR UPDATE ON thing FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION cap()",
    )
    .await;
    ledger.run("INSERT INTO thing VALUES (1, 99)").await;
    ledger.run("UPDATE thing SET n = 50").await;
    ledger.take().await;
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn before_triggers_are_seen_in_the_row() {
    let mut ledger = counter(
        "CREATE FUNCTION double() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.n < 0 THEN RETURN NULL; END IF;
           NEW.n := NEW.n * 2;
           RETURN NEW;
         END $$;
         CREATE TRIGGER double BEFORE INSERT OR UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION double()",
    )
    .await;
    assert_eq!(ledger.mode("thing").await, "statement");
    ledger.run("INSERT INTO thing VALUES (1, 2), (2, -1)").await;
    let events = ledger.take().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].after.as_ref().unwrap()["n"], 4);
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn a_trigger_that_comes_later_is_a_fault_until_the_table_is_watched_anew() {
    let mut ledger = counter("").await;
    assert_eq!(ledger.mode("thing").await, "statement");
    ledger
        .run(
            "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN UPDATE thing SET n = n + 100 WHERE id = NEW.id AND n < 100; RETURN NULL; END $$;
             CREATE TRIGGER again AFTER INSERT ON thing FOR EACH ROW EXECUTE FUNCTION again()",
        )
        .await;
    let faults = ledger.faults("Thing").await;
    assert!(
        faults.iter().any(|fault| fault == "thing: trigger !trex_insert is disabled or altered"),
        "{faults:?}"
    );
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (1, 0)").await;
    ledger.expect(&["+1", "~1"]).await;
    ledger.run("DROP TRIGGER again ON thing").await;
    assert!(!ledger.faults("Thing").await.is_empty(), "slower than it needs to be");
    ledger.watch("Thing", "thing").await;
    ledger.run("UPDATE thing SET n = 1").await;
    ledger.expect(&["~1"]).await;
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn a_partitioned_table_with_row_triggers_is_captured_per_row() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE thing (id int PRIMARY KEY, n int NOT NULL) PARTITION BY RANGE (id);
             CREATE TABLE thing_1 PARTITION OF thing FOR VALUES FROM (0) TO (10);
             CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN UPDATE thing SET n = n + 100 WHERE id = NEW.id AND n < 100; RETURN NULL; END $$;
             CREATE TRIGGER again AFTER INSERT OR UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION again()",
        )
        .await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (1, 0), (2, 0)").await;
    ledger.run("UPDATE thing_1 SET n = 5 WHERE id = 2").await;
    ledger.expect(&["+1", "~1", "+2", "~2", "~2", "~2"]).await;
    ledger.check("Thing", "thing").await;
}
