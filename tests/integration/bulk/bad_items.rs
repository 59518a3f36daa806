//! Bad items: exact indices, clear reasons, and no harm to others.

use super::{
    Created, ITEM_NOT_UTF8, Imported, Importing, NOT_UTF8, all_indices, count, create, garbage, hub, import,
    indices, item, start,
};
use crate::support::{Database, PATIENCE, TestHub};
use std::collections::BTreeMap;
use tokio::time::timeout;
use trex::proto::rh_trex::v1::{self as pb, ImportDinosaursRequest, ImportDinosaursResponse};

const MANY: u64 = 20_000;

/// One in a hundred is bad, in one of five ways; which, and why.
fn bad(index: u64) -> Option<&'static str> {
    (index % 100 == 37).then(|| ["empty", "long", "utf8", "nul", "garbage"][(index / 100 % 5) as usize])
}

fn reason_of(why: &str) -> (&'static str, i32) {
    match why {
        "utf8" | "garbage" => ("UNDECODABLE", 3),
        "exists" => ("ALREADY_EXISTS", 6),
        _ => ("INVALID_FIELD", 3),
    }
}

fn species(why: Option<&str>) -> String {
    match why {
        Some("empty") => String::new(),
        Some("long") => "x".repeat(256),
        Some("nul") => "a\0b".into(),
        _ => "good".into(),
    }
}

fn assert_reasons(errors: &[pb::Error], expected: &BTreeMap<u64, &str>) {
    assert_eq!(indices(errors), expected.keys().copied().collect::<Vec<_>>());
    for (error, why) in errors.iter().zip(expected.values()) {
        assert_eq!((error.id.as_str(), error.code), reason_of(why), "{why}: {error:?}");
        assert_eq!(error.kind, "Error");
        assert!(!error.reason.is_empty() && !error.operation_id.is_empty(), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_a_hundred_of_a_bulk_creation() {
    let (database, hub) = hub().await;
    let expected: BTreeMap<_, _> = (0..MANY).filter_map(|n| Some((n, bad(n)?))).collect();
    let items = (0..MANY).map(|n| -> Created {
        match bad(n) {
            Some("utf8") => garbage(NOT_UTF8),
            Some("garbage") => garbage(b"\xff\xff"),
            why => create(species(why)),
        }
    });
    let response =
        hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner();
    assert_eq!((response.created, response.failed, response.errors_omitted), (19_800, 200, 0));
    assert_reasons(&response.errors, &expected);
    assert_eq!(count(&database, "species = 'good'").await, 19_800);
    assert_eq!(count(&database, "true").await, 19_800);
    assert_eq!(hub.metric("hub_bulk_failures_total", r#"reason="UNDECODABLE""#), 80.0);
    assert_eq!(hub.metric("hub_bulk_failures_total", r#"reason="INVALID_FIELD""#), 120.0);
    assert_eq!(hub.metric("hub_bulk_items_total", r#"outcome="failed""#), 200.0);
    hub.stop().await;
}

/// Every 50th item repeats the id of the one before, every 77th that of one long before, and a third have
/// none.
fn id(index: u64) -> String {
    match index {
        n if n % 50 == 49 => (n - 1).to_string(),
        n if n > 1000 && n % 77 == 0 => (n - 999).to_string(),
        n if n % 3 == 0 => String::new(),
        n => n.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_a_hundred_of_an_import_and_duplicate_ids() {
    let (database, hub) = hub().await;
    // The first to use an id keeps it.
    let (mut taken, mut expected) = (BTreeMap::new(), BTreeMap::new());
    for n in 0..MANY {
        let id = id(n);
        if let Some(why) = bad(n) {
            expected.insert(n, why);
        } else if !id.is_empty() && *taken.entry(id).or_insert(n.to_string()) != n.to_string() {
            expected.insert(n, "exists");
        }
    }
    let items = (0..MANY).map(|n| -> Imported {
        match bad(n) {
            Some("utf8") => garbage(ITEM_NOT_UTF8),
            Some("garbage") => garbage(b"\xff\xff"),
            Some(why) => item(&id(n), species(Some(why))),
            None => item(&id(n), n.to_string()),
        }
    });
    let acknowledgements = import(&mut hub.client().await, start("bad"), items).await;
    let last = acknowledgements.last().unwrap();
    let failed = expected.len() as u64;
    assert!(failed > 600, "{failed}");
    assert_eq!((last.next_index, last.created, last.failed), (MANY, MANY - failed, failed));
    let errors: Vec<_> = acknowledgements.iter().flat_map(|one| one.errors.clone()).collect();
    assert_reasons(&errors, &expected);
    assert_eq!(count(&database, "true").await, MANY - failed);
    let sql = "SELECT id, species FROM dinosaurs WHERE length(id) <= 5";
    let rows = database.connect().await.query(sql, &[]).await.unwrap();
    let there: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(there, taken);
    hub.stop().await;
}

#[tokio::test]
async fn an_item_that_is_empty_or_of_a_future_kind_fails_alone() {
    let (database, hub) = hub().await;
    let future = garbage(b"\x1a\x02\x0a\x00"); // field 3, which no message has today
    let items = [ImportDinosaursRequest::default().into(), future, item("", "good")];
    let acknowledgements = import(&mut hub.client().await, start("empty"), items.into_iter()).await;
    assert_eq!(all_indices(&acknowledgements), [0, 1]);
    assert!(acknowledgements[1].errors.iter().all(|error| error.id == "INVALID_FIELD"));
    assert_eq!(count(&database, "species = 'good'").await, 1);
    hub.stop().await;
}

#[tokio::test]
async fn failures_beyond_the_first_thousand_are_counted() {
    let (_database, hub) = hub().await;
    let items = (0..3000).map(|n| create(if n % 2 == 0 { "" } else { "good" }));
    let response =
        hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner();
    assert_eq!((response.created, response.failed, response.errors_omitted), (1500, 1500, 500));
    assert_eq!(indices(&response.errors), (0..2000).step_by(2).collect::<Vec<_>>());
    let mut begin = start("many");
    begin.batch_size = 5000;
    let items = (0..3000).map(|n| item("", if n % 2 == 0 { "" } else { "good" }));
    let acknowledgements = import(&mut hub.client().await, begin, items).await;
    let last = acknowledgements.last().unwrap();
    assert_eq!((last.created, last.failed), (1500, 1500));
    hub.stop().await;
}

/// Values that no rule of the API forbids, but the database does.
#[tokio::test]
async fn what_the_database_refuses_is_found_and_its_batch_mates_are_in() {
    let (database, hub) = hub().await;
    database
        .connect()
        .await
        .batch_execute(
            "ALTER TABLE dinosaurs ADD CONSTRAINT no_dragons CHECK (species <> 'dragon');
             CREATE UNIQUE INDEX one_king ON dinosaurs (species) WHERE species = 'king'",
        )
        .await
        .unwrap();
    let species = |n: u64| match n {
        3 | 4 | 50 | 99 | 100 | 250 => "dragon",
        7 | 201 => "king",
        _ => "fine",
    };
    let refused = [3, 4, 50, 99, 100, 201, 250];
    let reasons = |errors: &[pb::Error]| errors.iter().map(|error| error.id.clone()).collect::<Vec<_>>();
    let items = (0..300).map(move |n| create(species(n)));
    let response =
        hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner();
    assert_eq!((response.created, indices(&response.errors)), (293, refused.into()));
    assert_eq!(
        reasons(&response.errors)[4..],
        ["REFUSED_BY_DATABASE", "ALREADY_EXISTS", "REFUSED_BY_DATABASE"]
    );
    assert_eq!(
        response.errors[0].reason,
        "the database refuses it: new row for relation \"dinosaurs\" violates check \
         constraint \"no_dragons\" (SQLSTATE 23514)"
    );
    assert_eq!(count(&database, "species = 'fine'").await, 292);

    let items = (0..300).map(move |n| item(if n % 2 == 0 { "" } else { "taken" }, species(n)));
    let acknowledgements = import(&mut hub.client().await, start("refused"), items).await;
    let last = acknowledgements.last().unwrap();
    // Of the odd ones the first that is not refused keeps the id; the king is there since before.
    assert_eq!((last.created, last.failed), (147, 153));
    assert_eq!(count(&database, "true").await, 293 + 147);
    hub.stop().await;
}

/// A table that leaves out ghosts, and writes what shouts in small letters, its id too.
async fn hub_with_a_trigger() -> (Database, TestHub) {
    let (database, hub) = hub().await;
    let sql = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.species = 'ghost' THEN RETURN NULL; END IF;
                 IF NEW.species = 'shouts' THEN NEW.id := lower(NEW.id); END IF;
                 RETURN NEW; END $$;
               CREATE TRIGGER meddle BEFORE INSERT ON dinosaurs FOR EACH ROW EXECUTE FUNCTION meddle()";
    database.connect().await.batch_execute(sql).await.unwrap();
    (database, hub)
}

/// Index and reason of every failure.
fn failures(acknowledgements: &[ImportDinosaursResponse]) -> Vec<(u64, String)> {
    let errors = acknowledgements.iter().flat_map(|one| &one.errors);
    errors.map(|error| (indices(std::slice::from_ref(error))[0], error.reason.clone())).collect()
}

#[tokio::test]
async fn a_row_that_a_trigger_leaves_out_has_failed_and_one_that_it_rewrites_is_in() {
    let (database, hub) = hub_with_a_trigger().await;
    let left_out = |index| (index, "a trigger of the table left it out".to_owned());
    let exists = |index| (index, "Dinosaur exists already".to_owned());
    let first = [("k1", "ghost"), ("K2", "shouts"), ("k3", "ok"), ("", "ghost"), ("k3", "again"), ("", "ok")];
    let items = first.map(|(id, species)| item(id, species));
    let acknowledgements = import(&mut hub.client().await, start("first"), items.into_iter()).await;
    assert_eq!(failures(&acknowledgements), [left_out(0), left_out(3), exists(4)]);
    assert_eq!(count(&database, "id IN ('k2', 'k3') OR species = 'ok'").await, 3);
    assert_eq!(count(&database, "true").await, 3);
    // An existing row exists, whatever the trigger does; and a name that it takes from one row it may give to
    // another.
    let second =
        [("k3", "ghost"), ("K2", "shouts"), ("K4", "shouts"), ("k4", "ok"), ("K4", "ok"), ("K4", "shouts")];
    let items = second.map(|(id, species)| item(id, species));
    let acknowledgements = import(&mut hub.client().await, start("second"), items.into_iter()).await;
    assert_eq!(failures(&acknowledgements), [exists(0), left_out(1), exists(3), exists(5)]);
    assert_eq!(count(&database, "id IN ('k2', 'k3', 'k4', 'K4')").await, 4);
    // Without an import it is known too.
    let items = (0..10).map(|n| create(if n == 6 { "ghost" } else { "seen" }));
    let response =
        hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner();
    assert_eq!((response.created, indices(&response.errors)), (9, vec![6]));
    assert_eq!(response.errors[0].id, "REFUSED_BY_DATABASE");
    assert_eq!(count(&database, "species = 'seen'").await, 9);
    hub.stop().await;
}

/// Where triggers meddle, a row that another transaction creates meanwhile is one that exists all the same.
#[tokio::test]
async fn a_row_that_somebody_else_creates_meanwhile_is_not_taken_for_left_out() {
    let (database, hub) = hub_with_a_trigger().await;
    let session = database.connect().await;
    let mut stream = Importing::start(&mut hub.client().await, start("race")).await;
    let first = stream.acknowledgement().await;
    session.batch_execute("BEGIN; INSERT INTO dinosaurs (id, species) VALUES ('a', 'theirs')").await.unwrap();
    stream.send(item("a", "ours")).await;
    let waits = async {
        while session.query("SELECT FROM pg_locks WHERE NOT granted", &[]).await.unwrap().is_empty() {}
    };
    timeout(*PATIENCE, waits).await.unwrap();
    session.batch_execute("COMMIT").await.unwrap();
    let acknowledgements = stream.finish(&first).await;
    assert_eq!(failures(&acknowledgements), [(0, "Dinosaur exists already".to_owned())]);
    hub.stop().await;
}
