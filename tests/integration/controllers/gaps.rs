//! Where a controller begins, and how it goes on when what it would read next is gone.

use super::{EFFECTS, Scribe, effects, settings, until_at, until_controller};
use crate::support::{Database, TestHub};
use std::{sync::Arc, time::Duration};
use trex::{
    controller::{AuditTrail, Controllers},
    faces::Registry,
    store::{Driven, Store, begin_epoch},
};

struct World {
    database: Database,
    session: Driven,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let database = Database::create().await;
        // The schema, and a state that no controller has seen come.
        TestHub::start(&database).await.stop().await;
        let session = database.connect().await;
        session.batch_execute(EFFECTS).await.unwrap();
        let store = Store::new(&database.target(), 2).unwrap();
        Self { database, session, store }
    }

    async fn hub(&self) -> TestHub {
        let (scribe, _) = Scribe::new();
        let audit = AuditTrail::new(Duration::from_secs(3600));
        let settings = settings(self.database.url(), vec![Arc::new(scribe), Arc::new(audit)]);
        TestHub::start_with(settings, Registry::of_this_program()).await
    }

    async fn run(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap();
    }

    async fn until_at(&self, revision: u64) {
        until_at(&self.store, Scribe::NAME, revision).await;
        until_at(&self.store, AuditTrail::NAME, revision).await;
    }

    async fn effects(&self) -> Vec<String> {
        let effects = effects(&self.session).await;
        self.run("DELETE FROM effects").await;
        effects
    }

    /// `1 G` for a gap up to revision 1, `2 Ca` for the creation of a.
    async fn trail(&self) -> Vec<String> {
        let sql = "SELECT revision || ' ' || (ARRAY['G', 'C', 'U', 'D'])[type + 1] || resource_id
                   FROM hub.audit ORDER BY revision, captured_at";
        let rows = self.session.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_one_lists_and_the_trail_begins_with_what_is_retained() {
    let world = World::new().await;
    world.run("INSERT INTO dinosaurs (id, species) VALUES ('a', 's'); DELETE FROM dinosaurs").await;
    world.run("INSERT INTO dinosaurs (id, species) VALUES ('b', 's')").await;
    let hub = world.hub().await;
    world.until_at(3).await;
    assert_eq!(world.effects().await, ["New @0", "listed b@3", "that was all @3"]);
    assert_eq!(world.trail().await, ["0 G", "1 Ca", "2 Da", "3 Cb"]);
    world.run("UPDATE dinosaurs SET species = 't'").await;
    world.until_at(4).await;
    hub.stop().await;

    // The position survives a restart, and what came while no hub ran follows.
    world.run("DELETE FROM dinosaurs").await;
    let hub = world.hub().await;
    world.until_at(5).await;
    assert_eq!(world.effects().await, ["updated b@4", "deleted b@5"]);
    assert_eq!(world.trail().await, ["0 G", "1 Ca", "2 Da", "3 Cb", "4 Ub", "5 Db"]);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_past_the_position_is_bridged_and_told() {
    let world = World::new().await;
    let hub = world.hub().await;
    world.run("INSERT INTO dinosaurs (id, species) VALUES ('a', 's'), ('b', 's')").await;
    world.until_at(2).await;
    hub.stop().await;
    world.effects().await;

    // Without controllers, as long as it takes to forget.
    let hub = TestHub::start(&world.database).await;
    world.run("DELETE FROM dinosaurs WHERE id = 'a'").await;
    world.run("INSERT INTO dinosaurs (id, species) VALUES ('c', 's')").await;
    crate::support::until("sealed", || hub.metric("hub_head_revision", "") == 4.0).await;
    hub.stop().await;
    // None while a session of the hub that was stopped still holds the lock.
    let raise = async || world.store.raise_floor(Duration::ZERO, u64::MAX, 100).await.unwrap();
    let raised = async { while raise().await.is_none_or(|floor| floor.get() < 4) {} };
    tokio::time::timeout(*crate::support::PATIENCE, raised).await.expect("a floor");
    while world.store.delete_below_floor(100).await.unwrap() > 0 {}
    world.run("UPDATE dinosaurs SET species = 't' WHERE id = 'b'").await;

    let hub = world.hub().await;
    world.until_at(5).await;
    let effects = world.effects().await;
    assert_eq!(effects[0], "Compacted @2");
    let mut listed = effects[1..3].to_vec();
    listed.sort();
    assert_eq!(listed, ["listed b@5", "listed c@5"], "a, which was deleted, is absent");
    assert_eq!(effects[3..], ["that was all @5"]);
    assert_eq!(world.trail().await, ["0 G", "1 Ca", "2 Cb", "4 G", "5 Ub"]);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_is_bridged_and_told() {
    let world = World::new().await;
    let hub = world.hub().await;
    world.run("INSERT INTO dinosaurs (id, species) VALUES ('a', 's')").await;
    world.until_at(1).await;
    world.effects().await;
    begin_epoch(&world.database.target(), trex::store::Doubt::Told).await.unwrap();
    let relisted = |status: &trex::store::ControllerStatus| status.lag == 0;
    world.run("INSERT INTO dinosaurs (id, species) VALUES ('b', 's')").await;
    world.until_at(2).await;
    until_controller(&world.store, Scribe::NAME, "it has listed", relisted).await;
    let effects = world.effects().await;
    assert_eq!(effects[0], "Epoch @1");
    assert!(
        effects.contains(&"that was all @1".to_owned()) || effects.contains(&"that was all @2".to_owned())
    );
    assert!(effects.iter().any(|effect| effect.ends_with("b@2")), "{effects:?}");
    assert_eq!(world.trail().await, ["0 G", "1 Ca", "1 G", "2 Cb"]);
    hub.stop().await;
}

#[tokio::test]
async fn a_controller_of_an_unknown_kind_stops_the_start() {
    let (scribe, _) = Scribe::new();
    let controllers = Controllers::new(vec![Arc::new(scribe)]);
    let refused = controllers.check(&["Fossil"]).unwrap_err().to_string();
    assert_eq!(refused, "controller scribe acts on kind Dinosaur, which is not registered");
    let twice: Controllers = Controllers::new(vec![Arc::new(Scribe::new().0), Arc::new(Scribe::new().0)]);
    assert_eq!(twice.check(&["Dinosaur"]).unwrap_err().to_string(), "two controllers are called scribe");
}
