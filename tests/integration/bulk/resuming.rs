//! An import that is repeated creates every item once; of two streams of one import one goes on; imports
//! expire.

use super::{Importing, all_indices, count, create, hub, import, indices, interruption, item, start};
use crate::support::{Database, PATIENCE, TestHub, wire::reason};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Request};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{BulkCreateDinosaursResponse, ImportDinosaursStart},
    store::Driven,
};

/// Item `n` of an import in which every tenth fails.
fn nth(n: u64) -> super::Imported {
    item("", if n % 10 == 9 { String::new() } else { n.to_string() })
}

#[tokio::test]
async fn a_finished_import_that_is_repeated_does_nothing() {
    let (database, hub) = hub().await;
    let first = import(&mut hub.client().await, start("again"), (0..250).map(nth)).await;
    let again = import(&mut hub.client().await, start("again"), (0..250).map(nth)).await;
    assert_eq!(again.len(), 1, "nothing but the position");
    assert_eq!((again[0].next_index, again[0].created, again[0].failed), (250, 225, 25));
    assert_eq!(all_indices(&again), all_indices(&first));
    assert_eq!(count(&database, "true").await, 225);
    assert_eq!(hub.metric("hub_imports_resumed_total", ""), 1.0);
    hub.stop().await;
}

#[tokio::test]
async fn failures_are_repeated_from_what_the_client_has_handled() {
    let (_database, hub) = hub().await;
    import(&mut hub.client().await, start("lost"), (0..250).map(nth)).await;
    for (acknowledged, expected) in [(0, 25), (9, 25), (10, 24), (249, 1), (250, 0)] {
        let begin = ImportDinosaursStart { acknowledged, ..start("lost") };
        let first = Importing::start(&mut hub.client().await, begin).await.acknowledgement().await;
        assert_eq!((first.next_index, first.errors.len(), first.errors_omitted), (250, expected, 0));
        assert!(indices(&first.errors).iter().all(|&index| index >= acknowledged));
        assert!(first.errors.iter().all(|error| error.id == "INVALID_FIELD" && error.code == 3));
    }
    hub.stop().await;
}

#[tokio::test]
async fn of_two_streams_the_newer_goes_on() {
    let (database, hub) = hub().await;
    let mut older = Importing::start(&mut hub.client().await, start("both")).await;
    older.acknowledgement().await;
    for n in 0..10 {
        older.send(nth(n)).await;
    }
    let mut before = older.acknowledgement().await;
    while before.next_index < 10 {
        before = older.acknowledgement().await;
    }
    let mut newer = Importing::start(&mut hub.client().await, start("both")).await;
    let first = newer.acknowledgement().await;
    assert_eq!(first.next_index, 10);
    older.send(nth(10)).await;
    let status = older.message().await.unwrap_err();
    assert_eq!(interruption(&status, "next_index"), (Code::Aborted, "IMPORT_TAKEN_OVER".to_owned(), 10));
    assert_eq!(count(&database, "true").await, 9, "nothing of the older stream");
    newer.send(nth(10)).await;
    newer.close();
    assert_eq!(newer.finish(&first).await.last().unwrap().next_index, 11);
    assert_eq!(count(&database, "species = '10'").await, 1);
    hub.stop().await;
}

/// An older stream whose batch waits for something in the database, and a newer one of the same import.
async fn overtaken(lock: &str) -> (Importing, Importing, Driven, TestHub) {
    let (database, hub) = hub().await;
    let session = database.connect().await;
    let mut older = Importing::start(&mut hub.client().await, start("both")).await;
    older.acknowledgement().await;
    session.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
    older.send(item("a", "older")).await;
    let waits = async {
        while session.query("SELECT FROM pg_locks WHERE NOT granted", &[]).await.unwrap().is_empty() {}
    };
    timeout(*PATIENCE, waits).await.unwrap();
    let newer = Importing::start(&mut hub.client().await, start("both")).await;
    (older, newer, session, hub)
}

#[tokio::test]
async fn a_batch_that_has_the_position_is_waited_for_by_the_stream_that_takes_over() {
    let row = "INSERT INTO dinosaurs (id, species) VALUES ('a', 'somebody else')";
    let (mut older, mut newer, session, hub) = overtaken(row).await;
    assert!(timeout(Duration::from_millis(200), newer.responses.message()).await.is_err());
    session.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(older.acknowledgement().await.next_index, 1);
    let first = newer.acknowledgement().await;
    assert_eq!((first.next_index, first.created), (1, 1));
    hub.stop().await;
}

#[tokio::test]
async fn a_batch_that_has_not_the_position_yet_is_out_for_good() {
    let (mut older, mut newer, session, hub) = overtaken("LOCK TABLE dinosaurs IN SHARE MODE").await;
    let first = newer.acknowledgement().await;
    assert_eq!(first.next_index, 0);
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(older.message().await.unwrap_err().code(), Code::Aborted);
    assert!(session.query("SELECT FROM dinosaurs", &[]).await.unwrap().is_empty());
    newer.send(item("a", "newer")).await;
    assert_eq!(newer.acknowledgement().await.created, 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_bulk_creation_is_resumed_by_its_metadata() {
    let (database, hub) = hub().await;
    let call = |items: u64| {
        let items = (0..items).map(|n| create(if n % 10 == 9 { String::new() } else { n.to_string() }));
        let mut request = Request::new(tokio_stream::iter(items));
        request.metadata_mut().insert("import-id", "metadata".parse().unwrap());
        request
    };
    let first = hub.client().await.bulk_create_dinosaurs(call(130)).await.unwrap().into_inner();
    assert_eq!((first.created, first.failed), (117, 13));
    let second = hub.client().await.bulk_create_dinosaurs(call(200)).await.unwrap().into_inner();
    assert_eq!((second.created, second.failed, second.errors_omitted), (180, 20, 0));
    assert_eq!(indices(&second.errors), (0..20).map(|n| n * 10 + 9).collect::<Vec<_>>());
    assert_eq!(count(&database, "true").await, 180);
    let third = hub.client().await.bulk_create_dinosaurs(call(200)).await.unwrap().into_inner();
    // But for the operation, which is the call's own.
    let of = |response: &BulkCreateDinosaursResponse| {
        (response.created, response.failed, indices(&response.errors))
    };
    assert_eq!(of(&third), of(&second));
    assert_eq!(hub.metric("hub_bulk_items_total", r#"outcome="skipped""#), 330.0);
    // Fewer items than it has: they are not those of this import.
    let status = hub.client().await.bulk_create_dinosaurs(call(50)).await.unwrap_err();
    let differs = |value| (Code::FailedPrecondition, "IMPORT_DIFFERS".to_owned(), value);
    assert_eq!(interruption(&status, "known"), differs(200));
    assert_eq!(interruption(&status, "sent"), differs(50));
    assert_eq!(interruption(&status, "created"), differs(180));
    hub.stop().await;
}

#[tokio::test]
async fn an_import_outlives_its_hub() {
    let database = Database::create().await;
    for hub_number in 1..=3u64 {
        let hub = TestHub::start(&database).await;
        let items = (0..hub_number * 100).map(nth);
        let acknowledgements = import(&mut hub.client().await, start("hubs"), items).await;
        assert_eq!(acknowledgements[0].next_index, (hub_number - 1) * 100);
        assert_eq!(acknowledgements.last().unwrap().created, hub_number * 90);
        hub.stop().await;
    }
    assert_eq!(count(&database, "true").await, 270);
}

#[tokio::test]
async fn an_import_that_is_less_far_than_its_client_is_not_begun_anew() {
    let (database, hub) = hub().await;
    let mut client = hub.client().await;
    import(&mut client, start("known"), (0..10).map(nth)).await;
    for (id, known) in [("known", 10), ("unknown", 0)] {
        let begin = ImportDinosaursStart { acknowledged: 11, ..start(id) };
        let status = Importing::start(&mut client, begin).await.message().await.unwrap_err();
        assert_eq!(interruption(&status, "known"), (Code::OutOfRange, "IMPORT_UNKNOWN".to_owned(), known));
    }
    let row =
        database.connect().await.query_one("SELECT count(*), max(generation) FROM hub.import", &[]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1), "neither made nor taken over");
    hub.stop().await;
}

#[tokio::test]
async fn an_import_that_rests_for_too_long_is_forgotten() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.capture.retention.interval = Duration::from_millis(20);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut client = hub.client().await;
    for id in ["old", "new"] {
        import(&mut client, start(id), (0..100).map(nth)).await;
    }
    let mut open = Importing::start(&mut client, start("open")).await;
    open.acknowledgement().await;
    let session = database.connect().await;
    session
        .batch_execute(
            "UPDATE hub.import SET updated_at = now() - interval '8 days' WHERE id IN ('old', 'open')",
        )
        .await
        .unwrap();
    let forgotten = async {
        let sql = "SELECT (SELECT array_agg(id ORDER BY number) FROM hub.import),
                   (SELECT count(*) FROM hub.import_failure)";
        loop {
            let row = session.query_one(sql, &[]).await.unwrap();
            if (row.get::<_, Vec<Option<String>>>(0), row.get::<_, i64>(1))
                == (vec![Some("new".to_owned())], 10)
            {
                return;
            }
        }
    };
    timeout(*PATIENCE, forgotten).await.expect("it is forgotten, with its failures");
    open.send(nth(0)).await;
    let status = open.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "IMPORT_TAKEN_OVER"));
    let begin = ImportDinosaursStart { acknowledged: 100, ..start("old") };
    let status = Importing::start(&mut client, begin).await.message().await.unwrap_err();
    assert_eq!(interruption(&status, "known"), (Code::OutOfRange, "IMPORT_UNKNOWN".to_owned(), 0));
    hub.stop().await;
}
