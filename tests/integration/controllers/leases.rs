//! A turn belongs to one hub: to a live one, not to one that was frozen and wakes.

use super::{EFFECTS, settings, until_at, until_controller};
use crate::support::{Database, TestHub, until_ok};
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use trex::{
    controller::{Controller, HandlerError},
    faces::Registry,
    model::AttributedChange,
    store::{ControllerConnection, LogPosition, Store, Turn},
};

const NAME: &str = "sloth";

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_freezes_in_a_turn_is_freed_from_it() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    let store = Store::new(&database.target(), 2).unwrap();
    let standing = store.standing(NAME).await.unwrap();
    let at = LogPosition::after(standing.head);
    let (frozen, other) = (
        ControllerConnection::open(&database.target()).await.unwrap(),
        ControllerConnection::open(&database.target()).await.unwrap(),
    );
    let held = frozen.take_turn(NAME, standing.turn).await.unwrap().unwrap();
    held.query("INSERT INTO dinosaurs (id, species) VALUES ('ghost', 's')", &[]).await.unwrap();
    // No sign of life from here on.
    let started = Instant::now();
    let turn = until_ok("a frozen hub loses its turn", async || {
        other.take_turn(NAME, standing.turn).await.unwrap().ok_or("it keeps it")
    })
    .await;
    println!("freed after {:?}", started.elapsed());
    turn.commit_at(at, &standing.current, "other").await.unwrap();
    // It wakes.
    assert!(held.commit_at(at, &standing.current, "frozen").await.is_err());
    let anew = ControllerConnection::open(&database.target()).await.unwrap();
    assert!(anew.take_turn(NAME, standing.turn).await.unwrap().is_none(), "that turn is over");
    let ghosts = database.connect().await.query("SELECT FROM dinosaurs", &[]).await.unwrap();
    assert!(ghosts.is_empty(), "what it did in its turn is undone");
    let status = until_controller(&store, NAME, "it is there", |_| true).await;
    assert!(status.holder.as_deref().is_some_and(|holder| holder.ends_with("other")), "{status:?}");
}

/// Takes longer over a change than a frozen hub would be given.
struct Sloth;

#[async_trait]
impl Controller for Sloth {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Option<&'static str> {
        Some("Dinosaur")
    }

    async fn on_upsert(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError> {
        if change.resource_id == "quick" {
            return Ok(());
        }
        turn.query("INSERT INTO effects (what) VALUES ('slow')", &[]).await?;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        match change.resource_id.as_str() {
            "panics" => panic!("on purpose"),
            "hangs" => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn on_delete(&self, _: &AttributedChange, _: &Turn<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_slow_or_panics_or_hangs_is_not_taken_for_frozen() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.batch_execute(EFFECTS).await.unwrap();
    let mut settings = settings(database.url(), vec![Arc::new(Sloth)]);
    settings.controller.attempts = 1;
    settings.controller.attempt_timeout = Duration::from_secs(4);
    settings.controller.first_pause = Duration::from_secs(3600);
    settings.controller.longest_pause = Duration::from_secs(3600);
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, NAME, "it runs", |status| status.holder.is_some()).await;
    let insert = "INSERT INTO dinosaurs (id, species) VALUES ('slow', 's'), ('panics', 's'),
                  ('hangs', 's'), ('quick', 's')";
    session.batch_execute(insert).await.unwrap();
    let status = until_at(&store, NAME, 4).await;
    assert_eq!(status.dead_letters, 2);
    let effects = session.query("SELECT FROM effects", &[]).await.unwrap();
    assert_eq!(effects.len(), 1, "what failed has left nothing");
    let errors = session.query("SELECT error FROM hub.dead_letter ORDER BY id", &[]).await.unwrap();
    let errors: Vec<String> = errors.iter().map(|row| row.get(0)).collect();
    assert_eq!(errors, ["it panicked", "it took longer than 4s"]);
    hub.stop().await;
}
