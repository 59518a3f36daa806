//! A kind that the hub does not know by name goes through capture, log and broker beside the dinosaurs.

use crate::support::{
    Database, TestHub,
    fossil::{Fossil, FossilEvent, Fossils, fossils},
    until,
};
use std::{sync::Arc, time::Duration};
use trex::{
    app::Settings,
    broker::{Interest, Policy, SchemaInterest, Subscription},
    faces::{Registry, dinosaurs::Dinosaurs},
    model::{ChangeType, Selector, Start},
    proto::rh_trex::v1::WatchDinosaursRequest,
    store::{Driven, MigrateError, migrate},
    wire::Rendition,
};

fn registry() -> Registry {
    Registry::new(vec![Arc::new(Dinosaurs), Arc::new(Fossils)])
}

async fn start() -> (TestHub, Driven) {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.blocked_after = Duration::from_millis(1);
    (TestHub::start_with(settings, registry()).await, database.connect().await)
}

fn subscribe(hub: &TestHub, interest: Interest) -> Subscription {
    let era = hub.app().broker().era().unwrap();
    era.topic("Fossil").unwrap().subscribe(Start::Now, interest).unwrap()
}

const EVERYTHING: Interest = Interest {
    selector: Selector::ALL,
    filter: None,
    sight: trex::model::filter::Sight::Whole,
    rendition: Rendition::Grpc,
    composer: None,
    schema: SchemaInterest::NONE,
    include_previous: false,
    buffer: 8192,
    policy: Policy::Drop,
};

#[tokio::test]
async fn exact_values_come_back() {
    let (hub, session) = start().await;
    let mut watch = subscribe(&hub, Interest { include_previous: true, ..EVERYTHING });
    let scan: String = (0..20_000u32).map(|n| char::from(b'!' + (n * n % 90) as u8)).collect();
    let weight = "123456789012345678901234567890.123456789012345678900";
    let details = r#"{"b": [1.10, null, "é\\ \u0001"], "a": 12345678901234567890123}"#;
    let insert = "INSERT INTO fossils VALUES ('a/b%', 7, $1::text::jsonb, $2::text::numeric, NULL, $3)";
    session.execute(insert, &[&details, &weight, &scan]).await.unwrap();
    session.execute("INSERT INTO fossils (site, number) VALUES ('a', 1)", &[]).await.unwrap();
    session.execute("UPDATE fossils SET note = '' WHERE number = 1", &[]).await.unwrap();
    session.execute("DELETE FROM fossils WHERE number = 7", &[]).await.unwrap();

    let events = fossils(&mut watch, 4).await;
    let first = Fossil {
        site: "a/b%".into(),
        number: 7,
        // As jsonb keeps it: shorter keys first, numbers to the digit.
        details: Some(r#"{"a": 12345678901234567890123, "b": [1.10, null, "é\\ \u0001"]}"#.into()),
        weight: Some(weight.into()),
        note: None,
        scan,
    };
    let second = Fossil { site: "a".into(), number: 1, ..Default::default() };
    let noted = Fossil { note: Some(String::new()), ..second.clone() };
    let event = |change: ChangeType, id: &str, revision, fossil, previous| FossilEvent {
        change: change as i32,
        resource_id: id.into(),
        revision,
        fossil,
        previous,
        dropped_before: 0,
    };
    let expected = [
        event(ChangeType::Created, "a%2Fb%25/7", 1, Some(first.clone()), None),
        event(ChangeType::Created, "a/1", 2, Some(second.clone()), None),
        event(ChangeType::Updated, "a/1", 3, Some(noted), Some(second)),
        event(ChangeType::Deleted, "a%2Fb%25/7", 4, None, Some(first)),
    ];
    assert_eq!(events, expected);
    drop(watch);
    hub.stop().await;
}

#[tokio::test]
async fn kinds_share_one_sequence_of_revisions() {
    let (hub, session) = start().await;
    let mut bones = subscribe(&hub, EVERYTHING);
    let mut dinosaurs =
        hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    for n in 1..=10 {
        let both = format!(
            "INSERT INTO fossils (site, number) VALUES ('s', {n}); INSERT INTO dinosaurs (species)
             VALUES ('d{n}')"
        );
        session.batch_execute(&both).await.unwrap();
    }
    let fossils: Vec<_> = fossils(&mut bones, 10).await.iter().map(|event| event.revision).collect();
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(dinosaurs.message().await.unwrap().unwrap().revision);
    }
    assert_eq!(fossils, (1..=10).map(|n| 2 * n - 1).collect::<Vec<_>>());
    assert_eq!(others, (1..=10).map(|n| 2 * n).collect::<Vec<_>>());
    drop((bones, dinosaurs));
    hub.stop().await;
}

#[tokio::test]
async fn a_selection_by_composite_id_gets_its_row_only() {
    let (hub, session) = start().await;
    let selector = Selector::new(&[ChangeType::Updated], vec!["a%2Fb/1".into()]);
    let mut watch = subscribe(&hub, Interest { selector, ..EVERYTHING });
    session
        .batch_execute(
            "INSERT INTO fossils (site, number) VALUES ('a/b', 1), ('a', 1), ('a/b', 2);
             UPDATE fossils SET note = 'x'; UPDATE fossils SET note = 'y' WHERE site = 'a/b'",
        )
        .await
        .unwrap();
    let events = fossils(&mut watch, 2).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.resource_id.as_str(), event.fossil.as_ref().unwrap().note.as_deref()))
        .collect();
    assert_eq!(seen, [("a%2Fb/1", Some("x")), ("a%2Fb/1", Some("y"))]);
    drop(watch);
    hub.stop().await;
}

#[tokio::test]
async fn what_a_blocked_subscription_loses_is_told_in_field_6() {
    let (hub, session) = start().await;
    let mut watch = subscribe(&hub, Interest { buffer: 4, ..EVERYTHING });
    session
        .batch_execute("INSERT INTO fossils (site, number) SELECT 's', n FROM generate_series(1, 100) n")
        .await
        .unwrap();
    until("events are dropped", || watch.dropped() > 0).await;
    let events = fossils(&mut watch, 2).await;
    assert_eq!(watch.dropped(), 98);
    assert_eq!(events.iter().map(|event| event.dropped_before).collect::<Vec<_>>(), [98, 0]);
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [99, 100]);
    assert_eq!(hub.metric("grpc_stream_events_dropped_total", r#"kind="Fossil""#), 98.0);
    drop(watch);
    hub.stop().await;
}

#[tokio::test]
async fn a_kind_that_was_never_migrated_is_not_ready() {
    let database = Database::create().await;
    migrate(&database.target(), &Registry::of_this_program().kinds().scopes()).await.unwrap();
    let mut settings = Settings::new(database.target());
    settings.migrate = false;
    let hub = TestHub::launch(settings, registry()).await;
    let fault = "the table of kind Fossil was never watched, or is gone";
    until("the fault is told", || hub.app().health().reasons() == [fault]).await;
    hub.stop().await;
}

#[tokio::test]
async fn an_unknown_kind_in_the_log_is_passed_over() {
    let (hub, session) = start().await;
    session
        .batch_execute("CREATE TABLE other (id int PRIMARY KEY); SELECT hub.watch('Other', 'other')")
        .await
        .unwrap();
    let mut watch = subscribe(&hub, EVERYTHING);
    session
        .batch_execute(
            "INSERT INTO other VALUES (1), (2); INSERT INTO fossils (site, number) VALUES ('s', 1)",
        )
        .await
        .unwrap();
    assert_eq!(fossils(&mut watch, 1).await[0].revision, 3);
    drop(watch);
    hub.stop().await;
}

#[tokio::test]
async fn two_kinds_cannot_watch_one_table() {
    let database = Database::create().await;
    let mut scopes = registry().kinds().scopes();
    scopes[1].table = scopes[0].table;
    let refused = migrate(&database.target(), &scopes).await;
    assert!(matches!(refused, Err(MigrateError::Watch { table: "public.dinosaurs", .. })), "{refused:?}");
}
