//! Nobody's ALTER TABLE fails, or waits, because a table is watched.

use super::{BOTH, look, take, watching};
use crate::support::ledger::{Ledger, OWN_TRIGGER};
use std::time::{Duration, Instant};

const THING: &str = "CREATE TABLE thing (id int PRIMARY KEY, v text)";

/// Postgres lets no table become a partition or inherit that has a row trigger with transition tables.
#[tokio::test]
async fn a_watched_table_with_triggers_of_its_own_becomes_a_partition_and_inherits() {
    for hears in BOTH {
        for key in ["", " DEFERRABLE"] {
            let create = format!("CREATE TABLE thing (id int PRIMARY KEY{key}, v text); {OWN_TRIGGER}");
            let mut ledger = watching(hears, &create).await;
            ledger.run("CREATE TABLE base (v text); ALTER TABLE thing INHERIT base").await;
            ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
            ledger.run("ALTER TABLE thing NO INHERIT base").await;
            ledger
                .run(&format!("CREATE TABLE whole (id int PRIMARY KEY{key}, v text) PARTITION BY RANGE (id)"))
                .await;
            ledger.run("ALTER TABLE whole ATTACH PARTITION thing FOR VALUES FROM (0) TO (100)").await;
            ledger.run("INSERT INTO thing VALUES (2, 'b'); UPDATE thing SET v = 'c' WHERE id = 1").await;
            assert_eq!(take(&mut ledger).await, ["+1", "+2", "~1"]);
            ledger.run("ALTER TABLE whole DETACH PARTITION thing").await;
            ledger.run("INSERT INTO thing VALUES (3, 'd')").await;
            assert_eq!(take(&mut ledger).await, ["+3"]);
        }
    }
}

/// The row trigger of the table above comes with the ATTACH, beside the table's own.
#[tokio::test]
async fn a_watched_table_becomes_a_partition_of_another_one() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("CREATE TABLE whole (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE other (id int PRIMARY KEY, v text)").await;
        let attach = "SELECT hub.attach('public', $1, '{}', '{}', '{}')";
        for table in ["whole", "other"] {
            ledger.session.execute(attach, &[&table]).await.unwrap();
        }
        ledger.run("ALTER TABLE whole ATTACH PARTITION thing FOR VALUES FROM (0) TO (100)").await;
        ledger.run("ALTER TABLE whole ATTACH PARTITION other FOR VALUES FROM (100) TO (200)").await;
        look(&ledger).await;
        ledger.take().await;
        ledger.run("INSERT INTO whole VALUES (1, 'a'), (101, 'b')").await;
        ledger.run("INSERT INTO thing VALUES (2, 'c'); DELETE FROM other").await;
        let mut taken = take(&mut ledger).await;
        taken.sort();
        let of_whole = ["#2+1", "#2+101", "#2+2", "#2-101"];
        // What goes through the table above is that table's.
        assert_eq!(
            taken,
            [&of_whole[..], &["#3-101", "+2"]].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
        );
        ledger
            .run("ALTER TABLE whole DETACH PARTITION thing; ALTER TABLE whole DETACH PARTITION other")
            .await;
        ledger.run("INSERT INTO thing VALUES (3, 'd')").await;
        let taken = take(&mut ledger).await;
        assert_eq!(taken.iter().filter(|event| event.starts_with('+')).count(), 1, "{taken:?}");
        assert_eq!(ledger.faults("Thing").await, Vec::<String>::new());
    }
}

async fn quickly(ledger: &Ledger, sql: &str) {
    let begun = Instant::now();
    ledger.run(sql).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{sql}: {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_event_trigger_fails_nobody() {
    let mut ledger = watching(true, THING).await;
    ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
    // Somebody has the hub's rows, and does not let go.
    let holder = ledger.database.connect().await;
    holder.batch_execute("BEGIN; SELECT FROM hub.watched FOR UPDATE").await.unwrap();
    quickly(&ledger, "ALTER TABLE thing ADD COLUMN d int DEFAULT 5").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(take(&mut ledger).await, ["+1", "!column d came with values"]);
    // Whoever owns a table need not know of hubs.
    let owner = ledger.database.role("owner", "").await;
    ledger
        .run(&format!("ALTER TABLE thing OWNER TO {owner}; GRANT CREATE ON SCHEMA public TO {owner}"))
        .await;
    let theirs = ledger.database.target_as(&owner).open().await.unwrap();
    theirs
        .batch_execute("ALTER TABLE thing ADD COLUMN e int DEFAULT 6; CREATE TABLE t (id int); DROP TABLE t")
        .await
        .unwrap();
    assert_eq!(take(&mut ledger).await, ["!column e came with values"]);
    for isolation in ["SERIALIZABLE", "REPEATABLE READ"] {
        ledger
            .run(&format!("BEGIN ISOLATION LEVEL {isolation}; ALTER TABLE thing ALTER v TYPE text USING v || '!'; COMMIT"))
            .await;
        assert_eq!(take(&mut ledger).await, ["!column v was written anew"]);
    }
    ledger.run("CREATE TEMP TABLE thing (id int); ALTER TABLE pg_temp.thing ADD COLUMN v int; DROP TABLE pg_temp.thing").await;
    assert_eq!(take(&mut ledger).await, Vec::<String>::new());
    // Whatever is broken.
    ledger.run("ALTER TABLE hub.attached RENAME TO gone; ALTER TABLE thing ADD COLUMN f int").await;
    ledger.run("ALTER TABLE hub.gone RENAME TO attached; DROP FUNCTION hub.mend(int, boolean); ALTER TABLE thing ADD COLUMN g int").await;
    ledger.run("SET client_min_messages = error; DROP SCHEMA hub CASCADE; ALTER TABLE thing ADD COLUMN h int; DROP TABLE thing").await;
}

#[tokio::test]
async fn who_may_not_make_event_triggers_does_without() {
    let ledger = Ledger::create().await;
    let owner = ledger.database.role("owner", "").await;
    ledger.run(&format!("SET hub.event_triggers = on; GRANT ALL ON SCHEMA hub TO {owner}; GRANT ALL ON ALL TABLES IN SCHEMA hub TO {owner}; SET ROLE {owner}")).await;
    let made = ledger.session.query_one("SELECT hub.follow_ddl()", &[]).await.unwrap();
    assert!(!made.get::<_, bool>(0));
    ledger.run("RESET ROLE; DO $$ BEGIN ASSERT hub.follow_ddl(); ASSERT hub.follow_ddl(); END $$").await;
    ledger.run("SET hub.event_triggers = off; DO $$ BEGIN ASSERT NOT hub.follow_ddl(); END $$").await;
    let left = ledger.session.query_one("SELECT count(*) FROM pg_event_trigger", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}
