//! `ImportDinosaurs`: the protocol of one stream.

use super::{Importing, count, garbage, hub, import, interruption, item, start, transactions};
use crate::support::wire::{reason, violations};
use tonic::Code;
use trex::proto::rh_trex::v1::{
    ImportDinosaursRequest, ImportDinosaursResponse, ImportDinosaursStart, import_dinosaurs_request::Message,
};

#[tokio::test]
async fn every_batch_is_acknowledged() {
    let (database, hub) = hub().await;
    let mut begin = start("batches");
    begin.batch_size = 40;
    let items = (0..100).map(|n| item(&format!("id {n}"), "s"));
    let acknowledgements = import(&mut hub.client().await, begin, items).await;
    let positions: Vec<_> = acknowledgements.iter().map(|one| one.next_index).collect();
    assert_eq!(positions, [0, 40, 80, 100]);
    assert_eq!(count(&database, "id LIKE 'id %'").await, 100);
    assert_eq!(transactions(&database, 100).await, [40, 40, 20]);
    hub.stop().await;
}

#[tokio::test]
async fn what_is_acknowledged_is_in() {
    let (database, hub) = hub().await;
    let mut stream = Importing::start(&mut hub.client().await, start("steps")).await;
    let mut last = stream.acknowledgement().await;
    assert_eq!(last, ImportDinosaursResponse::default());
    for n in 1..=3 {
        stream.send(item("", "s")).await;
        last = stream.acknowledgement().await;
        assert_eq!((last.next_index, last.created, count(&database, "true").await), (n, n, n));
    }
    assert_eq!(stream.finish(&last).await.len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn starts_that_break_the_rules() {
    let (_database, hub) = hub().await;
    let mut client = hub.client().await;
    let long = "x".repeat(129);
    for (id, batch_size, field) in [
        ("", 0, "start.import_id"),
        ("with space", 0, "start.import_id"),
        ("é", 0, "start.import_id"),
        (&*long, 0, "start.import_id"),
        ("fine", 10_001, "start.batch_size"),
    ] {
        let begin = ImportDinosaursStart { batch_size, ..start(id) };
        let status = Importing::start(&mut client, begin).await.message().await.unwrap_err();
        assert_eq!((status.code(), violations(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let mut nothing = Importing::open(&mut client).await;
    nothing.close();
    let status = nothing.message().await.unwrap_err();
    assert_eq!((status.code(), violations(&status)), (Code::InvalidArgument, vec!["start".to_owned()]));
    for (first, expected) in [(item("", "s"), "INVALID_FIELD"), (garbage(b"\xff"), "UNDECODABLE")] {
        let mut stream = Importing::open(&mut client).await;
        stream.send(first).await;
        let status = stream.message().await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, expected));
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_second_start_ends_the_stream_and_what_came_before_is_in() {
    let (database, hub) = hub().await;
    let mut stream = Importing::start(&mut hub.client().await, start("twice")).await;
    stream.acknowledgement().await;
    stream.send(item("", "before")).await;
    stream.send(ImportDinosaursRequest { message: Some(Message::Start(start("twice"))) }.into()).await;
    stream.try_send(item("", "after")).await;
    assert_eq!(stream.acknowledgement().await.next_index, 1);
    let status = stream.message().await.unwrap_err();
    assert_eq!(interruption(&status, "next_index"), (Code::InvalidArgument, "INVALID_FIELD".to_owned(), 1));
    assert_eq!(violations(&status), ["start"]);
    assert_eq!((count(&database, "species = 'before'").await, count(&database, "true").await), (1, 1));
    hub.stop().await;
}

#[tokio::test]
async fn imports_of_different_ids_are_different_imports() {
    let (database, hub) = hub().await;
    for id in ["one", "two"] {
        let items = (0..5).map(|_| item("", "s"));
        assert_eq!(import(&mut hub.client().await, start(id), items).await.last().unwrap().created, 5);
    }
    assert_eq!(count(&database, "true").await, 10);
    hub.stop().await;
}
