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
    assert_eq!(ledger.mode("thing").await, "row");
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
         CREATE TRIGGER aaa AFTER INSERT OR UPDATE ON thing FOR EACH STATEMENT
         WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION cap()",
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
        faults.iter().any(|fault| fault == "public.thing: trigger !trex_insert does not belong here"),
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

#[tokio::test]
async fn a_before_row_trigger_that_changes_an_earlier_row_of_the_statement_comes_second() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE thing (id int PRIMARY KEY, owner int NOT NULL, is_default boolean NOT NULL);
             CREATE FUNCTION one_default() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               UPDATE thing SET is_default = false WHERE owner = NEW.owner AND is_default AND id <> NEW.id;
               RETURN NEW;
             END $$;
             CREATE TRIGGER one_default BEFORE INSERT OR UPDATE ON thing FOR EACH ROW WHEN (NEW.is_default)
             EXECUTE FUNCTION one_default()",
        )
        .await;
    ledger.watch("Thing", "thing").await;
    assert_eq!(ledger.mode("thing").await, "statement");
    ledger.run("INSERT INTO thing VALUES (1, 7, true), (2, 7, true), (3, 7, true)").await;
    ledger.expect(&["+1", "+2", "+3", "~1", "~2"]).await;
    ledger
        .run(
            "BEGIN; UPDATE thing SET is_default = true WHERE id = 1; UPDATE thing SET is_default = true
                WHERE id = 2; COMMIT",
        )
        .await;
    ledger.expect(&["~3", "~1", "~1", "~2"]).await;
    ledger
        .run(
            "INSERT INTO thing VALUES (3, 7, true), (4, 7, true)
             ON CONFLICT (id) DO UPDATE SET is_default = excluded.is_default",
        )
        .await;
    ledger.take().await;
    ledger.check("Thing", "thing").await;
}

/// What follows the columns of a table: nothing, or what makes it a partitioned one.
const SHAPES: [&str; 2] = ["", "PARTITION BY RANGE (id); CREATE TABLE thing_1 PARTITION OF thing DEFAULT"];

#[tokio::test]
async fn an_upsert_whose_triggers_change_rows_that_it_updated_comes_first() {
    for shape in SHAPES {
        let mut ledger = Ledger::create().await;
        ledger
            .run(&format!(
                "CREATE TABLE thing (id int PRIMARY KEY, n int NOT NULL) {shape};
                 CREATE FUNCTION sibling() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                   IF NEW.id = 1 THEN UPDATE thing SET n = n + 100 WHERE id IN (2, 3); END IF;
                   RETURN NULL;
                 END $$;
                 CREATE TRIGGER sibling AFTER INSERT OR UPDATE ON thing FOR EACH ROW
                 EXECUTE FUNCTION sibling();"
            ))
            .await;
        ledger.watch("Thing", "thing").await;
        ledger.run("INSERT INTO thing VALUES (2, 0)").await;
        ledger
            .run(
                "INSERT INTO thing VALUES (1, 5), (2, 5), (3, 5) ON CONFLICT (id) DO UPDATE
                  SET n = excluded.n",
            )
            .await;
        ledger.run("UPDATE thing SET n = 1").await;
        ledger.take().await;
        ledger.check("Thing", "thing").await;
    }
}

/// Triggers that do at random what triggers may do, in both moments and three levels deep; deleting and
/// bringing back included.
const RESTLESS: &str = "
    CREATE SEQUENCE fresh INCREMENT 1000;
    CREATE FUNCTION pg_temp_free(int) RETURNS int LANGUAGE sql AS 'SELECT floor(random() * $1)::int';
    CREATE FUNCTION restless() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      other int := pg_temp_free(6);
    BEGIN
      IF pg_trigger_depth() <= 3 AND (TG_WHEN = 'AFTER' OR other <> coalesce(NEW.id, OLD.id)) THEN
        BEGIN
          CASE pg_temp_free(5)
            WHEN 0 THEN UPDATE thing SET n = n + 1 WHERE id = other;
            WHEN 1 THEN DELETE FROM thing WHERE id = other;
            WHEN 2 THEN INSERT INTO thing VALUES (other, nextval('fresh')) ON CONFLICT (id) DO UPDATE
            SET n = excluded.n;
            WHEN 3 THEN UPDATE thing SET n = n + 1 WHERE id >= other;
            ELSE NULL;
          END CASE;
        EXCEPTION WHEN triggered_data_change_violation OR cardinality_violation THEN NULL;
        END;
      END IF;
      RETURN CASE TG_WHEN WHEN 'AFTER' THEN NULL WHEN 'BEFORE' THEN coalesce(NEW, OLD) END;
    END $$;";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_triggers_do_each_rows_changes_are_a_chain() {
    let seed = crate::stress::number("TREX_SEED", fastrand::u64(..));
    println!("triggers: TREX_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for moment in ["BEFORE", "AFTER"] {
        for shape in SHAPES {
            let mut ledger = Ledger::create().await;
            ledger
                .run(&format!(
                    "CREATE TABLE thing (id int PRIMARY KEY, n int NOT NULL) {shape}; {RESTLESS}
                     CREATE TRIGGER restless {moment} INSERT OR UPDATE OR DELETE ON thing FOR EACH ROW
                     EXECUTE FUNCTION restless();
                     SELECT setseed({})",
                    random.f64()
                ))
                .await;
            ledger.watch("Thing", "thing").await;
            let mut captured = 0;
            for _ in 0..60 {
                let statements = (0..random.usize(1..4))
                    .map(|_| match random.u8(0..4) {
                        0 => {
                            "INSERT INTO thing SELECT i, nextval('fresh') FROM generate_series(0, 5) i
                              ON CONFLICT (id) DO UPDATE SET n = thing.n + 1"
                        }
                        1 => "UPDATE thing SET n = n + 1",
                        2 => "DELETE FROM thing WHERE id % 2 = 0",
                        _ => {
                            "INSERT INTO thing SELECT i, nextval('fresh') FROM generate_series(0, 5) i
                              ON CONFLICT DO NOTHING"
                        }
                    })
                    .collect::<Vec<_>>();
                // A statement may be refused, for a trigger took its row away; then there is nothing of the
                // transaction.
                let _ = ledger.session.batch_execute(&format!("{}; SELECT 1", statements.join("; "))).await;
                captured += ledger.take().await.len();
                ledger.check("Thing", "thing").await;
            }
            assert!(captured > 50, "{moment} {shape}: {captured}");
        }
    }
}
