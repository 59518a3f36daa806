//! What a policy hides, no message tells: rows, columns, ids, counts.

use super::{Issuer, admin_link, link, reason, token};
use crate::{
    support::{Database, PATIENCE, TestHub, until_ok, until_true},
    tables::{next, short},
};
use serde_json::json;
use std::{fs, time::Duration};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use trex::{
    app::Settings,
    faces::Registry,
    proto::{
        hub::v1::{
            CreateRowRequest, DeleteRowRequest, GetRowRequest, GetStatusRequest, GetTableRequest,
            ListAuditRecordsRequest, ListRowsRequest, ListTablesRequest, ReadEventsRequest, UpdateRowRequest,
            WatchEvent, WatchRequest, admin_service_client::AdminServiceClient,
            audit_service_client::AuditServiceClient, event_service_client::EventServiceClient,
            table_service_client::TableServiceClient, watch_service_client::WatchServiceClient,
        },
        rh_trex::v1::BackpressurePolicy,
    },
};

const TABLES: &str = "CREATE TABLE notes (id int PRIMARY KEY, owner text, state text, secret text);
                      CREATE TABLE others (id int PRIMARY KEY, owner text)";

/// Users see and change their own notes, without one column; operators do everything.
const POLICY: &str = r#"
[[rule]]
name = "own"
when = { role = "user" }
kinds = ["public.notes"]
verbs = ["get", "list", "watch", "create", "update", "delete"]
rows = "owner = $sub"
hide = ["secret"]

[[rule]]
name = "operators"
when = { role = "operator" }
kinds = ["*"]
verbs = ["get", "list", "watch", "create", "update", "delete", "read_events", "audit", "admin", "manage_keys"]
rows = "*"
"#;

struct Guarded {
    database: Database,
    issuer: Issuer,
    hub: TestHub,
}

impl Guarded {
    async fn start(policy: &str) -> Self {
        let (database, issuer) = (Database::create().await, Issuer::new());
        database.connect().await.batch_execute(TABLES).await.unwrap();
        fs::write(issuer.file("acl.toml"), policy).unwrap();
        let mut settings: Settings = issuer.settings(&database);
        settings.authentication.policy = Some(issuer.file("acl.toml"));
        settings.tables = "public.*".parse().unwrap();
        settings.capture.inspect = Duration::from_millis(200);
        let hub = TestHub::start_with(settings, Registry::new(vec![])).await;
        let guarded = Self { database, issuer, hub };
        let operator = operator();
        until_true("the tables are attached", async || {
            let tables = guarded.rows(&operator).await.list_tables(ListTablesRequest {}).await;
            tables.is_ok_and(|tables| tables.get_ref().tables.len() == 2)
        })
        .await;
        until_ok("they are read", async || {
            guarded.rows(&operator).await.list_rows(all("public.notes")).await
        })
        .await;
        guarded
    }

    async fn run(&self, sql: &str) {
        // Whoever is behind a change is told to nobody who sees a part.
        let sql = format!("SET hub.actor = 'alice at work'; SET hub.trace = '00-alice'; {sql}");
        self.database.connect().await.batch_execute(&sql).await.unwrap();
    }

    async fn rows(&self, who: &str) -> TableServiceClient<super::Link> {
        TableServiceClient::new(link(&self.hub, Some(who)).await)
    }

    async fn watch(
        &self,
        who: &str,
        request: WatchRequest,
    ) -> Result<tonic::Response<Streaming<WatchEvent>>, Status> {
        WatchServiceClient::new(link(&self.hub, Some(who)).await).watch(request).await
    }
}

fn user(name: &str) -> String {
    token(name, json!({"role": "user"}))
}

fn operator() -> String {
    token("operator", json!({"role": "operator"}))
}

fn all(table: &str) -> ListRowsRequest {
    ListRowsRequest { table: table.into(), count: true, ..Default::default() }
}

fn notes() -> WatchRequest {
    WatchRequest {
        table: "public.notes".into(),
        include_previous: true,
        backpressure: BackpressurePolicy::CatchUp.into(),
        ..Default::default()
    }
}

/// Nothing of a row that is not bob's, and of no hidden column, whoever wrote it.
fn tells_nothing(event: &WatchEvent) {
    for text in [&event.row, &event.previous] {
        for hidden in ["secret", "hidden", "alice", "private"] {
            assert!(!text.contains(hidden), "{event:?}");
        }
    }
    assert_eq!((&*event.actor, &*event.origin, &*event.trace, event.transaction_end), ("", "", "", 0));
}

async fn taken(stream: &mut Streaming<WatchEvent>, last: &str) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.last().is_none_or(|known: &String| known != last) {
        let event = next(stream).await.unwrap();
        tells_nothing(&event);
        assert_eq!(event.dropped_before, 0);
        taken.push(short(&event));
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_what_enters_and_leaves_and_nothing_else() {
    let guarded = Guarded::start(POLICY).await;
    guarded
        .run(
            "INSERT INTO notes VALUES (1, 'alice', 'open', 'hidden'), (2, 'bob', 'open', 'hidden'),
                (5, NULL, 'open', 'hidden')",
        )
        .await;
    let request = WatchRequest { send_initial_state: true, ..notes() };
    let mut live = guarded.watch(&user("bob"), request).await.unwrap().into_inner();
    assert_eq!(taken(&mut live, ".").await, ["=2", "."]);
    for sql in [
        "UPDATE notes SET state = 'private' WHERE id = 1",
        "UPDATE notes SET secret = 'hidden again' WHERE id = 2",
        "UPDATE notes SET owner = 'bob', state = 'open' WHERE id = 1",
        "UPDATE notes SET state = 'closed' WHERE id = 1",
        "UPDATE notes SET owner = 'alice', state = 'private' WHERE id = 1",
        "UPDATE notes SET owner = NULL WHERE id = 2",
        "UPDATE notes SET owner = 'bob ' WHERE id = 5",
        "INSERT INTO notes VALUES (3, 'bob', 'open', 'hidden'), (4, 'alice', 'private', 'hidden')",
        "UPDATE notes SET id = 14 WHERE id = 4",
        "DELETE FROM notes WHERE id = 1",
        "TRUNCATE notes",
        "INSERT INTO notes VALUES (9, 'bob', 'end', 'hidden')",
    ] {
        guarded.run(sql).await;
    }
    let told = ["+1", "~1", "-1", "-2", "+3", "-3", "+9"];
    assert_eq!(taken(&mut live, "+9").await, told);
    // The history tells what the live stream told.
    let request = WatchRequest { after_revision: Some(0), ..notes() };
    let mut history = guarded.watch(&user("bob"), request).await.unwrap().into_inner();
    assert_eq!(taken(&mut history, "+9").await, [&["+2"], &told[..]].concat());
    // A filter goes on from what is seen.
    let filter = "state = open".to_owned();
    let request = WatchRequest { after_revision: Some(0), filter, ..notes() };
    let mut filtered = guarded.watch(&user("bob"), request).await.unwrap().into_inner();
    assert_eq!(taken(&mut filtered, "-3").await, ["+2", "+1", "-1", "-2", "+3", "-3"]);
    for filter in ["secret = hidden", "NOT secret:*"] {
        let request = WatchRequest { filter: filter.into(), ..notes() };
        assert_eq!(guarded.watch(&user("bob"), request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let columns = vec!["secret".to_owned()];
    let refused = guarded.watch(&user("bob"), WatchRequest { columns, ..notes() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    guarded.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_seen_are_not_there() {
    let guarded = Guarded::start(POLICY).await;
    guarded.run("INSERT INTO notes VALUES (1, 'alice', 'a', 'hidden'), (2, 'bob', 'b', 'hidden')").await;
    let mut bob = guarded.rows(&user("bob")).await;
    let table = || "public.notes".to_owned();
    let get = |resource_id: &str| GetRowRequest {
        table: table(),
        resource_id: resource_id.into(),
        ..Default::default()
    };
    assert_eq!(bob.get_row(get("2")).await.unwrap().get_ref().row, r#"{"id":2,"owner":"bob","state":"b"}"#);
    let (there, nowhere) =
        (bob.get_row(get("1")).await.unwrap_err(), bob.get_row(get("77")).await.unwrap_err());
    assert_eq!(there.code(), Code::NotFound);
    assert_eq!(there.message().replace('1', "77"), nowhere.message());
    let listed = bob.list_rows(all("public.notes")).await.unwrap().into_inner();
    assert_eq!((listed.rows.len(), listed.total_size), (1, 1));
    assert!(!listed.rows[0].row.contains("hidden"), "{listed:?}");
    for request in [
        ListRowsRequest { filter: "secret = hidden".into(), ..all("public.notes") },
        ListRowsRequest { order_by: "secret".into(), ..all("public.notes") },
        ListRowsRequest { columns: vec!["secret".into()], ..all("public.notes") },
    ] {
        assert_eq!(bob.list_rows(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let update = |resource_id: &str, row: &str| UpdateRowRequest {
        table: table(),
        resource_id: resource_id.into(),
        row: row.into(),
        ..Default::default()
    };
    for (request, code) in [
        (update("1", r#"{"state":"x"}"#), Code::NotFound),
        (update("2", r#"{"owner":"alice"}"#), Code::PermissionDenied),
        (update("2", r#"{"secret":"x"}"#), Code::InvalidArgument),
    ] {
        assert_eq!(bob.update_row(request).await.unwrap_err().code(), code);
    }
    let create = |row: &str| CreateRowRequest { table: table(), row: row.into(), ..Default::default() };
    for (row, code) in [
        (r#"{"id":3,"owner":"alice"}"#, Code::PermissionDenied),
        (r#"{"id":3}"#, Code::PermissionDenied),
        (r#"{"id":3,"owner":"bob","secret":"x"}"#, Code::InvalidArgument),
        (r#"{"id":1,"owner":"bob"}"#, Code::AlreadyExists),
    ] {
        assert_eq!(bob.create_row(create(row)).await.unwrap_err().code(), code, "{row}");
    }
    let delete = |resource_id: &str| DeleteRowRequest {
        table: table(),
        resource_id: resource_id.into(),
        ..Default::default()
    };
    assert_eq!(bob.delete_row(delete("1")).await.unwrap_err().code(), Code::NotFound);
    bob.create_row(create(r#"{"id":3,"owner":"bob"}"#)).await.unwrap();
    assert!(!bob.update_row(update("3", r#"{"state":"c"}"#)).await.unwrap().get_ref().row.contains("secret"));
    bob.delete_row(delete("3")).await.unwrap();
    let left = guarded.database.connect().await;
    let left = left.query_one("SELECT string_agg(n::text, ' ' ORDER BY id) FROM notes n", &[]).await.unwrap();
    assert_eq!(left.get::<_, String>(0), "(1,alice,a,hidden) (2,bob,b,hidden)");
    // A page of one is none of another.
    guarded.run("INSERT INTO notes SELECT n, 'bob' FROM generate_series(10, 12) n").await;
    guarded.run("INSERT INTO notes VALUES (20, 'ann')").await;
    let request = ListRowsRequest { page_size: 1, ..all("public.notes") };
    let page_token = bob.list_rows(request.clone()).await.unwrap().into_inner().next_page_token;
    let mut ann = guarded.rows(&user("ann")).await;
    let stolen = ann.list_rows(ListRowsRequest { page_token, ..request }).await.unwrap_err();
    assert_eq!(stolen.code(), Code::InvalidArgument);
    guarded.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_not_told_to_be_there() {
    let guarded = Guarded::start(POLICY).await;
    let (bob, operator) = (user("bob"), operator());
    let mut rows = guarded.rows(&bob).await;
    let tables = rows.list_tables(ListTablesRequest {}).await.unwrap().into_inner().tables;
    assert_eq!(tables.iter().map(|table| &*table.name).collect::<Vec<_>>(), ["public.notes"]);
    let columns: Vec<_> = tables[0].columns.iter().map(|column| &*column.name).collect();
    assert_eq!(columns, ["id", "owner", "state"]);
    let described = rows.get_table(GetTableRequest { table: "public.notes".into() }).await.unwrap();
    assert_eq!(described.into_inner(), tables[0]);
    let mut refusals = Vec::new();
    for table in ["public.others", "public.nothing", "hub.change", "pg_catalog.pg_authid"] {
        let refused = rows.list_rows(all(table)).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "PERMISSION_DENIED"));
        refusals.push(refused.message().to_owned());
        let refused = guarded.watch(&bob, WatchRequest { table: table.into(), ..Default::default() }).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "{table}");
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    // What shows rows as they are, and what is the operator's.
    let refused = EventServiceClient::new(link(&guarded.hub, Some(&bob)).await)
        .read_events(ReadEventsRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = AuditServiceClient::new(link(&guarded.hub, Some(&bob)).await)
        .list_audit_records(ListAuditRecordsRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let status = async |who: &str| {
        AdminServiceClient::new(admin_link(&guarded.hub, Some(who)).await)
            .get_status(GetStatusRequest {})
            .await
    };
    assert_eq!(status(&bob).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(status(&operator).await.is_ok());
    let mut all_of_it = guarded.rows(&operator).await;
    assert_eq!(all_of_it.list_tables(ListTablesRequest {}).await.unwrap().get_ref().tables.len(), 2);
    let nobody = token("carol", json!({}));
    assert_eq!(guarded.watch(&nobody, notes()).await.unwrap_err().code(), Code::PermissionDenied);
    guarded.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_ends_the_streams_that_it_changes() {
    let guarded = Guarded::start(POLICY).await;
    let begin = async |who: &str| guarded.watch(who, notes()).await.unwrap();
    let bobs = begin(&user("bob")).await;
    let known = bobs.metadata().get("hub-policy").unwrap().to_str().unwrap().to_owned();
    let (mut bobs, mut eves) = (bobs.into_inner(), begin(&user("eve")).await.into_inner());
    let mut operators = begin(&operator()).await.into_inner();
    let changed = POLICY.replace("owner = $sub", "owner = $sub AND state != closed");
    fs::write(guarded.issuer.file("acl.toml"), format!("{changed}\n[[deny]]\nsubject = \"eve\"\n")).unwrap();
    let end = async |stream: &mut Streaming<WatchEvent>| {
        let end = timeout(*PATIENCE, stream.message()).await.expect("its end").unwrap_err();
        (end.code(), reason(&end))
    };
    assert_eq!(end(&mut eves).await, (Code::PermissionDenied, "PERMISSION_REVOKED".to_owned()));
    assert_eq!(end(&mut bobs).await, (Code::OutOfRange, "POLICY_CHANGED".to_owned()));
    guarded.run("INSERT INTO notes VALUES (1, 'bob', 'open')").await;
    assert_eq!(short(&next(&mut operators).await.unwrap()), "+1", "nothing has changed for it");
    // Who goes on where another policy was in force would keep rows that it may not see any more.
    let resume = |policy: &str| WatchRequest { after_revision: Some(0), policy: policy.into(), ..notes() };
    let refused = guarded.watch(&user("bob"), resume(&known)).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::OutOfRange, "POLICY_CHANGED"));
    let now = begin(&user("bob")).await.metadata().get("hub-policy").unwrap().to_str().unwrap().to_owned();
    assert_ne!(now, known);
    let mut resumed = guarded.watch(&user("bob"), resume(&now)).await.unwrap().into_inner();
    assert_eq!(short(&next(&mut resumed).await.unwrap()), "+1");
    // What cannot be read changes nothing.
    fs::write(guarded.issuer.file("acl.toml"), "[[rule]]").unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    guarded.run("INSERT INTO notes VALUES (2, 'bob', 'open')").await;
    assert_eq!(short(&next(&mut resumed).await.unwrap()), "+2");
    guarded.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_has_as_many_watches_as_its_rules_say() {
    let guarded =
        Guarded::start(&POLICY.replace("rows = \"owner", "limits = { watches = 2 }\nrows = \"owner")).await;
    let first = guarded.watch(&user("bob"), notes()).await.unwrap();
    let _second = guarded.watch(&user("bob"), notes()).await.unwrap();
    let refused = guarded.watch(&user("bob"), notes()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "QUOTA"));
    assert!(guarded.watch(&user("ann"), notes()).await.is_ok());
    drop(first);
    until_ok("there is room again", async || guarded.watch(&user("bob"), notes()).await).await;
    guarded.hub.stop().await;
}
