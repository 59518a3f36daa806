//! The audit trail: every change once, in order, with who made it, although the hubs that keep it die at
//! random. What it says is compared with the writers' journals and never with the hub's own tables.

use super::{Mortals, settings, until_controller};
use crate::{
    stress::{Control, Load, number, random, shared_ids, writers},
    support::{
        Database, PATIENCE, TestHub,
        history::{End, Event, Headers, History, Row, Stream},
        until,
        validators::validate,
        wire::{metadata, reason},
    },
};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Code, Streaming, transport::Channel};
use trex::{
    app::Settings,
    controller::AuditTrail,
    faces::Registry,
    model::ChangeType,
    proto::{
        hub::v1::{
            AuditRecord, AuditRecordType, ListAuditRecordsRequest, WatchAuditRecordsRequest,
            WatchAuditRecordsResponse, audit_service_client::AuditServiceClient,
        },
        rh_trex::v1::WatchDinosaursRequest,
    },
    store::Store,
};

const WRITERS: usize = 4;
/// Hubs that die, at the least.
const KILLS: u32 = 12;

/// Of a hub that keeps the trail.
fn kept(url: &str) -> Settings {
    settings(url, vec![Arc::new(AuditTrail::new(Duration::from_secs(3600)))])
}

/// A hub that keeps the trail.
pub(crate) async fn keeper(database: &Database) -> TestHub {
    TestHub::start_with(kept(database.url()), Registry::of_this_program()).await
}

async fn auditor(hub: &TestHub) -> AuditServiceClient<Channel> {
    AuditServiceClient::new(hub.channel().await)
}

/// All records of a request, page by page, newest first.
async fn list(
    client: &mut AuditServiceClient<Channel>,
    request: ListAuditRecordsRequest,
) -> (Vec<AuditRecord>, usize) {
    let (mut records, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let page = client
            .list_audit_records(ListAuditRecordsRequest { page_token, ..request.clone() })
            .await
            .unwrap()
            .into_inner();
        pages += 1;
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (records, pages);
        }
    }
}

fn row(json: &str) -> Option<Row> {
    let row: Value = (!json.is_empty()).then(|| serde_json::from_str(json).expect("a row"))?;
    let at: jiff::Timestamp = row["updated_at"].as_str().expect("a time").parse().expect("a time");
    Some(Row::new(row["species"].as_str().expect("text"), at.as_microsecond()))
}

fn event(record: AuditRecord) -> Event {
    Event {
        revision: record.revision,
        change: ChangeType::from_number(record.r#type).expect("a change"),
        id: record.resource_id,
        after: row(&record.after_json),
        previous: row(&record.before_json),
        dropped_before: 0,
        conflated: 0,
        took: None,
    }
}

fn stream(name: &str, seen: Instant, records: Vec<AuditRecord>) -> Stream {
    let epoch = records[0].epoch.clone();
    let changes = records.into_iter().filter(|record| record.r#type() != AuditRecordType::Gap);
    Stream {
        name: name.to_owned(),
        request: WatchDinosaursRequest { include_previous: true, ..Default::default() },
        timeout: None,
        stalls: false,
        headers: Headers { revision: 0, epoch, seen },
        state: Vec::new(),
        events: changes.map(event).collect(),
        bookmarks: Vec::new(),
        end: End::Finished,
        status: None,
    }
}

/// Follows the trail up to a revision at whatever hub is there, and resumes when that hub goes.
async fn follow(
    address: tokio::sync::watch::Receiver<Channel>,
    up_to: tokio::sync::watch::Receiver<u64>,
) -> Vec<AuditRecord> {
    let mut records: Vec<AuditRecord> = Vec::new();
    let done = |records: &[AuditRecord]| {
        let last = records.last().map_or(0, |last| last.revision);
        last > 0 && last >= *up_to.borrow()
    };
    while !done(&records) {
        let mut client = AuditServiceClient::new(address.borrow().clone());
        let after = records.last().map(|last| last.revision);
        let request =
            WatchAuditRecordsRequest { after_revision: Some(after.unwrap_or(0)), ..Default::default() };
        let Ok(response) = client.watch_audit_records(request).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut stream = response.into_inner();
        while !done(&records) {
            match tokio::time::timeout(Duration::from_millis(500), stream.message()).await {
                Ok(Ok(Some(message))) => records.push(message.record.expect("a record")),
                Ok(Ok(None)) => panic!("it ended with OK"),
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_every_change_once_and_in_order_though_its_hubs_die() {
    let mut random = random("audit");
    let rows = number("TREX_AUDIT_ROWS", 10_000);
    let database = Database::create().await;
    let seen = Instant::now();
    let url = database.url().to_owned();
    let mut hubs = Mortals::start(AuditTrail::NAME, move || kept(&url)).await;
    let mut control = Control::new(&database).await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, AuditTrail::NAME, "it runs", |status| status.holder.is_some()).await;
    let (channels, address) = tokio::sync::watch::channel(hubs.hubs[0].channel().await);
    let (last, up_to) = tokio::sync::watch::channel(u64::MAX);
    let following = tokio::spawn(follow(address, up_to));
    control.write(&[(crate::support::writer::Verb::Insert, &shared_ids())]).await;

    let load = Load::start(writers(&database, &mut random).into_iter().take(WRITERS).collect());
    let mut cut = 0;
    let cut_off = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%hub.audit%' AND pid <> pg_backend_pid()";
    while load.rows() < rows || hubs.killed < KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(20..300))).await;
        if random.f32() < 0.3 {
            cut += control.client.query_one(cut_off, &[]).await.unwrap().get::<_, i64>(0);
            continue;
        }
        hubs.kill_one(&mut random).await;
        channels.send_replace(hubs.hubs[random.usize(0..2)].channel().await);
    }
    let writers = load.stop().await;
    control.write_sentinel().await;
    let journal = control.journal(writers).await;
    let changes: u64 = journal.committed().map(|(_, transaction)| transaction.changes().count() as u64).sum();
    let status = until_controller(&store, AuditTrail::NAME, "all is in the trail", |status| {
        status.lag == 0 && status.position.get() >= changes
    })
    .await;
    last.send_replace(changes);
    let (mut listed, pages) = list(
        &mut auditor(&hubs.hubs[0]).await,
        ListAuditRecordsRequest { page_size: 500, ..Default::default() },
    )
    .await;
    listed.reverse();
    let followed = following.await.unwrap();
    println!(
        "audit: {changes} changes, {} hubs killed ({} times one kept the trail), {cut} sessions cut; {} \
         records on {pages} pages, {} followed",
        hubs.killed,
        hubs.at_it,
        listed.len(),
        followed.len()
    );
    assert_eq!(status.dead_letters, 0);
    assert_eq!(status.position.get(), changes, "revisions of the only kind are contiguous");
    assert!(
        listed.iter().all(|record| record.actor == "postgres" || record.r#type() == AuditRecordType::Gap)
    );
    let streams = vec![stream("listed", seen, listed), stream("followed", seen, followed)];
    validate(&History { streams }, &journal);
    hubs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_who_what_and_when() {
    let database = Database::create().await;
    let hub = keeper(&database).await;
    let session = database.connect().await;
    session
        .batch_execute(
            "SET hub.actor = 'alice'; SET hub.origin = 'billing'; SET hub.trace = 't-1';
             INSERT INTO dinosaurs (id, species) VALUES ('a', 'one'), ('b', 'one');
             RESET hub.actor; RESET hub.origin; RESET hub.trace",
        )
        .await
        .unwrap();
    session.batch_execute("UPDATE dinosaurs SET species = 'two' WHERE id = 'a'").await.unwrap();
    session.batch_execute("DELETE FROM dinosaurs WHERE id = 'a'").await.unwrap();
    let store = Store::new(&database.target(), 2).unwrap();
    super::until_at(&store, AuditTrail::NAME, 4).await;
    let mut client = auditor(&hub).await;
    let short = |records: &[AuditRecord]| {
        let text =
            |record: &AuditRecord| format!("{} {} {}", record.revision, record.resource_id, record.actor);
        records.iter().map(text).collect::<Vec<_>>()
    };
    let any = ListAuditRecordsRequest::default;
    let (records, _) = list(&mut client, ListAuditRecordsRequest { page_size: 1, ..any() }).await;
    assert_eq!(short(&records), ["4 a postgres", "3 a postgres", "2 b alice", "1 a alice", "0  "]);
    assert_eq!(records[4].r#type(), AuditRecordType::Gap);
    let update = &records[1];
    assert_eq!(update.r#type(), AuditRecordType::Updated);
    let species = |json: &str| row(json).unwrap().species;
    assert_eq!((species(&update.before_json), species(&update.after_json)), ("one".into(), "two".into()));
    assert_eq!((records[3].origin.as_str(), records[3].trace.as_str()), ("billing", "t-1"));
    assert_eq!((records[0].after_json.as_str(), records[3].before_json.as_str()), ("", ""));

    let of = |kind: &str, id: &str, actor: &str| ListAuditRecordsRequest {
        kind: kind.into(),
        resource_id: id.into(),
        actor: actor.into(),
        ..any()
    };
    assert_eq!(
        short(&list(&mut client, of("Dinosaur", "a", "")).await.0),
        ["4 a postgres", "3 a postgres", "1 a alice"]
    );
    assert_eq!(short(&list(&mut client, of("", "", "alice")).await.0), ["2 b alice", "1 a alice"]);
    assert_eq!(list(&mut client, of("Fossil", "", "")).await.0, []);
    let then = records[1].occurred_at;
    let since = ListAuditRecordsRequest { start_time: then, ..of("Dinosaur", "", "") };
    assert_eq!(short(&list(&mut client, since).await.0), ["4 a postgres", "3 a postgres"]);
    let until = ListAuditRecordsRequest { end_time: then, ..of("Dinosaur", "", "") };
    assert_eq!(short(&list(&mut client, until).await.0), ["2 b alice", "1 a alice"]);

    let request =
        WatchAuditRecordsRequest { after_revision: Some(1), actor: "alice".into(), ..Default::default() };
    let mut watch = client.watch_audit_records(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().record.unwrap().revision, 2);
    session.batch_execute("INSERT INTO dinosaurs (species) VALUES ('unasked')").await.unwrap();
    session
        .batch_execute("BEGIN; SET LOCAL hub.actor = 'alice'; DELETE FROM dinosaurs WHERE id = 'b'; COMMIT")
        .await
        .unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().record.unwrap().revision, 6, "it follows");
    // As a hub does that was asked with a number of before a restore.
    for asked in [7, u64::MAX] {
        let request = WatchAuditRecordsRequest { after_revision: Some(asked), ..Default::default() };
        let status = client.watch_audit_records(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "REVISION_UNKNOWN"));
        assert_eq!(metadata(&status, "head_revision"), "6");
    }
    hub.stop().await;
    let ended = watch.message().await.unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "UNAVAILABLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_and_a_trail_that_nobody_keeps_are_told() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut client = auditor(&hub).await;
    let any = ListAuditRecordsRequest::default;
    let status = client.list_audit_records(any()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "NOT_IMPLEMENTED"));
    assert!(status.message().contains("--audit"), "{}", status.message());
    let status = client.watch_audit_records(WatchAuditRecordsRequest::default()).await.unwrap_err();
    assert_eq!(metadata(&status, "what"), "an audit trail, which a hub keeps with --audit,");
    for bad in [
        ListAuditRecordsRequest { page_size: -1, ..any() },
        ListAuditRecordsRequest { page_size: 501, ..any() },
        ListAuditRecordsRequest { page_token: "7".into(), ..any() },
        ListAuditRecordsRequest { kind: "x".repeat(1025), ..any() },
        ListAuditRecordsRequest { actor: "\0".into(), ..any() },
        ListAuditRecordsRequest {
            start_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
            ..any()
        },
    ] {
        let status = client.list_audit_records(bad.clone()).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_FIELD"),
            "{bad:?}"
        );
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_when_their_time_has_come() {
    let database = Database::create().await;
    let hub = keeper(&database).await;
    let session = database.connect().await;
    session
        .batch_execute("INSERT INTO dinosaurs (id, species) SELECT n, 's' FROM generate_series(1, 30) n")
        .await
        .unwrap();
    let store = Store::new(&database.target(), 2).unwrap();
    super::until_at(&store, AuditTrail::NAME, 30).await;
    hub.stop().await;
    session
        .batch_execute(
            "UPDATE hub.audit SET captured_at = captured_at - interval '2 days' WHERE revision <= 20",
        )
        .await
        .unwrap();
    let day = Duration::from_secs(24 * 3600);
    let mut gone = Vec::new();
    while gone.last() != Some(&0) {
        gone.push(store.audit_trim(day, 8).await.unwrap());
    }
    // The gap at the beginning is a record too.
    assert_eq!(gone, [8, 8, 5, 0]);
    assert_eq!(store.audited(AuditTrail::NAME).await.unwrap().unwrap().revision.get(), 30);
}

/// Rows that are large come in turns that are not: a turn is in memory several times, and the server waits
/// for it no longer than a second.
#[tokio::test(flavor = "multi_thread")]
async fn large_rows_take_many_turns() {
    const ROWS: u64 = 40;
    let database = Database::create().await;
    let hub = keeper(&database).await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, AuditTrail::NAME, "it runs", |status| status.holder.is_some()).await;
    let session = database.connect().await;
    let turns = async || {
        let row = session.query_one("SELECT turn FROM hub.controller WHERE name = 'audit'", &[]).await;
        row.unwrap().get::<_, i64>(0)
    };
    let before = turns().await;
    // 40 MiB in one transaction, which is sealed at once.
    let sql = "INSERT INTO dinosaurs (id, species) SELECT n::text, repeat('x', 1024 * 1024)
               FROM generate_series(1, $1::bigint) n";
    session.execute(sql, &[&i64::try_from(ROWS).unwrap()]).await.unwrap();
    until_controller(&store, AuditTrail::NAME, "all is in it", |status| status.position.get() == ROWS).await;
    let taken = turns().await - before;
    // Of 8 MiB, or one row more.
    assert!((5..=6).contains(&taken), "{taken} turns");
    let kept = session.query_one("SELECT count(*) FROM hub.audit WHERE type = 1", &[]).await.unwrap();
    assert_eq!(kept.get::<_, i64>(0), 40);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_trail_that_was_rolled_back_goes_back_with_it() {
    let database = Database::create().await;
    let hub = keeper(&database).await;
    let session = database.connect().await;
    for n in 1..=5 {
        let insert = format!("INSERT INTO dinosaurs (id, species) VALUES ('{n}', 's')");
        session.batch_execute(&insert).await.unwrap();
    }
    let store = Store::new(&database.target(), 1).unwrap();
    super::until_at(&store, AuditTrail::NAME, 5).await;
    let mut client = auditor(&hub).await;
    let mut watch = async |actor: &str| {
        let request =
            WatchAuditRecordsRequest { after_revision: Some(0), actor: actor.into(), ..Default::default() };
        client.watch_audit_records(request).await.unwrap().into_inner()
    };
    let (mut all, mut few) = (watch("").await, watch("nobody").await);
    let next = async |stream: &mut Streaming<WatchAuditRecordsResponse>| {
        tokio::time::timeout(*PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().record.unwrap()
    };
    for revision in 1..=5 {
        assert_eq!(next(&mut all).await.revision, revision);
    }
    // As an older backup would have it.
    session
        .batch_execute(
            "BEGIN; DELETE FROM hub.log WHERE revision > 2; DELETE FROM hub.audit WHERE revision > 2;
             UPDATE hub.controller SET revision = 2; UPDATE hub.head SET revision = 2; COMMIT",
        )
        .await
        .unwrap();
    let head = || hub.metric("hub_head_revision", "");
    until("the hub goes back", || head() == 2.0).await;
    session.batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('again', 's')").await.unwrap();
    for stream in [&mut all, &mut few] {
        let gap = next(stream).await;
        assert_eq!((gap.revision, gap.r#type()), (2, AuditRecordType::Gap));
    }
    let record = next(&mut all).await;
    assert_eq!((record.revision, record.resource_id.as_str()), (3, "again"));
    hub.stop().await;
}
