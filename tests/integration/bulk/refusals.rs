//! What a database refuses in its own way, and when: in a statement, at its end, at the commit. The item is
//! found, its batch mates are in.

use super::{count, create, hub, import, indices, item, start};
use tonic::Code;
use trex::proto::rh_trex::v1::{self as pb, CreateDinosaurRequest};

const ITEMS: u64 = 40;
/// Longer than any other, and said twice.
const BAD: &str = "bad, and too long";
/// Where it stands.
const FIRST: u64 = 7;
const SECOND: u64 = 23;

struct Case {
    set_up: &'static str,
    take_down: &'static str,
    /// What the errors are called, and part of what they say.
    reason: (&'static str, &'static str),
    /// Whether the first of the two is refused as well.
    both: bool,
}

const REFUSED: &str = "REFUSED_BY_DATABASE";

const CASES: [Case; 10] = [
    // A trigger with a SQLSTATE of the application's own.
    Case {
        set_up: "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.species LIKE 'bad%' THEN RAISE 'no such beast' USING ERRCODE = 'PT422'; END IF;
                   RETURN NEW; END $$;
                 CREATE TRIGGER t BEFORE INSERT ON dinosaurs FOR EACH ROW EXECUTE FUNCTION f()",
        take_down: "DROP FUNCTION f CASCADE",
        reason: (REFUSED, "no such beast (SQLSTATE PT422)"),
        both: true,
    },
    // One whose SQLSTATE the hub's own statements may have.
    Case {
        set_up: "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.species LIKE 'bad%' THEN PERFORM 1 FROM not_there; END IF; RETURN NEW; END $$;
                 CREATE TRIGGER t AFTER INSERT ON dinosaurs FOR EACH ROW EXECUTE FUNCTION f()",
        take_down: "DROP FUNCTION f CASCADE",
        reason: (REFUSED, "(SQLSTATE 42P01)"),
        both: true,
    },
    // A constraint trigger that speaks at the commit.
    Case {
        set_up: "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.species LIKE 'bad%' THEN RAISE 'too late' USING ERRCODE = 'PT409'; END IF;
                   RETURN NEW; END $$;
                 CREATE CONSTRAINT TRIGGER t AFTER INSERT ON dinosaurs DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION f()",
        take_down: "DROP FUNCTION f CASCADE",
        reason: (REFUSED, "too late (SQLSTATE PT409)"),
        both: true,
    },
    // Keys that are checked when the transaction commits.
    Case {
        set_up: "ALTER TABLE dinosaurs ADD CONSTRAINT c UNIQUE (species) DEFERRABLE INITIALLY DEFERRED",
        take_down: "ALTER TABLE dinosaurs DROP CONSTRAINT c",
        reason: ("ALREADY_EXISTS", ""),
        both: false,
    },
    Case {
        set_up: "ALTER TABLE dinosaurs ADD CONSTRAINT c EXCLUDE (species WITH =) DEFERRABLE INITIALLY
                 DEFERRED",
        take_down: "ALTER TABLE dinosaurs DROP CONSTRAINT c",
        reason: (REFUSED, "(SQLSTATE 23P01)"),
        both: false,
    },
    Case {
        set_up: "CREATE TABLE allowed (species text PRIMARY KEY);
                 INSERT INTO allowed SELECT 'fine ' || n FROM generate_series(0, 40) n;
                 ALTER TABLE dinosaurs ADD CONSTRAINT c FOREIGN KEY (species)
                 REFERENCES allowed DEFERRABLE INITIALLY DEFERRED",
        take_down: "DROP TABLE allowed CASCADE",
        reason: (REFUSED, "(SQLSTATE 23503)"),
        both: true,
    },
    Case {
        set_up: "ALTER TABLE dinosaurs ADD CONSTRAINT c CHECK (species NOT LIKE 'bad%')",
        take_down: "ALTER TABLE dinosaurs DROP CONSTRAINT c",
        reason: (REFUSED, "(SQLSTATE 23514)"),
        both: true,
    },
    // Values that fit no column.
    Case {
        set_up: "ALTER TABLE dinosaurs ALTER species TYPE varchar(12)",
        take_down: "ALTER TABLE dinosaurs ALTER species TYPE text",
        reason: (REFUSED, "(SQLSTATE 22001)"),
        both: true,
    },
    Case {
        set_up: "ALTER TABLE dinosaurs ADD COLUMN n smallint
                   GENERATED ALWAYS AS ((CASE WHEN species LIKE 'bad%' THEN 99999 ELSE 1 END)::smallint)
                   STORED",
        take_down: "ALTER TABLE dinosaurs DROP COLUMN n",
        reason: (REFUSED, "(SQLSTATE 22003)"),
        both: true,
    },
    // A key that ON CONFLICT ignores.
    Case {
        set_up: "ALTER TABLE dinosaurs DROP CONSTRAINT dinosaurs_pkey,
                 ADD CONSTRAINT dinosaurs_pkey PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED;
                 ALTER TABLE dinosaurs ADD CONSTRAINT c UNIQUE (species) DEFERRABLE",
        take_down: "ALTER TABLE dinosaurs DROP CONSTRAINT c;
                    ALTER TABLE dinosaurs DROP CONSTRAINT dinosaurs_pkey,
                    ADD CONSTRAINT dinosaurs_pkey PRIMARY KEY (id)",
        reason: ("ALREADY_EXISTS", ""),
        both: false,
    },
];

fn species(n: u64) -> String {
    if n == FIRST || n == SECOND { BAD.to_owned() } else { format!("fine {n}") }
}

#[track_caller]
fn assert_refused(errors: &[pb::Error], case: &Case) {
    let expected = if case.both { vec![FIRST, SECOND] } else { vec![SECOND] };
    assert_eq!(indices(errors), expected, "{}: {errors:?}", case.set_up);
    for error in errors {
        assert_eq!(error.id, case.reason.0, "{error:?}");
        assert!(error.reason.ends_with(case.reason.1), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_the_database_refuses_in_its_own_way_is_rejected_alone() {
    let (database, hub) = hub().await;
    let session = database.connect().await;
    for (n, case) in CASES.iter().enumerate() {
        session.batch_execute(case.set_up).await.unwrap();
        let mut begin = start(&format!("case {n}").replace(' ', "-"));
        begin.batch_size = 16;
        let items = (0..ITEMS).map(|n| item(&n.to_string(), species(n)));
        let acknowledgements = import(&mut hub.client().await, begin.clone(), items).await;
        let errors: Vec<_> = acknowledgements.iter().flat_map(|one| one.errors.clone()).collect();
        assert_refused(&errors, case);
        let created = ITEMS - errors.len() as u64;
        assert_eq!(acknowledgements.last().unwrap().created, created, "{}", case.set_up);
        assert_eq!(count(&database, "true").await, created, "{}", case.set_up);
        // Whoever resumes is told the same.
        let again = import(&mut hub.client().await, begin, std::iter::empty()).await;
        assert_eq!((again.len(), again[0].next_index), (1, ITEMS));
        assert_refused(&again[0].errors, case);

        let create_one =
            hub.client().await.create_dinosaur(CreateDinosaurRequest { species: BAD.into() }).await;
        let code = if case.reason.0 == REFUSED { Code::InvalidArgument } else { Code::AlreadyExists };
        assert_eq!(create_one.unwrap_err().code(), code, "{}", case.set_up);
        session.batch_execute("DELETE FROM dinosaurs").await.unwrap();
        let items = (0..ITEMS).map(|n| create(species(n)));
        let response =
            hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner();
        assert_refused(&response.errors, case);
        assert_eq!(count(&database, "true").await, created, "{}", case.set_up);
        session.batch_execute("DELETE FROM dinosaurs").await.unwrap();
        session.batch_execute(case.take_down).await.unwrap();
    }
    hub.stop().await;
}

/// It fires for a statement without rows too.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_refuses_every_statement_rejects_every_item() {
    let (database, hub) = hub().await;
    database
        .connect()
        .await
        .batch_execute(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'closed'
             USING ERRCODE = 'PT503'; END $$;
             CREATE TRIGGER t BEFORE INSERT ON dinosaurs FOR EACH STATEMENT EXECUTE FUNCTION f()",
        )
        .await
        .unwrap();
    let items = (0..10).map(|n| item("", n.to_string()));
    let acknowledgements = import(&mut hub.client().await, start("closed"), items).await;
    let last = acknowledgements.last().unwrap();
    assert_eq!((last.next_index, last.created, last.failed), (10, 0, 10));
    assert!(acknowledgements[1].errors.iter().all(|error| error.reason.contains("closed (SQLSTATE PT503)")));
    let refused = hub.client().await.create_dinosaur(CreateDinosaurRequest { species: "x".into() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    hub.stop().await;
}
