//! `BulkCreateDinosaurs`.

use super::{count, create, hub, interruption, transactions};
use crate::support::{
    Database, PATIENCE, TestHub, until,
    wire::{client_without_clock, reason, violations},
};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{BulkCreateDinosaursResponse, GetDinosaurRequest},
};

#[tokio::test]
async fn a_batch_is_a_transaction() {
    let (database, hub) = hub().await;
    let items = (0..250).map(|n| create(format!("species {n}")));
    let response = hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap();
    assert_eq!(response.into_inner(), BulkCreateDinosaursResponse { created: 250, ..Default::default() });
    assert_eq!(count(&database, "species LIKE 'species %'").await, 250);
    assert_eq!(transactions(&database, 250).await, [100, 100, 50]);
    assert_eq!(hub.metric("hub_bulk_items_total", r#"outcome="created""#), 250.0);
    assert_eq!(hub.metric("hub_bulk_items_total", r#"outcome="received""#), 250.0);
    assert_eq!(hub.metric("hub_bulk_batch_rows_count", ""), 3.0);
    assert_eq!(hub.metric("hub_bulk_batch_rows_sum", ""), 250.0);
    assert_eq!(hub.metric("hub_bulk_streams_active", ""), 0.0);
    hub.stop().await;
}

#[tokio::test]
async fn nothing_is_created_of_nothing() {
    let (database, hub) = hub().await;
    let response = hub.client().await.bulk_create_dinosaurs(tokio_stream::empty()).await.unwrap();
    assert_eq!(response.into_inner(), BulkCreateDinosaursResponse::default());
    assert_eq!(count(&database, "true").await, 0);
    hub.stop().await;
}

#[tokio::test]
async fn the_items_of_a_slow_stream_do_not_wait_for_a_full_batch() {
    let (database, hub) = hub().await;
    let (sender, items) = mpsc::channel(1);
    let mut client = hub.client().await;
    let call = tokio::spawn(async move { client.bulk_create_dinosaurs(ReceiverStream::new(items)).await });
    for n in 1..=3 {
        sender.send(create("slow")).await.unwrap();
        until("it is committed", || {
            hub.metric("hub_bulk_items_total", r#"outcome="created""#) == f64::from(n)
        })
        .await;
        assert_eq!(count(&database, "species = 'slow'").await, n as u64);
    }
    drop(sender);
    assert_eq!(call.await.unwrap().unwrap().into_inner().created, 3);
    hub.stop().await;
}

#[tokio::test]
async fn a_steady_trickle_is_committed_too() {
    let (_database, hub) = hub().await;
    let (sender, items) = mpsc::channel(1);
    let mut client = hub.client().await;
    let call = tokio::spawn(async move { client.bulk_create_dinosaurs(ReceiverStream::new(items)).await });
    // Never idle for as long as a pause is, and never full.
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let mut sent = 0;
    while hub.metric("hub_bulk_items_total", r#"outcome="created""#) == 0.0 {
        tick.tick().await;
        sender.send(create("trickle")).await.unwrap();
        sent += 1;
        assert!(sent < 100, "a full batch");
    }
    drop(sender);
    call.await.unwrap().unwrap();
    hub.stop().await;
}

/// Endless, and as fast as it is taken.
fn endless() -> impl tokio_stream::Stream<Item = super::Created> {
    tokio_stream::iter((0u64..).map(|n| create(format!("endless {n}"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_ends_with_its_deadline() {
    let (database, hub) = hub().await;
    let mut client = client_without_clock(&hub).await;
    let mut request = Request::new(endless());
    request.set_timeout(Duration::from_millis(500));
    let status = timeout(*PATIENCE, client.bulk_create_dinosaurs(request)).await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    until("the stream is gone", || hub.metric("hub_bulk_streams_active", "") == 0.0).await;
    let session = database.connect().await;
    let gone = async {
        // The batch that was being committed has ended, one way or the other.
        let sql = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
                   AND query LIKE '%INSERT INTO public.dinosaurs%' AND pid <> pg_backend_pid()";
        while !session.query(sql, &[]).await.unwrap().is_empty() {}
    };
    timeout(*PATIENCE, gone).await.unwrap();
    let created = count(&database, "true").await;
    assert!(created > 0 && created % 100 == 0, "{created}");
    hub.stop().await;
}

#[tokio::test]
async fn a_stream_is_not_under_the_limit_of_unary_calls() {
    let database = Database::create().await;
    let settings = Settings { call_timeout: Duration::from_millis(100), ..Settings::new(database.target()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let (sender, items) = mpsc::channel(1);
    let mut client = hub.client().await;
    let call = tokio::spawn(async move { client.bulk_create_dinosaurs(ReceiverStream::new(items)).await });
    for _ in 0..5 {
        sender.send(create("patient")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    drop(sender);
    assert_eq!(call.await.unwrap().unwrap().into_inner().created, 5);
    hub.stop().await;
}

#[tokio::test]
async fn an_oversized_item_ends_the_stream_and_what_came_before_is_in() {
    let (database, hub) = hub().await;
    let items = (0..130).map(|n| create(if n < 120 { "fits".to_owned() } else { "x".repeat(5 << 20) }));
    let status = hub.client().await.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap_err();
    let expected = |number| (Code::ResourceExhausted, "TOO_LARGE".to_owned(), number);
    assert_eq!(interruption(&status, "created"), expected(120));
    assert_eq!(interruption(&status, "next_index"), expected(120));
    assert_eq!(interruption(&status, "uncertain"), expected(0));
    assert_eq!(count(&database, "species = 'fits'").await, 120);
    hub.stop().await;
}

#[tokio::test]
async fn import_ids_that_break_the_rules() {
    let (_database, hub) = hub().await;
    for id in ["", "with space", &"x".repeat(129), "é"] {
        let mut request = Request::new(tokio_stream::iter([create("x")]));
        let value = tonic::metadata::MetadataValue::try_from(id.as_bytes()).unwrap();
        request.metadata_mut().insert("import-id", value);
        let status = hub.client().await.bulk_create_dinosaurs(request).await.unwrap_err();
        assert_eq!(
            (status.code(), violations(&status)),
            (Code::InvalidArgument, vec!["import-id".to_owned()])
        );
    }
    hub.stop().await;
}

#[tokio::test]
async fn there_are_at_most_so_many_streams() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.bulk.streams = 1;
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let (sender, items) = mpsc::channel(1);
    let mut client = hub.client().await;
    let call = tokio::spawn(async move { client.bulk_create_dinosaurs(ReceiverStream::new(items)).await });
    until("the first stream", || hub.metric("hub_bulk_streams_active", "") == 1.0).await;
    let second =
        || async { hub.client().await.bulk_create_dinosaurs(tokio_stream::iter([create("x")])).await };
    let status = second().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    drop(sender);
    call.await.unwrap().unwrap();
    assert_eq!(second().await.unwrap().into_inner().created, 1);
    hub.stop().await;
}

#[tokio::test]
async fn compressed_items_are_taken() {
    let (database, hub) = hub().await;
    let mut client = hub.client().await.send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let items = (0..10).map(|_| create("compressed".repeat(20)));
    assert_eq!(
        client.bulk_create_dinosaurs(tokio_stream::iter(items)).await.unwrap().into_inner().created,
        10
    );
    assert_eq!(count(&database, "species LIKE 'compressed%'").await, 10);
    let unknown = client.get_dinosaur(GetDinosaurRequest { id: "x".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    hub.stop().await;
}
