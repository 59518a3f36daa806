//! What other people's tools, settings and values do to a watched table: its writers go on, and every change
//! comes once.

use crate::support::{
    Database,
    ledger::{Ledger, Variant},
};

const THING: &str = "CREATE TABLE thing (id int PRIMARY KEY, name text)";

/// Every way to change a row, and to say it during replication.
const CHANGES: &str = "INSERT INTO thing VALUES (1, 'a'), (2, 'b'); UPDATE thing SET name = 'c'
                       WHERE id = 1; DELETE FROM thing";

#[tokio::test]
async fn no_state_of_the_triggers_captures_twice() {
    for variant in Variant::ALL {
        for state in [
            "ENABLE TRIGGER ALL",
            "ENABLE ALWAYS TRIGGER \"!trex_insert\"",
            "ENABLE ALWAYS TRIGGER \"!trex_row\"",
        ] {
            if variant != Variant::Statement && state.contains("insert") {
                continue;
            }
            let mut ledger = Ledger::with_thing(variant, THING).await;
            ledger
                .run(&format!(
                    "ALTER TABLE thing DISABLE TRIGGER ALL;
                                 ALTER TABLE thing ENABLE TRIGGER ALL; ALTER TABLE thing {state}"
                ))
                .await;
            ledger.run(CHANGES).await;
            let mut events = ledger.take_short().await;
            events.sort();
            assert_eq!(events, ["+1", "+2", "-1", "-2", "~1"], "{variant:?} {state}");
            ledger.run("SET session_replication_role = replica; INSERT INTO thing VALUES (3, 'd')").await;
            let events = ledger.take_short().await;
            // Whoever enabled them all took the row trigger from replication; the fault says so.
            let is_row = state.contains("row");
            assert_eq!(events, if is_row { vec!["+3"] } else { vec![] }, "{variant:?} {state}");
            let faults = ledger.faults("Thing").await;
            assert_eq!(
                faults.iter().any(|fault| fault.contains("!trex_row does not fire while replication")),
                !is_row
            );
            assert!(!faults.iter().any(|fault| fault.ends_with("changes are not captured")), "{faults:?}");
        }
    }
}

#[tokio::test]
async fn escapes_that_no_text_can_hold_do_not_fail_their_writer() {
    let ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE thing (id int PRIMARY KEY, owner int NOT NULL, is_default boolean NOT NULL,
               doc json);
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
    for (n, doc) in [(1, r#"{"b":"x\u0000y"}"#), (3, r#"{"b":"\ud800"}"#), (5, r#"{"a":1,"a":2}"#)] {
        let insert = format!("INSERT INTO thing VALUES ({n}, 7, true, '{doc}'), ({n} + 1, 7, true, '{doc}')");
        ledger.run(&insert).await;
        ledger.run("UPDATE thing SET is_default = true WHERE id = 1").await;
    }
    // No parser of ours reads a lone surrogate.
    let captured = ledger.session.query_one("SELECT count(*) FROM hub.change", &[]).await.unwrap();
    assert!(captured.get::<_, i64>(0) > 12);
}

/// Settings of a database that change how SQL is read, planned and written.
const SETTINGS: &str = "quote_all_identifiers=on standard_conforming_strings=off backslash_quote=off \
                        escape_string_warning=on DateStyle=German \
    bytea_output=escape extra_float_digits=-15 IntervalStyle=sql_standard TimeZone=Asia/Kathmandu \
    transform_null_equals=on array_nulls=off \
    default_transaction_isolation=serializable default_transaction_deferrable=on check_function_bodies=on \
    enable_indexscan=off enable_nestloop=off \
    enable_hashjoin=off enable_mergejoin=off plan_cache_mode=force_custom_plan xmloption=document \
    xmlbinary=hex lc_messages=C row_security=off \
    search_path=nowhere";

#[tokio::test]
async fn settings_of_the_database_change_nothing() {
    for variant in Variant::ALL {
        let create =
            r#"CREATE TABLE thing (id int PRIMARY KEY, "Na me" text, at timestamptz, f float8, b bytea)"#;
        let change = "INSERT INTO public.thing
                      VALUES (1, 'a', '2026-02-01 20:00:00+00', 0.1::float8 + 0.2, decode('00ff', 'hex'));
                      UPDATE public.thing SET \"Na me\" = 'b'; UPDATE public.thing SET id = 2;
                      DELETE FROM public.thing";
        let mut ledger = Ledger::with_thing(variant, create).await;
        ledger.run(change).await;
        let plain = ledger.take().await;
        let name: String = ledger.session.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
        for setting in SETTINGS.split_whitespace() {
            let (key, value) = setting.split_once('=').unwrap();
            ledger.run(&format!("ALTER DATABASE {name} SET {key} = '{value}'")).await;
        }
        let odd = ledger.database.connect().await;
        odd.batch_execute(change).await.unwrap();
        let faults = odd.query("SELECT hub.capture_faults('Thing', 'public.thing')", &[]).await.unwrap();
        assert_eq!(faults.len(), 0, "{variant:?}");
        odd.batch_execute("SELECT hub.install(1)").await.unwrap();
        assert_eq!(ledger.faults("Thing").await, Vec::<String>::new());
        let changed = ledger.take().await;
        let rows = |events: &[crate::support::ledger::Captured]| {
            events
                .iter()
                .map(|event| (event.short(), event.after.clone(), event.before.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(&changed), rows(&plain), "{variant:?}");
        assert_eq!(plain[0].after.as_ref().unwrap()["at"], "2026-02-01T20:00:00+00:00");
    }
}

#[tokio::test]
async fn a_publication_of_all_tables_stops_nothing() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE thing (id int PRIMARY KEY, n int NOT NULL);
             CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN UPDATE thing SET n = n + 100 WHERE id <> NEW.id AND n < 100; RETURN NEW; END $$;
             CREATE TRIGGER again BEFORE INSERT ON thing FOR EACH ROW EXECUTE FUNCTION again()",
        )
        .await;
    ledger.watch("Thing", "thing").await;
    ledger.run("CREATE PUBLICATION p FOR ALL TABLES; INSERT INTO thing VALUES (1, 0), (2, 0), (3, 0)").await;
    ledger.take().await;
    ledger.check("Thing", "thing").await;
    let bare =
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'hub'::regnamespace AND c.relkind = 'r'
        AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    assert_eq!(ledger.session.query(bare, &[]).await.unwrap().len(), 0);
    ledger.run("SELECT hub.raise_floor('0', 0, 10)").await;
    let row = ledger.session.query_one("SELECT hub.delete_below_floor(100) > 0", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    ledger.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT hub.begin_epoch(true, NULL); COMMIT").await;
}

#[tokio::test]
async fn a_row_that_is_too_large_comes_without_itself_and_its_writer_goes_on() {
    for variant in Variant::ALL {
        let mut ledger =
            Ledger::with_thing(variant, "CREATE TABLE thing (id int PRIMARY KEY, n int, b bytea)").await;
        ledger
            .run(
                "INSERT INTO thing SELECT 1, 0, convert_to(repeat('x', 40000000), 'UTF8');
                    UPDATE thing SET n = 1",
            )
            .await;
        let events = ledger.take().await;
        let seen: Vec<_> = events
            .iter()
            .map(|event| (event.short(), event.after.is_some(), event.before.is_some()))
            .collect();
        assert_eq!(seen, [("+1".to_owned(), false, false), ("~1".to_owned(), false, false)]);
        ledger
            .run(
                "UPDATE thing SET b = 'small'; SET hub.max_row_bytes = 20000;
                    UPDATE thing SET b = (SELECT convert_to(string_agg(md5(n::text), ''), 'UTF8')
                      FROM generate_series(1, 2000) n)",
            )
            .await;
        let carried: Vec<_> =
            ledger.take().await.iter().map(|event| (event.after.is_some(), event.before.is_some())).collect();
        assert_eq!(carried, [(true, false), (false, true)]);
        ledger.run("SET hub.max_row_bytes = 'a lot'; UPDATE thing SET n = 2").await;
    }
}

#[tokio::test]
async fn renamed_and_exchanged_key_columns_stop_no_writer() {
    for variant in Variant::ALL {
        let create = "CREATE TABLE thing (a text, b text, n int, PRIMARY KEY (a, b))";
        let mut ledger = Ledger::with_thing(variant, create).await;
        for (rename, id) in [
            ("ALTER TABLE thing RENAME b TO c", "1z/2"),
            (
                "ALTER TABLE thing RENAME a TO x; ALTER TABLE thing RENAME c TO a;
                 ALTER TABLE thing RENAME x TO c",
                "1/2z",
            ),
        ] {
            ledger.run(rename).await;
            ledger
                .run(
                    "INSERT INTO thing VALUES ('1', '2', 3); UPDATE thing SET n = 4;
                        UPDATE thing SET a = a || 'z'; TRUNCATE thing",
                )
                .await;
            ledger.expect(&["+1/2", "~1/2", "-1/2", &format!("+{id}"), &format!("-{id}")]).await;
        }
        ledger
            .run(
                "ALTER TABLE thing DROP CONSTRAINT thing_pkey CASCADE; INSERT INTO thing
                    VALUES ('5', '6', 7)",
            )
            .await;
        ledger
            .run(
                "ALTER TABLE thing ALTER a DROP NOT NULL, ALTER c DROP NOT NULL; INSERT INTO thing
                    VALUES (NULL, NULL, 8); UPDATE thing SET n = 9",
            )
            .await;
        ledger
            .run(
                "ALTER TABLE thing DROP COLUMN c; INSERT INTO thing VALUES ('d', 10);
                    UPDATE thing SET n = 9; DELETE FROM thing",
            )
            .await;
    }
}

#[tokio::test]
async fn names_that_postgres_cuts_collide_nowhere() {
    let mut ledger = Ledger::create().await;
    let name = "n".repeat(62);
    for kind in ["a", "b"] {
        ledger.run(&format!("CREATE TABLE {name}{kind} (id int PRIMARY KEY)")).await;
        ledger.watch(&format!("{name}{name}{kind}"), &format!("{name}{kind}")).await;
    }
    ledger.run(&format!("INSERT INTO {name}a VALUES (1); INSERT INTO {name}b VALUES (2)")).await;
    ledger.expect(&[&format!("{name}{name}a+1"), &format!("{name}{name}b+2")]).await;
}

#[tokio::test]
async fn a_table_that_a_crash_would_empty_is_a_fault() {
    let ledger = Ledger::with_thing(Variant::Statement, THING).await;
    ledger.run("ALTER TABLE thing SET UNLOGGED").await;
    let faults = ledger.faults("Thing").await;
    assert!(faults[0].starts_with("public.thing: is not permanent"), "{faults:?}");
    ledger.run("ALTER TABLE thing SET LOGGED").await;
    assert_eq!(ledger.faults("Thing").await, Vec::<String>::new());
}

#[tokio::test]
async fn default_privileges_that_forbid_functions_stop_no_writer() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.batch_execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC").await.unwrap();
    let mut ledger = Ledger::on(database).await;
    ledger.run(THING).await;
    ledger.watch("Thing", "thing").await;
    let role = ledger.database.role("writer", "").await;
    ledger.run(&format!("GRANT ALL ON thing TO {role}; SET ROLE {role}")).await;
    ledger.run("INSERT INTO thing VALUES (1, repeat('x', 20000)); DELETE FROM thing; RESET ROLE").await;
    ledger.expect(&["+1", "-1"]).await;
    ledger.run("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC").await;
}
