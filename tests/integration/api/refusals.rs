//! What is refused, with which code and reason, and that every refusal can be read by a program.

use crate::support::{
    Database, TestHub,
    wire::{self, reason, violations},
};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{
        CreateDinosaurRequest, DeleteDinosaurRequest, EventType, GetDinosaurRequest, ListDinosaursRequest,
        UpdateDinosaurRequest, WatchDinosaursRequest,
    },
};

async fn start() -> TestHub {
    TestHub::start(&Database::create().await).await
}

/// INVALID_ARGUMENT, because of this field.
fn assert_invalid(status: &Status, field: &str) {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELD"),
        "{status:?}"
    );
    assert_eq!(violations(status), [field]);
    assert!(!status.get_details_request_info().unwrap().request_id.is_empty(), "an operation id");
}

#[tokio::test]
async fn species_that_break_the_rules() {
    let hub = start().await;
    let mut client = hub.client().await;
    let created = client.create_dinosaur(CreateDinosaurRequest { species: "fine".into() }).await.unwrap();
    let id = created.into_inner().metadata.unwrap().id;
    let too_long = ["x".repeat(256), format!("{}é", "x".repeat(254)), "a\0b".into()];
    for species in [vec![String::new()], too_long.to_vec()].concat() {
        let status = client.create_dinosaur(CreateDinosaurRequest { species }).await.unwrap_err();
        assert_invalid(&status, "species");
    }
    for species in too_long {
        let request = UpdateDinosaurRequest { id: id.clone(), species: Some(species) };
        assert_invalid(&client.update_dinosaur(request).await.unwrap_err(), "species");
    }
    hub.stop().await;
}

#[tokio::test]
async fn ids_that_break_the_rules_or_name_nothing() {
    let hub = start().await;
    let mut client = hub.client().await;
    for (id, code) in [
        (String::new(), Code::InvalidArgument),
        ("a\0b".into(), Code::InvalidArgument),
        ("x".repeat(1025), Code::InvalidArgument),
        ("unknown".into(), Code::NotFound),
        ("'; DROP TABLE dinosaurs; --".into(), Code::NotFound),
    ] {
        let update = UpdateDinosaurRequest { id: id.clone(), species: Some("s".into()) };
        let untouched = UpdateDinosaurRequest { id: id.clone(), species: None };
        for status in [
            client.get_dinosaur(GetDinosaurRequest { id: id.clone() }).await.unwrap_err(),
            client.update_dinosaur(update).await.unwrap_err(),
            client.update_dinosaur(untouched).await.unwrap_err(),
            client.delete_dinosaur(DeleteDinosaurRequest { id: id.clone() }).await.unwrap_err(),
        ] {
            if code == Code::InvalidArgument {
                assert_invalid(&status, "id");
            } else {
                assert_eq!((status.code(), reason(&status).as_str()), (code, "NOT_FOUND"));
                let metadata = status.get_details_error_info().unwrap().metadata;
                assert_eq!((metadata["kind"].as_str(), &metadata["id"]), ("Dinosaur", &id));
            }
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn what_is_quoted_of_a_request_fits_into_headers() {
    let hub = start().await;
    for (filter, says) in [
        (format!("{} = 1", "x".repeat(4000)), "species"),
        (format!("created_at > \"{}\"", "é".repeat(2000)), "RFC 3339"),
    ] {
        let request = ListDinosaursRequest { filter, ..Default::default() };
        let status = hub.client().await.list_dinosaurs(request).await.unwrap_err();
        assert_invalid(&status, "filter");
        assert!(status.message().contains(says), "{}", status.message());
        assert!(status.message().len() + status.details().len() < 2000, "{status:?}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn who_compresses_in_another_way_is_told_the_ways_there_are() {
    let hub = start().await;
    let mut request = tonic::Request::new(GetDinosaurRequest { id: "x".into() });
    request.metadata_mut().insert("grpc-encoding", "zstd".parse().unwrap());
    let status = hub.client().await.get_dinosaur(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "NOT_IMPLEMENTED"));
    let understood = status.metadata().get("grpc-accept-encoding").expect("as gRPC demands");
    assert!(understood.to_str().unwrap().contains("gzip"));
    hub.stop().await;
}

/// Values that no rule of the API forbids, but a constraint of the table does.
#[tokio::test]
async fn what_the_database_refuses_has_a_reason() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut client = hub.client().await;
    let create = |species: &str| CreateDinosaurRequest { species: species.into() };
    let id = client.create_dinosaur(create("king")).await.unwrap().into_inner().metadata.unwrap().id;
    database
        .connect()
        .await
        .batch_execute(
            "ALTER TABLE dinosaurs ADD CONSTRAINT no_dragons CHECK (species <> 'dragon');
             CREATE UNIQUE INDEX one_king ON dinosaurs (species) WHERE species = 'king';
             CREATE TABLE eggs (dinosaur text CONSTRAINT of_somebody REFERENCES dinosaurs);
             INSERT INTO eggs SELECT id FROM dinosaurs",
        )
        .await
        .unwrap();
    let dragon = UpdateDinosaurRequest { id: id.clone(), species: Some("dragon".into()) };
    for (status, constraint) in [
        (client.create_dinosaur(create("dragon")).await.unwrap_err(), "no_dragons"),
        (client.update_dinosaur(dragon).await.unwrap_err(), "no_dragons"),
        (client.delete_dinosaur(DeleteDinosaurRequest { id }).await.unwrap_err(), "of_somebody"),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "REFUSED_BY_DATABASE"),
            "{status:?}"
        );
        assert!(status.message().contains(constraint), "{status:?}");
    }
    let second = client.create_dinosaur(create("king")).await.unwrap_err();
    assert_eq!((second.code(), reason(&second).as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    hub.stop().await;
}

/// A trigger chooses its SQLSTATE, and some object only at the commit.
#[tokio::test]
async fn what_a_trigger_refuses_is_refused_in_its_words() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut client = hub.client().await;
    database
        .connect()
        .await
        .batch_execute(
            "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               RAISE 'not %', new.species USING ERRCODE = substr(new.species, 1, 5), HINT = 'another'; END $$;
             CREATE TRIGGER judge BEFORE INSERT ON dinosaurs FOR EACH ROW
             WHEN (new.species NOT LIKE 'late%') EXECUTE FUNCTION judge();
             CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not even late';
             END $$;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON dinosaurs DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW WHEN (new.species LIKE 'late%') EXECUTE FUNCTION late()",
        )
        .await
        .unwrap();
    for code in ["PT422", "PT500", "P0001", "42501", "42703", "55000", "0A000", "XX000", "late"] {
        let status =
            client.create_dinosaur(CreateDinosaurRequest { species: code.into() }).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "REFUSED_BY_DATABASE"),
            "{code}: {status:?}"
        );
        assert!(status.message().contains(if code == "late" { "not even late" } else { code }), "{status:?}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    let hub = start().await;
    // Field 1, a string: 255 bytes, the last of which is the first half of a character.
    let mut cut = vec![0x0a, 0xff, 0x01];
    cut.extend_from_slice("x".repeat(254).as_bytes());
    cut.push(0xc3);
    let not_unicode = vec![0x0a, 0x02, 0xff, 0xfe];
    let truncated = vec![0x0a, 0x05, b'a'];
    let wrong_type = vec![0x08, 0x01];
    for bytes in [cut, not_unicode, truncated, wrong_type, vec![0xff]] {
        for method in ["CreateDinosaur", "GetDinosaur", "DeleteDinosaur"] {
            let status = wire::call(&hub, method, bytes.clone()).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "UNDECODABLE"));
        }
    }
    let status = wire::call(&hub, "WatchDinosaurs", vec![0x1a, 0x01, 0xff]).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "UNDECODABLE"));
    // A field that this version does not know is no fault.
    let unknown = vec![0x0a, 0x01, b'a', 0xfa, 0x01, 0x01, b'z'];
    wire::call(&hub, "CreateDinosaur", unknown).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn messages_that_are_too_large_however_they_are_sent() {
    let hub = start().await;
    let large = vec![0u8; 5 << 20];
    for status in [
        wire::call(&hub, "CreateDinosaur", large.clone()).await.unwrap_err(),
        wire::call_compressed(&hub, "CreateDinosaur", large).await.unwrap_err(),
    ] {
        let refused = (status.code(), reason(&status));
        assert_eq!(refused, (Code::ResourceExhausted, "TOO_LARGE".into()), "{}", status.message());
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_method_that_is_unknown_is_not_implemented() {
    let hub = start().await;
    let unknown = wire::call(&hub, "RenameDinosaur", vec![]).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::Unimplemented, "NOT_IMPLEMENTED"));
    hub.stop().await;
}

#[tokio::test]
async fn watch_requests_that_break_the_rules() {
    let hub = start().await;
    let mut client = hub.client().await;
    let watch = WatchDinosaursRequest::default;
    let types = |types: &[i32]| WatchDinosaursRequest { types: types.to_vec(), ..watch() };
    let ids = |resource_ids| WatchDinosaursRequest { resource_ids, ..watch() };
    for (request, field) in [
        (types(&[99]), "types"),
        (types(&[1, -1]), "types"),
        (types(&[EventType::Unspecified.into()]), "types"),
        (types(&[EventType::Bookmark.into()]), "types"),
        (WatchDinosaursRequest { backpressure: 99, ..watch() }, "backpressure"),
        (WatchDinosaursRequest { buffer: u32::MAX, ..watch() }, "buffer"),
        (ids(vec![String::new()]), "resource_ids"),
        (ids(vec!["x".repeat(1025)]), "resource_ids"),
        (ids(vec!["x".into(); 1001]), "resource_ids"),
    ] {
        assert_invalid(&client.watch_dinosaurs(request).await.unwrap_err(), field);
    }
    assert_eq!(hub.metric("grpc_stream_subscribers_active", ""), 0.0);
    hub.stop().await;
}

#[tokio::test]
async fn positions_that_cannot_be_had() {
    let database = Database::create().await;
    let first = TestHub::start(&database).await;
    let mut client = first.client().await;
    client.create_dinosaur(CreateDinosaurRequest { species: "old".into() }).await.unwrap();
    first.stop().await;
    let compact = "INSERT INTO dinosaurs (species) VALUES ('new'); SELECT hub.seal();
                   SELECT hub.raise_floor('0', 0, 1)";
    database.connect().await.batch_execute(compact).await.unwrap();
    let hub = TestHub::start(&database).await;
    let mut client = hub.client().await;
    let mut refused = async |after, epoch: &str, expected: &str, key: &str, value: Option<&str>| {
        let request =
            WatchDinosaursRequest { after_revision: Some(after), epoch: epoch.into(), ..Default::default() };
        let status = client.watch_dinosaurs(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, expected));
        let metadata = status.get_details_error_info().unwrap().metadata;
        assert!(value.is_none_or(|value| metadata[key] == value), "{metadata:?}");
        assert!(metadata.contains_key(key));
    };
    refused(0, "", "REVISION_COMPACTED", "oldest_revision", Some("1")).await;
    refused(3, "", "REVISION_UNKNOWN", "head_revision", Some("2")).await;
    refused(u64::MAX, "", "REVISION_UNKNOWN", "head_revision", Some("2")).await;
    refused(1, "of another history", "EPOCH_CHANGED", "epoch", None).await;
    let request = WatchDinosaursRequest { after_revision: Some(1), ..Default::default() };
    client.watch_dinosaurs(request).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn too_many_watches_are_told_to_come_back() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.max_subscribers = 1;
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut client = hub.client().await;
    let _watch = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap();
    let status = client.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    hub.stop().await;
}

#[tokio::test]
async fn a_fault_of_the_hub_says_nothing_of_its_cause() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    database.connect().await.batch_execute("ALTER TABLE dinosaurs RENAME TO secret").await.unwrap();
    let status = hub.client().await.get_dinosaur(GetDinosaurRequest { id: "x".into() }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));
    assert_eq!(status.message(), "internal error");
    let operation = status.get_details_request_info().unwrap().request_id;
    assert_eq!(status.metadata().get("x-operation-id").unwrap().to_str().unwrap(), operation);
    hub.stop().await;
}
