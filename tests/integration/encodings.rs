//! Databases that are not in UTF-8, and what is no text at all.

use crate::support::{Database, PATIENCE, TestHub};
use tokio::time::timeout;
use tonic::Code;
use trex::{
    app::Settings,
    faces::Registry,
    proto::{
        hub::v1::{
            DeleteRowRequest, GetRowRequest, ListRowsRequest, UpdateRowRequest,
            table_service_client::TableServiceClient,
        },
        rh_trex::v1::{
            CreateDinosaurRequest, DeleteDinosaurRequest, EventType, GetDinosaurRequest,
            ListDinosaursRequest, UpdateDinosaurRequest, WatchDinosaursRequest,
        },
    },
    store::{HubConnection, SealError, Target},
};

/// A database of this encoding, beside one of the test's own.
async fn encoded(database: &Database, encoding: &str) -> Target {
    let session = database.connect().await;
    let name: String = session.query_one("SELECT current_database()", &[]).await.unwrap().get(0);
    let other = format!("{name}_{}", encoding.to_lowercase());
    let create = format!(
        "CREATE DATABASE {other} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    session.batch_execute(&create).await.unwrap();
    Target::parse(&database.url().replace(&format!("/{name}"), &format!("/{other}"))).unwrap()
}

/// Signs that LATIN1 lacks, and one that no database has.
const LACKING: [&str; 3] = ["10 \u{20ac}", "\u{6050}\u{7adc}", "a\0b"];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_encoding_lacks_is_found_nowhere() {
    let database = Database::create().await;
    let target = encoded(&database, "LATIN1").await;
    let session = target.open().await.unwrap();
    let create = "CREATE TABLE things (id text, part text, name text, PRIMARY KEY (id, part));
                  INSERT INTO things VALUES ('a', 'b', 'caf\u{e9}')";
    session.batch_execute(create).await.unwrap();
    let mut settings = Settings::new(target);
    settings.tables = "things".parse().unwrap();
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut client = hub.client().await;
    for species in ["caf\u{e9}", "rex"] {
        client.create_dinosaur(CreateDinosaurRequest { species: species.into() }).await.unwrap();
    }
    let mut tables = TableServiceClient::new(hub.channel().await);
    for text in LACKING {
        let id = || text.to_owned();
        // With a NUL the call itself is refused.
        if !text.contains('\0') {
            let found = client.get_dinosaur(GetDinosaurRequest { id: id() }).await;
            assert_eq!(found.unwrap_err().code(), Code::NotFound, "{text:?}");
            let update = UpdateDinosaurRequest { id: id(), species: Some("x".into()) };
            assert_eq!(client.update_dinosaur(update).await.unwrap_err().code(), Code::NotFound, "{text:?}");
            let deleted = client.delete_dinosaur(DeleteDinosaurRequest { id: id() }).await;
            assert_eq!(deleted.unwrap_err().code(), Code::NotFound, "{text:?}");
        }

        let (table, resource_id) = ("things".to_owned(), format!("a/{text}"));
        let get =
            GetRowRequest { table: table.clone(), resource_id: resource_id.clone(), ..Default::default() };
        assert_eq!(tables.get_row(get).await.unwrap_err().code(), Code::NotFound, "{text:?}");
        let update = UpdateRowRequest {
            table: table.clone(),
            resource_id: resource_id.clone(),
            row: r#"{"name":"x"}"#.into(),
            ..Default::default()
        };
        assert_eq!(tables.update_row(update).await.unwrap_err().code(), Code::NotFound, "{text:?}");
        let delete = DeleteRowRequest { table, resource_id, ..Default::default() };
        assert_eq!(tables.delete_row(delete).await.unwrap_err().code(), Code::NotFound, "{text:?}");
    }
    for text in &LACKING[..2] {
        for (condition, found) in [
            (format!("FIELD = \"{text}\""), 0),
            (format!("FIELD = \"*{text}\""), 0),
            (format!("FIELD = \"{text}\" OR FIELD = \"caf\u{e9}\""), 1),
            (format!("FIELD != \"{text}\" AND FIELD = \"caf\u{e9}\""), 1),
        ] {
            let filter = condition.replace("FIELD", "species");
            let list = ListDinosaursRequest { filter: filter.clone(), ..Default::default() };
            let listed = client.list_dinosaurs(list).await.unwrap().into_inner();
            assert_eq!(
                (listed.items.len(), listed.metadata.unwrap().total),
                (found, found as i32),
                "{filter}"
            );
            let filter = condition.replace("FIELD", "name");
            let list =
                ListRowsRequest { table: "things".into(), filter: filter.clone(), ..Default::default() };
            assert_eq!(tables.list_rows(list).await.unwrap().into_inner().rows.len(), found, "{filter}");
        }
    }
    // A value that is to be stored is another matter.
    let refused = client.create_dinosaur(CreateDinosaurRequest { species: LACKING[0].into() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    hub.stop().await;
}

#[tokio::test]
async fn a_database_that_may_hold_what_cannot_be_read_is_not_followed() {
    let database = Database::create().await;
    for encoding in ["SQL_ASCII", "WIN1252"] {
        let target = encoded(&database, encoding).await;
        let refused = HubConnection::open(&target).await.map(drop);
        assert!(matches!(&refused, Err(SealError::Encoding(named)) if named == encoding), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_no_text_comes_without_itself_and_all_others_after_it() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    // Only a superuser can let such bytes in.
    let write = "CREATE CAST (bytea AS text) WITHOUT FUNCTION;
                 INSERT INTO dinosaurs (id, species) VALUES ('a', 'rex'), ('b', '\\xe9'::bytea::text),
                 ('c', 'rex')";
    session.batch_execute(write).await.unwrap();
    let resumed = WatchDinosaursRequest { after_revision: Some(0), ..Default::default() };
    let state = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    for (request, kind) in [(resumed, EventType::Created), (state, EventType::Snapshot)] {
        let mut watch = hub.client().await.watch_dinosaurs(request).await.unwrap().into_inner();
        for (id, is_whole) in [("a", true), ("b", false), ("c", true)] {
            let event = timeout(*PATIENCE, watch.message()).await.expect("in time").unwrap().unwrap();
            assert_eq!((event.r#type(), &*event.resource_id, event.dinosaur.is_some()), (kind, id, is_whole));
        }
    }
    assert!(hub.metric("hub_undecodable_rows_total", "kind=\"Dinosaur\"") >= 1.0);
    hub.stop().await;
}
