//! Partitions that come and go.

use super::{BOTH, look, take, watching};

const THING: &str = "CREATE TABLE thing (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE thing_low PARTITION OF thing FOR VALUES FROM (0) TO (100);
    CREATE TABLE high (id int PRIMARY KEY, v text)";
const ATTACH: &str = "ALTER TABLE thing ATTACH PARTITION high FOR VALUES FROM (100) TO (200)";
const CAME: &str = "!a partition came with rows";
const WENT: &str = "!a partition went";

#[tokio::test]
async fn a_partition_that_comes_or_goes_with_rows_is_told() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("INSERT INTO high VALUES (150, 'mine')").await;
        ledger.run(ATTACH).await;
        assert_eq!(take(&mut ledger).await, [CAME]);
        ledger.run("INSERT INTO high VALUES (151, 'a')").await;
        ledger.run("UPDATE thing SET id = 50 WHERE id = 151").await;
        assert_eq!(take(&mut ledger).await, ["+151", "-151", "+50"]);
        ledger.run("ALTER TABLE thing DETACH PARTITION high").await;
        assert_eq!(take(&mut ledger).await, [WENT]);
        ledger.run("INSERT INTO high VALUES (152, 'mine again')").await;
        ledger.run("INSERT INTO thing VALUES (51, 'b')").await;
        assert_eq!(take(&mut ledger).await, ["+51"]);
        ledger.run("DROP TABLE thing_low").await;
        assert_eq!(take(&mut ledger).await, [WENT]);
        // In one transaction, as a tool does that splits one.
        ledger.run(ATTACH).await;
        take(&mut ledger).await;
        ledger
            .run(
                "ALTER TABLE thing DETACH PARTITION high;
                 CREATE TABLE thing_1 PARTITION OF thing FOR VALUES FROM (100) TO (150);
                 CREATE TABLE thing_2 PARTITION OF thing FOR VALUES FROM (150) TO (200);
                 INSERT INTO thing SELECT * FROM high; DROP TABLE high",
            )
            .await;
        let taken = take(&mut ledger).await;
        assert!(taken.contains(&WENT.to_owned()), "{taken:?}");
        let rows: Vec<_> = taken.iter().filter(|event| event.starts_with('+')).collect();
        assert_eq!(rows, ["+150", "+152"]);
    }
}

#[tokio::test]
async fn empty_partitions_come_and_go_unheard() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("CREATE TABLE thing_new PARTITION OF thing FOR VALUES FROM (200) TO (300)").await;
        ledger.run(ATTACH).await;
        look(&ledger).await;
        ledger.run("INSERT INTO thing_new VALUES (250, 'a'); INSERT INTO high VALUES (150, 'b')").await;
        assert_eq!(take(&mut ledger).await, ["+250", "+150"]);
        ledger.run("TRUNCATE high").await;
        ledger.run("ALTER TABLE thing DETACH PARTITION high").await;
        assert_eq!(take(&mut ledger).await, ["-150"]);
    }
}

/// With event triggers at once; without, the rows that were written to it directly are told of.
#[tokio::test]
async fn what_is_written_to_a_new_partition_is_captured_or_told() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("CREATE TABLE thing_new PARTITION OF thing FOR VALUES FROM (200) TO (300)").await;
        ledger.run("INSERT INTO thing_new VALUES (250, 'a')").await;
        assert_eq!(take(&mut ledger).await, [if hears { "+250" } else { CAME }]);
        ledger.run("ALTER TABLE thing DETACH PARTITION thing_low").await;
        ledger.run("INSERT INTO thing_low VALUES (50, 'not of the table')").await;
        let taken = take(&mut ledger).await;
        // Until the hub has looked, a partition that was a part is captured.
        let expected: &[&str] = if hears { &[] } else { &["+50", WENT] };
        assert_eq!(taken, expected, "{hears}");
        ledger.run("INSERT INTO thing_low VALUES (51, 'nor this')").await;
        assert_eq!(take(&mut ledger).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_column_that_comes_with_values_is_told_of_a_partitioned_table_too() {
    for hears in BOTH {
        let mut ledger = watching(hears, THING).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
        take(&mut ledger).await;
        for (done, why) in [
            ("ALTER TABLE thing ADD COLUMN d int DEFAULT 5", "!column d came with values"),
            ("ALTER TABLE thing ALTER v TYPE text USING upper(v)", "!column v was written anew"),
        ] {
            ledger.run(done).await;
            assert_eq!(take(&mut ledger).await, [why], "{hears}");
        }
        ledger.run("ALTER TABLE thing ADD COLUMN e int").await;
        assert_eq!(take(&mut ledger).await, Vec::<String>::new());
    }
}
