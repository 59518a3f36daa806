//! What a controller cannot handle, and what waits behind it.

use super::{EFFECTS, Scribe, effects, settings, until_at, until_controller};
use crate::support::{Database, TestHub, until, until_true};
use std::sync::Arc;
use trex::{
    faces::Registry,
    store::{DeadLetters, Store, Which},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_resource_holds_up_only_itself() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.batch_execute(EFFECTS).await.unwrap();
    let (scribe, poison) = Scribe::new();
    let registry = Registry::of_this_program;
    let hub = TestHub::start_with(settings(database.url(), vec![Arc::new(scribe)]), registry()).await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, Scribe::NAME, "it runs", |status| status.holder.is_some()).await;
    session.batch_execute("DELETE FROM effects").await.unwrap();

    poison.lock().insert("bad".into());
    // Revisions 1 to 3 in one transaction, so that the poison is in the middle of a turn; then one by one.
    session
        .batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 's'), ('bad', 's'), ('b', 's')")
        .await
        .unwrap();
    until_at(&store, Scribe::NAME, 3).await;
    session.batch_execute("UPDATE dinosaurs SET species = 't' WHERE id = 'bad'").await.unwrap();
    session.batch_execute("UPDATE dinosaurs SET species = 't' WHERE id = 'a'").await.unwrap();
    session.batch_execute("DELETE FROM dinosaurs WHERE id = 'bad'").await.unwrap();
    session.batch_execute("DELETE FROM dinosaurs WHERE id = 'b'").await.unwrap();
    until_at(&store, Scribe::NAME, 7).await;
    let healthy = ["created a@1", "created b@3", "updated a@5", "deleted b@7"];
    assert_eq!(effects(&session).await, healthy, "the others went on, and nothing of the poisoned one stays");

    // After its attempts it waits for an operator.
    let letters = DeadLetters::open(&database.target()).await.unwrap();
    until("it has failed three times", || {
        hub.metric("hub_controller_changes_total", "outcome=\"failed\"") == 3.0
    })
    .await;
    until("it is counted", || hub.metric("hub_dead_letters", "") == 3.0).await;
    let listed = letters.list(Some(Scribe::NAME), 10).await.unwrap();
    let short = |n: usize| (listed[n].resource_id.as_str(), listed[n].revision.get(), listed[n].attempts);
    assert_eq!([short(0), short(1), short(2)], [("bad", 2, 3), ("bad", 4, 0), ("bad", 6, 0)]);
    assert_eq!(listed[0].error.as_deref(), Some("bad is poisoned"));
    assert!(listed.iter().all(|letter| letter.due_at.is_none()), "{listed:?}");
    assert_eq!(letters.list(Some("another"), 10).await.unwrap(), []);

    // Not yet cured: it fails as often again, and what waits behind it waits.
    assert_eq!(letters.retry(&Which::One(listed[2].id)).await.unwrap(), 1, "its resource is what is tried");
    until("it has failed again", || hub.metric("hub_controller_changes_total", "outcome=\"failed\"") == 6.0)
        .await;
    assert_eq!(effects(&session).await, healthy);

    poison.lock().clear();
    assert_eq!(letters.retry(&Which::Of(Scribe::NAME.into())).await.unwrap(), 1);
    until_controller(&store, Scribe::NAME, "no letter is left", |status| status.dead_letters == 0).await;
    let all = [&healthy[..], &["created bad@2", "updated bad@4", "deleted bad@6"]].concat();
    assert_eq!(effects(&session).await, all, "the parked ones in order");
    session.batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('bad', 'u')").await.unwrap();
    until_at(&store, Scribe::NAME, 8).await;
    assert_eq!(effects(&session).await, [&all[..], &["created bad@8"].map(|text: &str| text)].concat());
    until("the gauge is back", || hub.metric("hub_dead_letters", "") == 0.0).await;
    hub.stop().await;
}

/// What is only checked at the commit is of the change that broke it, too, and not of the whole turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_constraint_holds_up_only_who_breaks_it() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.batch_execute(EFFECTS).await.unwrap();
    let constraint =
        "CREATE TABLE allowed (id text PRIMARY KEY); INSERT INTO allowed VALUES (''), ('a'), ('b');
        ALTER TABLE effects ADD FOREIGN KEY (id) REFERENCES allowed DEFERRABLE INITIALLY DEFERRED";
    session.batch_execute(constraint).await.unwrap();
    let (scribe, _) = Scribe::new();
    let registry = Registry::of_this_program;
    let hub = TestHub::start_with(settings(database.url(), vec![Arc::new(scribe)]), registry()).await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, Scribe::NAME, "it runs", |status| status.holder.is_some()).await;
    session.batch_execute("DELETE FROM effects").await.unwrap();
    session
        .batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('a', 's'), ('bad', 's'), ('b', 's')")
        .await
        .unwrap();
    until_at(&store, Scribe::NAME, 3).await;
    assert_eq!(effects(&session).await, ["created a@1", "created b@3"]);
    let letters = DeadLetters::open(&database.target()).await.unwrap();
    let listed = letters.list(Some(Scribe::NAME), 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].resource_id.as_str()), (1, "bad"));
    assert!(listed[0].error.as_deref().is_some_and(|error| error.contains("foreign key")), "{listed:?}");
    session.batch_execute("INSERT INTO allowed VALUES ('bad')").await.unwrap();
    letters.retry(&Which::All).await.unwrap();
    until_controller(&store, Scribe::NAME, "no letter is left", |status| status.dead_letters == 0).await;
    assert_eq!(effects(&session).await, ["created a@1", "created b@3", "created bad@2"]);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_discarded_frees_what_waits_behind_it() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.batch_execute(EFFECTS).await.unwrap();
    let (scribe, poison) = Scribe::new();
    poison.lock().insert("bad".into());
    let hub =
        TestHub::start_with(settings(database.url(), vec![Arc::new(scribe)]), Registry::of_this_program())
            .await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, Scribe::NAME, "it runs", |status| status.holder.is_some()).await;
    session.batch_execute("DELETE FROM effects").await.unwrap();
    session
        .batch_execute(
            "INSERT INTO dinosaurs (id, species) VALUES ('bad', 's'); UPDATE dinosaurs SET species = 't'",
        )
        .await
        .unwrap();
    until("it has failed three times", || {
        hub.metric("hub_controller_changes_total", "outcome=\"failed\"") == 3.0
    })
    .await;
    let letters = DeadLetters::open(&database.target()).await.unwrap();
    let listed = letters.list(None, 10).await.unwrap();
    assert_eq!(listed.len(), 2);
    poison.lock().clear();
    assert_eq!(letters.discard(&Which::One(listed[0].id)).await.unwrap(), 1);
    until_controller(&store, Scribe::NAME, "no letter is left", |status| status.dead_letters == 0).await;
    assert_eq!(effects(&session).await, ["updated bad@2"]);
    assert_eq!(letters.discard(&Which::One(listed[0].id)).await.unwrap(), 0, "it is gone");
    assert_eq!(letters.retry(&Which::All).await.unwrap(), 0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_fails_holds_all_up_and_loses_nothing() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.batch_execute(EFFECTS).await.unwrap();
    let (scribe, _) = Scribe::new();
    let hub =
        TestHub::start_with(settings(database.url(), vec![Arc::new(scribe)]), Registry::of_this_program())
            .await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, Scribe::NAME, "it runs", |status| status.holder.is_some()).await;
    session.batch_execute("DELETE FROM effects").await.unwrap();
    // Whoever wants to write effects waits, and is cut off, again and again.
    session.batch_execute("BEGIN; LOCK TABLE effects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let writer = database.connect().await;
    writer
        .batch_execute("INSERT INTO dinosaurs (id, species) SELECT n, 's' FROM generate_series(1, 3) n")
        .await
        .unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE wait_event_type = 'Lock' AND query LIKE '%INTO effects%'
               AND datname = current_database()";
    let mut cuts = 0;
    until_true("it tries again and again", async || {
        cuts += writer.query_one(cut, &[]).await.unwrap().get::<_, i64>(0);
        cuts >= 3
    })
    .await;
    until("it is held up", || hub.metric("hub_controller_hold_ups_total", "") >= 3.0).await;
    session.batch_execute("COMMIT").await.unwrap();
    let status = until_at(&store, Scribe::NAME, 3).await;
    assert_eq!(status.dead_letters, 0, "no change is to blame");
    assert_eq!(effects(&session).await, ["created 1@1", "created 2@2", "created 3@3"]);
    hub.stop().await;
}
