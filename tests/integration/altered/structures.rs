//! What is done to a table, and what is told of it.

use super::{BOTH, look, take, watching};

const THING: &str = "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b text);
    CREATE TABLE thing (id int PRIMARY KEY, v text NOT NULL, m mood DEFAULT 'sad', p pair DEFAULT (1, 'x'), n int)";
const INSERT: &str = "INSERT INTO thing VALUES (1, 'a')";

/// What somebody does, and why rows are others then.
const DONE: [(&str, &str); 22] = [
    ("ALTER TABLE thing ADD COLUMN d int DEFAULT 5", "!column d came with values"),
    ("ALTER TABLE thing ADD COLUMN d float DEFAULT random()", "!column d came with values"),
    ("ALTER TABLE thing ADD COLUMN d int GENERATED ALWAYS AS (id + 1) STORED", "!column d came with values"),
    ("ALTER TABLE thing ADD COLUMN d bigserial", "!column d came with values"),
    ("ALTER TABLE thing ADD COLUMN d int", ""),
    ("ALTER TABLE thing ADD COLUMN d int; ALTER TABLE thing ALTER d SET DEFAULT 5", ""),
    ("ALTER TABLE thing ALTER v TYPE text USING upper(v)", "!column v was written anew"),
    ("ALTER TABLE thing ALTER n TYPE bigint", "!column n has another type"),
    ("ALTER TABLE thing ALTER v TYPE varchar", ""),
    ("ALTER TABLE thing DROP COLUMN n", ""),
    ("ALTER TABLE thing RENAME COLUMN v TO w", ""),
    ("ALTER TABLE thing RENAME COLUMN id TO key", ""),
    ("ALTER TABLE thing ALTER n SET NOT NULL, ALTER n SET STATISTICS 10", ""),
    ("CREATE INDEX ON thing (n); COMMENT ON TABLE thing IS 'c'; GRANT SELECT (n) ON thing TO PUBLIC", ""),
    ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "!a type is written in another way"),
    ("ALTER TYPE mood RENAME VALUE 'glad' TO 'joyful'", "!a type is written in another way"),
    ("ALTER TYPE pair RENAME ATTRIBUTE a TO c", "!a type is written in another way"),
    ("ALTER TABLE thing DROP CONSTRAINT thing_pkey; ALTER TABLE thing ADD PRIMARY KEY (v)", "!key"),
    ("ALTER TABLE thing DROP CONSTRAINT thing_pkey; ALTER TABLE thing ADD PRIMARY KEY (id)", ""),
    ("ALTER TABLE thing DROP COLUMN id; ALTER TABLE thing ADD COLUMN id serial PRIMARY KEY", "!key"),
    (
        "ALTER TABLE thing RENAME TO old; CREATE TABLE thing (LIKE old INCLUDING ALL)",
        "!another table has come in its place",
    ),
    ("DROP TABLE thing", "!the table was dropped"),
];

#[tokio::test]
async fn rows_that_change_without_a_statement_are_told() {
    for hears in BOTH {
        for (done, why) in DONE {
            let mut ledger = watching(hears, THING).await;
            ledger.run(INSERT).await;
            ledger.run("UPDATE thing SET n = 0").await;
            ledger.take().await;
            // In a transaction, as migrations run it.
            ledger.run(done).await;
            let expected: Vec<_> = [why].into_iter().filter(|why| !why.is_empty()).collect();
            assert_eq!(take(&mut ledger).await, expected, "{hears}: {done}");
            if done.starts_with("DROP TABLE") {
                continue;
            }
            assert_eq!(ledger.faults("Thing").await, Vec::<String>::new(), "{hears}: {done}");
            // Its writers go on, and are captured.
            let count = "SELECT count(*) FROM thing";
            let rows: i64 = ledger.session.query_one(count, &[]).await.unwrap().get(0);
            ledger.run("DELETE FROM thing").await;
            assert_eq!(ledger.take_raw().await.len(), rows as usize, "{hears}: {done}");
        }
    }
}

#[tokio::test]
async fn files_that_are_written_anew_and_empty_tables_are_no_news() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("ALTER TABLE thing ADD COLUMN d int DEFAULT 5; ALTER TABLE thing ALTER v TYPE text USING upper(v)").await;
        look(&ledger).await;
        ledger.run(INSERT).await;
        for done in ["VACUUM FULL thing", "CLUSTER thing USING thing_pkey", "REINDEX TABLE thing"] {
            ledger.run(done).await;
        }
        assert_eq!(take(&mut ledger).await, ["+1"]);
        ledger.run("TRUNCATE thing").await;
        assert_eq!(take(&mut ledger).await, ["-1"]);
    }
}

/// A row keeps its id, whatever its key's columns are called; without one it has none.
#[tokio::test]
async fn writers_go_on_through_every_change_of_the_key() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("ALTER TABLE thing RENAME id TO key").await;
        ledger.run("INSERT INTO thing (key, v) VALUES (1, 'a')").await;
        ledger.run("ALTER TABLE thing RENAME n TO id; ALTER TABLE thing RENAME key TO n").await;
        ledger.run("INSERT INTO thing (n, v, id) VALUES (2, 'b', 7)").await;
        assert_eq!(take(&mut ledger).await, ["+1", "+2"]);
        ledger.run("ALTER TABLE thing DROP CONSTRAINT thing_pkey").await;
        ledger.run("INSERT INTO thing (n, v) VALUES (3, 'c')").await;
        // The ids are those of the key that was, for as long as its columns are there.
        assert_eq!(take(&mut ledger).await, ["+3"]);
        ledger.run("ALTER TABLE thing DROP COLUMN n").await;
        ledger.run("INSERT INTO thing (v) VALUES ('d')").await;
        look(&ledger).await;
        assert_eq!(ledger.faults("Thing").await, ["public.thing: has no primary key"]);
        assert_eq!(ledger.take_short().await, Vec::<String>::new());
        ledger.run("ALTER TABLE thing ADD PRIMARY KEY (v)").await;
        ledger.run("INSERT INTO thing (v) VALUES ('e')").await;
        // Whoever mends it says that the history begins anew.
        let mut taken = take(&mut ledger).await;
        taken.sort();
        let with_e: &[&str] = if hears { &["!key", "+e"] } else { &["!key"] };
        assert_eq!(taken, with_e, "{hears}");
        ledger.run("INSERT INTO thing (v) VALUES ('f')").await;
        assert_eq!(take(&mut ledger).await, ["+f"]);
    }
}

#[tokio::test]
async fn changes_that_went_by_uncaptured_are_told() {
    for hears in BOTH {
        for (uncaptured, mended) in [
            (
                "ALTER TABLE thing DISABLE TRIGGER \"!trex_insert\"",
                "ALTER TABLE thing ENABLE TRIGGER \"!trex_insert\"",
            ),
            ("DROP TRIGGER \"!trex_insert\" ON thing", "SELECT hub.watch('Thing', 'thing')"),
        ] {
            let mut ledger = watching(hears, THING).await;
            ledger.run(uncaptured).await;
            ledger.run(INSERT).await;
            // Within a moment, as tools do it that restore or load.
            ledger.run(mended).await;
            assert_eq!(
                take(&mut ledger).await,
                ["!changes were not captured for some time"],
                "{hears}: {uncaptured}"
            );
            ledger.run("INSERT INTO thing VALUES (2, 'b')").await;
            assert_eq!(take(&mut ledger).await, ["+2"]);
        }
    }
}
