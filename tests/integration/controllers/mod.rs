//! Controllers: every change has its effect, in order, however often hubs die; what fails holds up only
//! itself.

mod attribution;
pub(crate) mod audit;
mod gaps;
mod leases;
mod letters;
mod survival;

use crate::support::{TestHub, until_ok};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio_postgres::types::{ToSql, Type};
use trex::{
    app::Settings,
    controller::{Controller, Controllers, HandlerError},
    faces::Registry,
    model::{AttributedChange, ChangeType, Gap, Revision},
    store::{ControllerStatus, Driven, Store, Target, Turn},
};

/// What the controller of these tests did: one row per effect, so that one that comes twice is seen.
pub const EFFECTS: &str = "CREATE TABLE public.effects
                           (place bigint GENERATED ALWAYS AS IDENTITY (CACHE 1), what text, id text,
                             revision bigint, species text)";

/// Writes down in `public.effects` what it is told, and fails for whom it is told to.
pub struct Scribe {
    /// Ids whose changes fail.
    pub poison: Arc<Mutex<HashSet<String>>>,
    pub at_a_time: u32,
}

impl Scribe {
    pub const NAME: &str = "scribe";

    pub fn new() -> (Self, Arc<Mutex<HashSet<String>>>) {
        let poison = Arc::<Mutex<HashSet<String>>>::default();
        (Self { poison: poison.clone(), at_a_time: 50 }, poison)
    }

    async fn write(
        &self,
        turn: &Turn<'_>,
        what: &str,
        id: &str,
        revision: Revision,
        species: Option<&str>,
    ) -> Result<(), HandlerError> {
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&what, Type::TEXT),
            (&id, Type::TEXT),
            (&revision.to_sql(), Type::INT8),
            (&species, Type::TEXT),
        ];
        turn.query("INSERT INTO effects (what, id, revision, species) VALUES ($1, $2, $3, $4)", &parameters)
            .await?;
        // After the effect: it must be undone.
        let poisoned = self.poison.lock().contains(id);
        if poisoned { Err(HandlerError::Change(format!("{id} is poisoned"))) } else { Ok(()) }
    }
}

#[async_trait]
impl Controller for Scribe {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn kind(&self) -> Option<&'static str> {
        Some("Dinosaur")
    }

    fn at_a_time(&self) -> u32 {
        self.at_a_time
    }

    async fn on_upsert(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError> {
        let what = match change.change {
            ChangeType::Created => "created",
            ChangeType::Updated => "updated",
            ChangeType::Snapshot => "listed",
            ChangeType::Deleted | ChangeType::Schema => {
                return Err(HandlerError::Change("a delete is no upsert".into()));
            }
        };
        let row: serde_json::Value =
            serde_json::from_str(change.after.as_deref().unwrap_or_default()).expect("a row");
        self.write(turn, what, &change.resource_id, change.revision, row["species"].as_str()).await
    }

    async fn on_delete(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError> {
        self.write(turn, "deleted", &change.resource_id, change.revision, None).await
    }

    async fn on_gap(&self, gap: &Gap, turn: &Turn<'_>) -> Result<(), HandlerError> {
        self.write(turn, &format!("{:?}", gap.cause), "", gap.after, None).await
    }

    async fn on_listed(&self, revision: Revision, turn: &Turn<'_>) -> Result<(), HandlerError> {
        self.write(turn, "that was all", "", revision, None).await
    }
}

/// Settings under which failures are tried again soon.
pub fn settings(url: &str, controllers: Vec<Arc<dyn Controller>>) -> Settings {
    let mut settings = Settings::new(Target::parse(url).expect("a URL of our own"));
    settings.controllers = Controllers::new(controllers);
    settings.controller.attempts = 3;
    settings.controller.first_pause = Duration::from_millis(20);
    settings.controller.look = Duration::from_millis(100);
    settings
}

/// Two hubs, one of which dies now and then and is replaced.
pub struct Mortals {
    settings: Box<dyn Fn() -> Settings + Send>,
    controller: &'static str,
    pub hubs: Vec<TestHub>,
    pub killed: u32,
    /// How often the one that took the controller's turns was there to be killed.
    pub at_it: u32,
}

impl Mortals {
    pub async fn start(controller: &'static str, settings: impl Fn() -> Settings + Send + 'static) -> Self {
        let mut mortals =
            Self { settings: Box::new(settings), controller, hubs: Vec::new(), killed: 0, at_it: 0 };
        for _ in 0..2 {
            mortals.replace().await;
        }
        mortals
    }

    async fn replace(&mut self) {
        let hub = TestHub::start_with((self.settings)(), Registry::of_this_program()).await;
        self.hubs.push(hub);
    }

    /// Rather the one that is at it.
    pub async fn kill_one(&mut self, random: &mut fastrand::Rng) {
        let active = |hub: &TestHub| hub.metric("hub_controller_active", self.controller) == 1.0;
        let at_it = self.hubs.iter().position(active);
        self.at_it += u32::from(at_it.is_some());
        let victim = self.hubs.remove(at_it.filter(|_| random.f32() < 0.8).unwrap_or(random.usize(0..2)));
        self.killed += 1;
        if random.bool() {
            // Its tasks end where they stand, in the middle of a turn.
            drop(victim);
        } else {
            victim.stop().await;
        }
        self.replace().await;
    }

    pub async fn stop(self) {
        for hub in self.hubs {
            hub.stop().await;
        }
    }
}

/// What was written down, in order: `created a@1`.
pub async fn effects(session: &Driven) -> Vec<String> {
    let rows = session.query("SELECT what, id, revision FROM effects ORDER BY place", &[]).await.unwrap();
    let text = |row: &tokio_postgres::Row| {
        format!("{} {}@{}", row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, i64>(2))
    };
    rows.iter().map(text).collect()
}

/// Waits until a controller stands somewhere.
pub async fn until_controller(
    store: &Store,
    name: &str,
    what: &str,
    condition: impl Fn(&ControllerStatus) -> bool,
) -> ControllerStatus {
    until_ok(what, async || {
        let all = store.controllers().await.unwrap();
        match all.into_iter().find(|status| status.name == name) {
            Some(status) if condition(&status) => Ok(status),
            status => Err(status),
        }
    })
    .await
}

/// Waits until it has done everything up to a revision.
pub async fn until_at(store: &Store, name: &str, revision: u64) -> ControllerStatus {
    until_controller(store, name, "it is done", |status| status.position.get() >= revision).await
}
