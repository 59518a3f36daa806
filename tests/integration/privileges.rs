//! The privileges of `docs/privileges.md` are enough; a writer needs none, and gives none away.

use crate::support::{Database, TestHub, fossil::Fossils, until};
use std::{sync::Arc, time::Duration};
use tonic::{Request, Streaming};
use trex::{
    app::Settings,
    controller::Controllers,
    faces::{Registry, dinosaurs::Dinosaurs},
    proto::{
        hub::v1::{GetStatusRequest, ReadEventsRequest},
        rh_trex::v1::{
            CreateDinosaurRequest, DinosaurWatchEvent, EventType, ListDinosaursRequest, WatchDinosaursRequest,
        },
    },
    store::{Store, migrate},
};

/// The statements of the page, up to its first table of them; `trex` and `app` are the roles in it.
fn documented(section: &str, hub: &str, writer: &str) -> String {
    let page = include_str!("../../docs/privileges.md");
    let (_, rest) = page.split_once(&format!("```sql\n-- {section}\n")).expect("a block of this name");
    let (statements, _) = rest.split_once("```").expect("the end of the block");
    statements
        .replace("hub_role", hub)
        .replace("app_role", writer)
        .replace("my_database", hub.strip_suffix("_hub").expect("named after its database"))
}

async fn next(watch: &mut Streaming<DinosaurWatchEvent>) -> DinosaurWatchEvent {
    watch.message().await.unwrap().unwrap()
}

/// A database with both roles, where these blocks of the page have been run by a superuser.
async fn prepared(sections: &[&str]) -> (Database, String, String) {
    let database = Database::create().await;
    let (hub, writer) =
        (database.role("hub", "NOSUPERUSER").await, database.role("app", "NOSUPERUSER").await);
    for section in sections {
        let statements = documented(section, &hub, &writer);
        database.connect().await.batch_execute(&statements).await.unwrap();
    }
    (database, hub, writer)
}

/// A hub as `hub` serves what `writer` writes.
async fn serves(database: &Database, hub: &str, writer: &str, grant: bool) {
    let registry = Registry::new(vec![Arc::new(Dinosaurs), Arc::new(Fossils)]);
    let served = TestHub::start_with(Settings::new(database.target_as(hub)), registry).await;
    if grant {
        let statements = documented("a writer", hub, writer);
        database.target_as(hub).open().await.unwrap().batch_execute(&statements).await.unwrap();
    }
    let mut client = served.client().await;
    let mut watch = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    let session = database.target_as(writer).open().await.unwrap();
    session
        .batch_execute(
            "INSERT INTO dinosaurs (id, species) VALUES ('x', 'one'); UPDATE dinosaurs SET species = 'two';
             DELETE FROM dinosaurs",
        )
        .await
        .unwrap();
    for expected in [EventType::Created, EventType::Updated, EventType::Deleted] {
        assert_eq!(next(&mut watch).await.r#type(), expected);
    }
    for forbidden in
        ["SELECT * FROM hub.change", "SELECT * FROM hub.import", "SELECT hub.seal()", "TRUNCATE dinosaurs"]
    {
        let error = session.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}");
    }
    client.create_dinosaur(CreateDinosaurRequest { species: "by the API".into() }).await.unwrap();
    assert_eq!(next(&mut watch).await.r#type(), EventType::Created);
    database.target_as(hub).open().await.unwrap().batch_execute("TRUNCATE dinosaurs").await.unwrap();
    assert_eq!(next(&mut watch).await.r#type(), EventType::Deleted);
    let listed = client.list_dinosaurs(ListDinosaursRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.items, []);
    let row = session.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&hub]).await.unwrap();
    assert!(!row.get::<_, bool>(0));
    served.stop().await;
}

#[tokio::test]
async fn create_on_the_database_and_on_public_is_enough() {
    let (database, hub, writer) = prepared(&["the hub makes everything"]).await;
    serves(&database, &hub, &writer, true).await;
}

#[tokio::test]
async fn a_schema_and_tables_made_for_the_hub_are_enough() {
    let (database, hub, writer) = prepared(&["the schema is made for the hub"]).await;
    serves(&database, &hub, &writer, true).await;
}

#[tokio::test]
async fn a_hub_that_does_not_migrate_needs_less() {
    let (database, hub, writer) = prepared(&[]).await;
    let owner = database.role("owner", "NOSUPERUSER").await;
    database
        .connect()
        .await
        .batch_execute(&documented("the hub makes everything", &hub, &writer).replace(&hub, &owner))
        .await
        .unwrap();
    // What EXECUTE and USAGE everybody has otherwise.
    let revoke = format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE USAGE ON TYPES FROM PUBLIC"
    );
    database.connect().await.batch_execute(&revoke).await.unwrap();
    let registry = Registry::of_this_program();
    migrate(&database.target_as(&owner), &registry.kinds().scopes()).await.unwrap();
    let statements = documented("a hub that does not migrate", &hub, &writer);
    database.target_as(&owner).open().await.unwrap().batch_execute(&statements).await.unwrap();
    let mut settings = Settings::new(database.target_as(&hub));
    settings.migrate = false;
    settings.controllers = Controllers::of_this_program(Some(Duration::from_secs(3600)));
    let served = TestHub::start_with(settings, registry).await;
    let mut client = served.client().await;
    let mut watch = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    client.create_dinosaur(CreateDinosaurRequest { species: "s".into() }).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, 1);
    // An import, with a failure that is kept.
    for _ in 0..2 {
        let items = ["s", ""].map(|species| CreateDinosaurRequest { species: species.into() }.into());
        let mut request = Request::new(tokio_stream::iter(items));
        request.metadata_mut().insert("import-id", "import".parse().unwrap());
        let response = client.bulk_create_dinosaurs(request).await.unwrap().into_inner();
        assert_eq!((response.created, response.failed, response.errors.len()), (1, 1, 1));
    }
    let store = Store::new(&database.target_as(&hub), 1).unwrap();
    assert_eq!(store.expire_imports(Duration::ZERO, 10).await.unwrap(), 1, "the failure");
    assert_eq!(store.expire_imports(Duration::ZERO, 10).await.unwrap(), 1, "the import");
    until("the trail is kept", || served.metric("hub_controller_changes_total", "handled") == 2.0).await;
    assert_eq!(served.metric("hub_controller_hold_ups_total", ""), 0.0);
    let status = served.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.database.expect("an answer of the database").sealed_revision, 2);
    let mut log = served.events().await.read_events(ReadEventsRequest::default()).await.unwrap().into_inner();
    assert_eq!(log.message().await.unwrap().unwrap().events.len(), 2);
    served.stop().await;
}

#[tokio::test]
async fn a_writer_cannot_lend_the_capture_code() {
    let (database, hub, writer) = prepared(&["the hub makes everything"]).await;
    let served =
        TestHub::start_with(Settings::new(database.target_as(&hub)), Registry::of_this_program()).await;
    database
        .target_as(&hub)
        .open()
        .await
        .unwrap()
        .batch_execute(&documented("a writer", &hub, &writer))
        .await
        .unwrap();
    database
        .connect()
        .await
        .batch_execute(&format!("CREATE SCHEMA evil AUTHORIZATION {writer}"))
        .await
        .unwrap();
    let session = database.target_as(&writer).open().await.unwrap();
    session
        .batch_execute(
            "CREATE TABLE evil.ran (who text);
             GRANT USAGE ON SCHEMA evil TO PUBLIC; GRANT ALL ON evil.ran TO PUBLIC;
             CREATE FUNCTION evil.note() RETURNS void LANGUAGE sql VOLATILE AS
             'INSERT INTO evil.ran VALUES (current_user)';
             CREATE FUNCTION evil.to_json(anyelement) RETURNS json LANGUAGE plpgsql AS
               $$ BEGIN PERFORM evil.note(); RETURN '{\"evil\": true}'; END $$;
             CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN PERFORM evil.note(); RETURN true; END $$;
             CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
             CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS
               $$ BEGIN PERFORM evil.note(); RETURN 'evil'; END $$;
             CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT evil.note()';
             CREATE FUNCTION evil.pg_try_advisory_lock_shared(int, int) RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN PERFORM evil.note(); RETURN true; END $$;
             CREATE TEMP TABLE change (kind text, resource_id text, type int, after json, before json,
               actor text, origin text, trace text);
             SET search_path = evil, pg_temp, pg_catalog, public",
        )
        .await
        .unwrap();
    let mut watch =
        served.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    session
        .batch_execute(
            "INSERT INTO dinosaurs (id, species) VALUES ('a', 'first'), ('b', 'second'); UPDATE dinosaurs
             SET species = 'third' WHERE id IN ('b')",
        )
        .await
        .unwrap();
    let species =
        async |watch: &mut Streaming<DinosaurWatchEvent>| next(watch).await.dinosaur.unwrap().species;
    assert_eq!(species(&mut watch).await, "first");
    assert_eq!(species(&mut watch).await, "second");
    assert_eq!(species(&mut watch).await, "third");
    let rows = session.query("SELECT DISTINCT who FROM evil.ran", &[]).await.unwrap();
    let ran: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(ran.iter().all(|who| *who == writer), "as the hub's role: {ran:?}");
    let actors = database.connect().await.query("SELECT DISTINCT actor FROM hub.change", &[]).await.unwrap();
    assert_eq!(actors.iter().map(|row| row.get(0)).collect::<Vec<String>>(), [writer]);
    served.stop().await;
}

#[tokio::test]
async fn who_may_create_functions_lends_the_hub_none() {
    let (database, hub, _) = prepared(&["the hub makes everything"]).await;
    let mut settings = Settings::new(database.target_as(&hub));
    settings.capture.inspect = Duration::from_millis(20);
    let served = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    // A function with exactly the types of a call is preferred to one of pg_catalog that takes any.
    session
        .batch_execute(
            "CREATE TABLE public.ran (who text); GRANT ALL ON public.ran TO PUBLIC;
             CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE sql AS
               'INSERT INTO public.ran VALUES (current_user); SELECT $2';
             CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE sql AS
               'INSERT INTO public.ran VALUES (current_user); SELECT $2';
             CREATE FUNCTION public.to_json(public.dinosaurs) RETURNS json LANGUAGE sql AS
               $$ INSERT INTO public.ran VALUES (current_user); SELECT '{}'::json $$",
        )
        .await
        .unwrap();
    let mut client = served.client().await;
    let species = "quoted".to_owned();
    let created = client.create_dinosaur(CreateDinosaurRequest { species }).await.unwrap().into_inner();
    assert_eq!(created.species, "quoted");
    let listed = client.list_dinosaurs(ListDinosaursRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.items, [created]);
    let state = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let mut watch = client.watch_dinosaurs(state).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.dinosaur.unwrap().species, "quoted");
    // Inspected, and mended.
    session.batch_execute("ALTER TABLE dinosaurs DISABLE TRIGGER \"!trex_insert\"").await.unwrap();
    until("a fault is seen", || !served.app().health().reasons().is_empty()).await;
    migrate(&database.target_as(&hub), &Registry::of_this_program().kinds().scopes()).await.unwrap();
    until("and that it is none", || served.app().health().reasons().is_empty()).await;
    let ran = session.query_one("SELECT count(*) FROM public.ran", &[]).await.unwrap();
    assert_eq!(ran.get::<_, i64>(0), 0);
    let loose = "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'hub'::regnamespace
        AND p.prorettype <> 'trigger'::regtype
        AND NOT coalesce('search_path=pg_catalog, hub, pg_temp' = ANY (p.proconfig), false)";
    let loose = session.query(loose, &[]).await.unwrap();
    assert_eq!(loose.iter().map(|row| row.get(0)).collect::<Vec<String>>(), Vec::<String>::new());
    served.stop().await;
}
