//! What other people's tools do to a whole database: the writers go on, every change comes once, and what is
//! wrong is told.

use crate::support::{Database, TestHub, ledger::Ledger, until, until_ok, until_true};
use std::time::Duration;
use trex::{
    app::Settings,
    error::Error,
    faces::Registry,
    store::{AttachChoice, Store},
};

const THING: &str = "CREATE TABLE thing (id int PRIMARY KEY, name text)";

/// What audit tools and hosted services put on every table, the hub's own among them: a trigger that reads
/// rows its own way, and row security. What the trigger does not understand fails.
const EVERY_TABLE: &str = r#"
    CREATE TABLE public.trail (seen jsonb);
    CREATE FUNCTION public.trail() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO public.trail SELECT to_jsonb(NEW); RETURN NULL; END $$;
    CREATE FUNCTION public.cover(t regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
      IF t = 'public.trail'::regclass THEN RETURN; END IF;
      EXECUTE format('CREATE TRIGGER trail AFTER INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION public.trail()', t);
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
      IF t::text !~ '^hub[.]' THEN EXECUTE format('CREATE POLICY p ON %s USING (true)', t); END IF;
    END $$;"#;

/// What is on the hub's own tables that is not its own.
const STRANGERS: &str = "SELECT what FROM hub.strangers()";

#[tokio::test]
async fn what_a_tool_puts_on_every_new_table_stops_no_writer() {
    let database = Database::create().await;
    let admin = database.connect().await;
    let owner = database.role("owner", "NOSUPERUSER").await;
    admin
        .batch_execute(&format!(
            "GRANT CREATE ON SCHEMA public TO {owner}; {EVERY_TABLE} GRANT INSERT ON trail TO PUBLIC;
             DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {owner}', current_database()); END $$;
             CREATE FUNCTION covered() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM public.cover(objid) FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table'
               AND command_tag = 'CREATE TABLE';
             END $$;
             CREATE EVENT TRIGGER covered ON ddl_command_end EXECUTE FUNCTION covered()"
        ))
        .await
        .unwrap();
    let mut ledger = Ledger::on_as(database, &owner).await;
    ledger.run(THING).await;
    ledger.watch("Thing", "thing").await;
    assert_eq!(admin.query(STRANGERS, &[]).await.unwrap().len(), 0);
    let writer = ledger.database.role("writer", "NOSUPERUSER").await;
    ledger.run(&format!("GRANT ALL ON thing TO {writer}")).await;
    admin.batch_execute("TRUNCATE trail").await.unwrap();
    let session = ledger.database.target_as(&writer).open().await.unwrap();
    session
        .batch_execute("INSERT INTO thing VALUES (1, 'a'); UPDATE thing SET name = 'b'; DELETE FROM thing")
        .await
        .unwrap();
    ledger.expect(&["+1", "~1", "-1"]).await;
    // The application's own table has kept what was put on it.
    assert_eq!(admin.query("SELECT FROM trail", &[]).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_puts_on_every_table_later_is_taken_off_the_hub_s_own() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.capture.inspect = Duration::from_millis(100);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    let covered = format!(
        "{EVERY_TABLE} SELECT public.cover(oid) FROM pg_class WHERE relkind = 'r'
         AND relnamespace = 'hub'::regnamespace;
         ALTER TABLE hub.change FORCE ROW LEVEL SECURITY"
    );
    // All tables in one transaction: of it and the hub, which wait for each other, either may be picked.
    until_ok("they are covered", async || session.batch_execute(&covered).await).await;
    until_true("they are gone", async || session.query(STRANGERS, &[]).await.unwrap().is_empty()).await;
    session.batch_execute("INSERT INTO dinosaurs (species) VALUES ('a'), ('b')").await.unwrap();
    until("it is published", || hub.metric("hub_head_revision", "") as u64 == 2).await;
    until("the hub is ready", || hub.app().health().reasons().is_empty()).await;
    hub.stop().await;
}

#[tokio::test]
async fn an_event_trigger_that_forbids_it_is_told_to_whoever_attaches() {
    let ledger = Ledger::create().await;
    ledger
        .run(&format!(
            "{THING}; CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               RAISE EXCEPTION 'triggers are made by the platform team'; END $$;
             CREATE EVENT TRIGGER no ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION no()"
        ))
        .await;
    let store = Store::new(&ledger.database.target(), 1).unwrap();
    let refused = store.attach(&"thing".parse().unwrap(), &AttachChoice::default()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::CannotAttach { why } if why.contains("made by the platform team")),
        "{refused:?}"
    );
    ledger.run("INSERT INTO thing VALUES (1, 'a'); DROP EVENT TRIGGER no").await;
    store.attach(&"thing".parse().unwrap(), &AttachChoice::default()).await.unwrap();
}

#[tokio::test]
async fn tables_that_are_moved_to_another_tablespace_are_captured_on() {
    let mut ledger = Ledger::create().await;
    let version: String =
        ledger.session.query_one("SELECT current_setting('server_version_num')", &[]).await.unwrap().get(0);
    if version.parse::<u32>().unwrap() < 150_000 {
        eprintln!("SKIPPED: another tablespace, for Postgres {version} has none in place");
        return;
    }
    ledger.run(THING).await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
    ledger.expect(&["+1"]).await;
    let name: String = ledger.session.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    ledger.run("SET allow_in_place_tablespaces = on").await;
    ledger.run(&format!("CREATE TABLESPACE {name} LOCATION ''")).await;
    for objects in ["TABLE", "INDEX"] {
        ledger.run(&format!("ALTER {objects} ALL IN TABLESPACE pg_default SET TABLESPACE {name}")).await;
    }
    ledger.run("UPDATE thing SET name = 'b'; TRUNCATE thing; INSERT INTO thing VALUES (2, 'c')").await;
    ledger.expect(&["~1", "-1", "+2"]).await;
    assert_eq!(ledger.faults("Thing").await, Vec::<String>::new());
    ledger.check("Thing", "thing").await;
    for objects in ["TABLE", "INDEX"] {
        ledger.run(&format!("ALTER {objects} ALL IN TABLESPACE {name} SET TABLESPACE pg_default")).await;
    }
    ledger.run(&format!("DROP TABLESPACE {name}")).await;
}

#[tokio::test]
async fn a_dump_of_one_schema_brings_triggers_that_stop_no_writer() {
    let mut ledger = Ledger::create().await;
    ledger.run(THING).await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (1, 'a')").await;
    ledger.expect(&["+1"]).await;
    // As pg_dump of the one schema writes them, and psql puts them back: the functions are another schema's.
    let triggers = "SELECT string_agg(pg_get_triggerdef(oid) || CASE tgenabled WHEN 'O' THEN '' ELSE format(
                      '; ALTER TABLE thing ENABLE %s TRIGGER %I', CASE tgenabled WHEN 'A' THEN 'ALWAYS'
                      ELSE 'REPLICA' END, tgname) END, '; ')
                    FROM pg_trigger WHERE tgrelid = 'thing'::regclass AND NOT tgisinternal";
    let triggers: String = ledger.session.query_one(triggers, &[]).await.unwrap().get(0);
    ledger.run(&format!("DROP TABLE thing; {THING}; INSERT INTO thing VALUES (1, 'a'); {triggers}")).await;
    assert_ne!(ledger.faults("Thing").await, Vec::<String>::new());
    let changes = "INSERT INTO thing VALUES (2, 'b'); UPDATE thing SET name = 'c'; DELETE FROM thing
                   WHERE id = 2; TRUNCATE thing";
    ledger.run(changes).await;
    ledger
        .run(
            "SET session_replication_role = replica; INSERT INTO thing VALUES (3, 'd');
                RESET session_replication_role",
        )
        .await;
    ledger.take().await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (4, 'e')").await;
    assert_eq!(ledger.take_short().await.last().map(String::as_str), Some("+4"));
}

#[tokio::test]
async fn whose_objects_are_dropped_or_given_away_stops_no_writer() {
    let database = Database::create().await;
    let (owner, heir) =
        (database.role("owner", "NOSUPERUSER").await, database.role("heir", "NOSUPERUSER").await);
    let writer = database.role("writer", "NOSUPERUSER").await;
    let admin = database.connect().await;
    admin
        .batch_execute(&format!(
            "GRANT CREATE ON SCHEMA public TO {owner}, {heir};
             DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {owner}, {heir}',
               current_database()); END $$"
        ))
        .await
        .unwrap();
    let mut ledger = Ledger::on_as(database, &owner).await;
    ledger.run(&format!("{THING}; GRANT ALL ON thing TO {writer}")).await;
    ledger.watch("Thing", "thing").await;
    let session = ledger.database.target_as(&writer).open().await.unwrap();
    let changes =
        "INSERT INTO thing VALUES (1, repeat('x', 20000)); UPDATE thing SET name = 'b'; TRUNCATE thing";
    session.batch_execute(changes).await.unwrap();
    ledger.expect(&["+1", "~1", "-1"]).await;

    // To another owner, who captures from then on.
    admin.batch_execute(&format!("REASSIGN OWNED BY {owner} TO {heir}")).await.unwrap();
    session.batch_execute(changes).await.unwrap();
    let captured = admin.query_one("SELECT count(*) FROM hub.change", &[]).await.unwrap();
    assert_eq!(captured.get::<_, i64>(0), 6);
    let faults = "SELECT FROM hub.capture_faults('Thing', 'public.thing')";
    assert_eq!(admin.query(faults, &[]).await.unwrap().len(), 0);

    // With all that he owns but for the table, which is somebody else's.
    admin
        .batch_execute(&format!("ALTER TABLE thing OWNER TO {owner}; DROP OWNED BY {heir} CASCADE"))
        .await
        .unwrap();
    session.batch_execute(changes).await.unwrap();
    assert_eq!(
        admin.query("SELECT FROM pg_trigger WHERE tgrelid = 'thing'::regclass", &[]).await.unwrap().len(),
        0
    );
    // The writer's own rights go with DROP OWNED, and nothing of the capture.
    admin.batch_execute(&format!("DROP OWNED BY {writer}")).await.unwrap();
}
