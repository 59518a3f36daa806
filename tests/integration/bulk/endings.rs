//! Streams that end too early: each batch is committed as a whole or not at all, and nothing is left behind.

use super::{Importing, assert_exact, count, create, hub, import, interruption, item, start};
use crate::support::{Database, PATIENCE, TestHub, until, until_sql};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use trex::{app::Settings, faces::Registry, proto::rh_trex::v1::ListDinosaursRequest, store::Driven};

const ITEMS: u64 = 3000;

fn nth(n: u64) -> super::Imported {
    item("", format!("item {n}"))
}

/// Until no session of a hub is within a statement or a transaction.
async fn at_rest(session: &Driven) {
    let sql = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database()
               AND pid <> pg_backend_pid()
               AND (state LIKE 'idle in transaction%'
                 OR (state = 'active' AND query LIKE '%public.dinosaurs%'))";
    until_sql(session, "no session is at work", sql, &[]).await;
}

/// Cancels again and again, at random moments, and goes on each time from where the hub says.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_half_done() {
    let database = Database::create().await;
    // One connection for bulk transactions and calls: a broken one would be met at once.
    let settings = Settings { db_pool_size: 1, ..Settings::new(database.target()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let session = database.connect().await;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut position, mut rounds, mut unacknowledged) = (0, 0, 0);
    while position < ITEMS {
        rounds += 1;
        let mut stream = Importing::start(&mut hub.client().await, start("cancelled")).await;
        let first = stream.acknowledgement().await;
        assert!(first.next_index >= position, "an acknowledged batch is gone");
        unacknowledged += u32::from(first.next_index > position);
        assert_eq!(count(&database, "true").await, first.created);
        (position, _) = (first.next_index, assert_exact(std::slice::from_ref(&first)));
        let send = async {
            for n in first.next_index..ITEMS {
                stream.send(nth(n)).await;
            }
        };
        let last = tokio::time::Instant::now() + Duration::from_micros(random.u64(0..40_000));
        let _ = tokio::time::timeout_at(last, send).await;
        // What has come by then.
        while let Ok(Ok(Some(acknowledgement))) =
            timeout(Duration::from_millis(random.u64(0..4)), stream.responses.message()).await
        {
            position = acknowledgement.next_index;
        }
        drop(stream);
    }
    at_rest(&session).await;
    println!("{rounds} streams, {unacknowledged} with a batch that was in and not acknowledged");
    let row =
        session.query_one("SELECT count(*), count(DISTINCT species) FROM dinosaurs", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (ITEMS as i64, ITEMS as i64));
    hub.client().await.list_dinosaurs(ListDinosaursRequest::default()).await.unwrap();
    until("no stream is left", || hub.metric("hub_bulk_streams_active", "") == 0.0).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_acknowledges_the_running_batch_and_says_when_to_come_back() {
    let (database, hub) = hub().await;
    let session = database.connect().await;
    let mut stream = Importing::start(&mut hub.client().await, start("drained")).await;
    stream.acknowledgement().await;
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs IN SHARE MODE").await.unwrap();
    for n in 0..150 {
        stream.send(nth(n)).await;
    }
    let waits = async {
        let sql = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'public.dinosaurs'::regclass";
        while session.query(sql, &[]).await.unwrap().is_empty() {}
    };
    timeout(*PATIENCE, waits).await.unwrap();
    let health = hub.app().health().clone();
    let stop = tokio::spawn(hub.stop());
    until("it drains", || !health.reasons().is_empty()).await;
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(stream.acknowledgement().await.next_index, 100, "the running batch");
    let status = stream.message().await.unwrap_err();
    assert_eq!(interruption(&status, "next_index"), (Code::Unavailable, "UNAVAILABLE".to_owned(), 100));
    assert!(status.get_details_retry_info().is_some());
    stop.await.unwrap();
    assert_eq!(count(&database, "true").await, 100, "and nothing of the other");

    let hub = TestHub::start(&database).await;
    let acknowledgements = import(&mut hub.client().await, start("drained"), (0..150).map(nth)).await;
    assert_eq!(acknowledgements.iter().map(|one| one.next_index).collect::<Vec<_>>(), [100, 150]);
    hub.stop().await;
}

#[tokio::test]
async fn a_drain_ends_streams_that_wait() {
    let (database, hub) = hub().await;
    let mut client = hub.client().await;
    let mut before_start = Importing::open(&mut client).await;
    let mut at_rest = Importing::start(&mut client, start("rests")).await;
    at_rest.acknowledgement().await;
    let (sender, items) = mpsc::channel(1);
    sender.send(create("s")).await.unwrap();
    let call = tokio::spawn(async move { client.bulk_create_dinosaurs(ReceiverStream::new(items)).await });
    until("it is in", || hub.metric("hub_bulk_items_total", r#"outcome="created""#) == 1.0).await;
    timeout(Duration::from_secs(10), hub.stop()).await.expect("a stop that waits for nobody");
    let unavailable = |created| (Code::Unavailable, "UNAVAILABLE".to_owned(), created);
    assert_eq!(before_start.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(interruption(&at_rest.message().await.unwrap_err(), "created"), unavailable(0));
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(interruption(&status, "created"), unavailable(1));
    assert_eq!(interruption(&status, "uncertain"), unavailable(0));
    assert_eq!(count(&database, "true").await, 1);
}

/// A deadline in the middle of a batch.
#[tokio::test]
async fn what_a_deadline_cuts_off_is_not_in() {
    let (database, hub) = hub().await;
    let session = database.connect().await;
    let mut client = crate::support::wire::client_without_clock(&hub).await;
    let (requests, items) = mpsc::channel(64);
    let begin = trex::proto::rh_trex::v1::ImportDinosaursRequest {
        message: Some(trex::proto::rh_trex::v1::import_dinosaurs_request::Message::Start(start("deadline"))),
    };
    requests.send(begin.into()).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(items));
    request.set_timeout(Duration::from_secs(1));
    let mut responses = client.import_dinosaurs(request).await.unwrap().into_inner();
    responses.message().await.unwrap().unwrap();
    requests.send(nth(0)).await.unwrap();
    assert_eq!(responses.message().await.unwrap().unwrap().next_index, 1);
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs IN SHARE MODE").await.unwrap();
    requests.send(nth(1)).await.unwrap();
    let status = timeout(*PATIENCE, responses.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let cancelled = async {
        let sql = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'public.dinosaurs'::regclass";
        while !session.query(sql, &[]).await.unwrap().is_empty() {}
    };
    timeout(*PATIENCE, cancelled).await.expect("the statement is cancelled");
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(count(&database, "true").await, 1);
    hub.stop().await;
}

/// The server ends the session of a batch: the uncertainty is reported, and resuming resolves it.
#[tokio::test]
async fn a_batch_whose_session_is_ended_may_be_repeated() {
    let (database, hub) = hub().await;
    let session = database.connect().await;
    let mut stream = Importing::start(&mut hub.client().await, start("ended")).await;
    stream.acknowledgement().await;
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs IN SHARE MODE").await.unwrap();
    stream.send(nth(0)).await;
    let ended = async {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted
                   AND relation = 'public.dinosaurs'::regclass";
        while session.query(sql, &[]).await.unwrap().is_empty() {}
    };
    timeout(*PATIENCE, ended).await.unwrap();
    let status = stream.message().await.unwrap_err();
    assert_eq!(interruption(&status, "uncertain"), (Code::Unavailable, "UNAVAILABLE".to_owned(), 1));
    session.batch_execute("COMMIT").await.unwrap();
    // The pool may still hold the ended session without knowing.
    let resume = async || {
        let mut stream = Importing::start(&mut hub.client().await, start("ended")).await;
        let first = stream.message().await?.unwrap();
        assert_eq!(first.next_index, 0);
        stream.send(nth(0)).await;
        stream.try_finish(&first).await
    };
    let resumed = async {
        loop {
            match resume().await {
                Ok(all) => return all,
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    };
    assert_eq!(timeout(*PATIENCE, resumed).await.unwrap().last().unwrap().next_index, 1);
    assert_eq!(count(&database, "true").await, 1);
    hub.stop().await;
}
