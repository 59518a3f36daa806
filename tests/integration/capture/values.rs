//! Names and values that quoting, matching or precision could spoil.

use crate::support::ledger::{Ledger, Variant};
use serde_json::json;

#[tokio::test]
async fn names_that_need_quotes_are_captured() {
    for variant in Variant::ALL {
        let create = r#"CREATE TABLE thing ("the "" id" int,
                          "K'ey %s" text, "select" text, "ü $1 \x" text, PRIMARY KEY ("the "" id", "K'ey %s"))"#;
        let mut ledger = Ledger::with_thing(variant, create).await;
        ledger.run("INSERT INTO thing VALUES (1, 'a', 'b', 'c')").await;
        ledger.run(r#"UPDATE thing SET "select" = 'z'"#).await;
        ledger.run(r#"UPDATE thing SET "K'ey %s" = 'k'"#).await;
        ledger.run("TRUNCATE thing").await;
        ledger.expect(&["+1/a", "~1/a", "-1/a", "+1/k", "-1/k"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn tables_and_kinds_that_need_quotes_are_captured() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            r#"CREATE SCHEMA "My ""Schema"; CREATE TABLE "My ""Schema"."Odd 'Table %I" (id int PRIMARY KEY)"#,
        )
        .await;
    ledger.watch("Odd 'Kind\" %s", r#""My ""Schema"."Odd 'Table %I""#).await;
    ledger.run(r#"INSERT INTO "My ""Schema"."Odd 'Table %I" VALUES (1)"#).await;
    ledger.run(r#"TRUNCATE "My ""Schema"."Odd 'Table %I""#).await;
    ledger.expect(&["Odd 'Kind\" %s+1", "Odd 'Kind\" %s-1"]).await;
}

#[tokio::test]
async fn columns_named_like_the_captures_own_words_are_columns() {
    for variant in Variant::ALL {
        let create = "CREATE TABLE thing (a text PRIMARY KEY, b text, actor text, captured text, kind text,
                        origin text, trace text,
            type text, after text, before text, seq text, xid text, resource_id text, tg_op text,
            new_rows text, old_rows text)";
        let mut ledger = Ledger::with_thing(variant, create).await;
        ledger
            .run("INSERT INTO thing (a, b, actor, captured, kind) VALUES ('1', 'bee', 'x', 'y', 'z')")
            .await;
        ledger.run("UPDATE thing SET actor = 'changed', after = 'c'").await;
        ledger.run("UPDATE thing SET a = '2'").await;
        ledger.run("DELETE FROM thing WHERE b <> 'bee'; TRUNCATE thing").await;
        let events = ledger.take().await;
        let short: Vec<_> = events.iter().map(|event| event.short()).collect();
        assert_eq!(short, ["+1", "~1", "-1", "+2", "-2"]);
        assert_eq!(events[1].after.as_ref().unwrap()["actor"], "changed");
        ledger.check("Thing", "thing").await;
        let actors = ledger.session.query("SELECT DISTINCT actor FROM hub.change", &[]).await.unwrap();
        assert_eq!(actors.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["postgres"]);
    }
}

#[tokio::test]
async fn equal_keys_with_another_text_are_another_resource() {
    let mut ledger =
        Ledger::with_thing(Variant::Statement, "CREATE TABLE thing (id numeric PRIMARY KEY)").await;
    ledger.run("INSERT INTO thing VALUES (1.0)").await;
    ledger.run("UPDATE thing SET id = 1.00").await;
    ledger.expect(&["+1.0", "-1.0", "+1.00"]).await;
    // Captured per row.
    ledger.run("SET session_replication_role = replica; UPDATE thing SET id = 1.000").await;
    ledger.expect(&["-1.00", "+1.000"]).await;
    ledger.check("Thing", "thing").await;
}

#[tokio::test]
async fn parts_of_a_composite_key_are_told_apart() {
    for variant in Variant::ALL {
        let mut ledger =
            Ledger::with_thing(variant, "CREATE TABLE thing (x text, y text, PRIMARY KEY (y, x))").await;
        ledger
            .run(
                "INSERT INTO thing (y, x) VALUES ('a', '1'), ('a/b', 'c'), ('a', 'b/c'), ('%2F', '%'),
                    ('', '')",
            )
            .await;
        ledger.expect(&["+a/1", "+a%2Fb/c", "+a/b%2Fc", "+%252F/%25", "+/"]).await;
        ledger.check("Thing", "thing").await;
    }
}

#[tokio::test]
async fn generated_and_dropped_columns_are_as_the_table_shows_them() {
    for variant in Variant::ALL {
        let create = "CREATE TABLE thing (id int PRIMARY KEY, gone int, n int,
                        twice int GENERATED ALWAYS AS (n * 2) STORED)";
        let mut ledger = Ledger::with_thing(variant, create).await;
        ledger.run("ALTER TABLE thing DROP COLUMN gone; ALTER TABLE thing RENAME COLUMN n TO m").await;
        ledger.watch("Thing", "thing").await;
        ledger.run("INSERT INTO thing (id, m) VALUES (1, 21)").await;
        assert_eq!(ledger.take().await[0].after, Some(json!({ "id": 1, "m": 21, "twice": 42 })));
        ledger.check("Thing", "thing").await;
    }
}
