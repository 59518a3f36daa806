//! Most capture functions set no `search_path`: names that a writer lends, and columns named like the
//! functions' own names, must not change what they mean.

use crate::support::{Database, TestHub};

const HOSTILE: &str = "
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.compare(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'lent'; END $$;
    CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.compare);
    CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.compare);
    CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.compare);
    CREATE FUNCTION evil.to_json(anyelement) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE 'lent'; END $$;
    CREATE FUNCTION evil.replace(text, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'lent';
    END $$;
    CREATE FUNCTION evil.current_setting(text, bool) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RAISE 'lent'; END $$;
    CREATE TEMP TABLE new_rows (id text);
    CREATE TEMP TABLE old_rows (id text);
    CREATE TYPE pg_temp.text AS (x int);
    SET search_path = evil, pg_temp, pg_catalog, public";

/// Every way to be captured, of a table with a composite key and columns named like the capture's aliases and
/// variables.
const CHANGES: &str = "
    INSERT INTO public.odd VALUES (1, 'x/y%', 'mine', 'k');
    UPDATE public.odd SET actor = 'yours';
    UPDATE public.odd SET a = a + 1;
    DELETE FROM public.odd;
    INSERT INTO public.odd VALUES (3, '', '', '');
    TRUNCATE public.odd";

#[tokio::test(flavor = "multi_thread")]
async fn a_writers_names_do_not_reach_the_capture() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    let owner = database.connect().await;
    let table = "CREATE TABLE odd (a int, b text, actor text, kind text, PRIMARY KEY (a, b));
                 SELECT hub.watch('Odd', 'odd')";
    owner.batch_execute(table).await.unwrap();

    let writer = database.connect().await;
    writer.batch_execute(HOSTILE).await.unwrap();
    writer.batch_execute(CHANGES).await.unwrap();

    let sql = "SELECT concat_ws(' ', type, resource_id, before, after) FROM hub.change WHERE kind = 'Odd'
               ORDER BY seq";
    let captured: Vec<String> = owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(
        captured,
        [
            r#"1 1/x%2Fy%25 {"a":1,"b":"x/y%","actor":"mine","kind":"k"}"#,
            r#"2 1/x%2Fy%25 {"a":1,"b":"x/y%","actor":"mine","kind":"k"} {"a":1,"b":"x/y%","actor":"yours","kind":"k"}"#,
            r#"3 1/x%2Fy%25 {"a":1,"b":"x/y%","actor":"yours","kind":"k"}"#,
            r#"1 2/x%2Fy%25 {"a":2,"b":"x/y%","actor":"yours","kind":"k"}"#,
            r#"3 2/x%2Fy%25 {"a":2,"b":"x/y%","actor":"yours","kind":"k"}"#,
            r#"1 3/ {"a":3,"b":"","actor":"","kind":""}"#,
            r#"3 3/ {"a":3,"b":"","actor":"","kind":""}"#,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_somebody_elses_type_gets_a_search_path() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    let owner = database.connect().await;
    let faults = async || {
        let rows = owner.query("SELECT fault FROM hub.capture_faults('Dinosaur')", &[]).await.unwrap();
        rows.len()
    };
    owner
        .batch_execute("CREATE TYPE era AS ENUM ('Jurassic'); ALTER TABLE dinosaurs ADD COLUMN era era")
        .await
        .unwrap();
    assert_eq!(faults().await, 0, "the functions were made for the new columns at once");
    let sql = "SELECT count(*) FROM pg_proc WHERE prorettype = 'trigger'::regtype
               AND pronamespace = 'hub'::regnamespace AND proconfig[1] = 'search_path=pg_catalog, pg_temp'";
    assert_eq!(owner.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 5);
}
