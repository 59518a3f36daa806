//! Controllers: consumers inside the hub. Each has a durable position in the log, is run by one hub at a
//! time, and sees every change of its kind at least once, a resource's changes in order. What it writes
//! through its [`Turn`] is committed together with its position: exactly once.

mod audit;
mod error;
mod runner;
mod turn;

pub use audit::AuditTrail;
pub use error::HandlerError;

use crate::{
    broker::EventBroker,
    feed::Feed,
    model::{AttributedChange, Gap, Revision},
    store::{Store, Target, Turn},
    telemetry::Metrics,
};
use anyhow::bail;
use async_trait::async_trait;
use std::{collections::HashSet, fmt, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Acts on changes.
///
/// A handler that fails with [`HandlerError::Change`] is tried again with growing pauses; meanwhile, and
/// after the last attempt, the change is a dead letter, and later changes of its resource wait behind it in
/// order. All others go on.
///
/// A handler may wait, but must not block its thread: a hub that is silent for a second loses its turn, which
/// is rolled back and taken again.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// Its name: in `hub.controller`, in metrics, on the command line. It must not change.
    fn name(&self) -> &'static str;

    /// The kind whose changes it acts on; `None`: all kinds; then no table is ever listed for it
    /// ([`Controller::on_gap`]).
    fn kind(&self) -> Option<&str>;

    /// Changes in one transaction, at most; where they are large, about 8 MiB of them. Use 1 where the
    /// effects lie outside the database: when a hub dies, they are repeated for the whole turn.
    fn at_a_time(&self) -> u32 {
        50
    }

    /// A row was created or changed; or it is listed, after a gap.
    async fn on_upsert(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError>;

    /// A row was deleted.
    async fn on_delete(&self, change: &AttributedChange, turn: &Turn<'_>) -> Result<(), HandlerError>;

    /// All changes of a turn at once, for a controller that handles them cheaper than one by one. `false`: it
    /// does not, and has done nothing. If it fails, its effects through the turn are rolled back, and the
    /// changes come one by one.
    async fn on_changes(
        &self,
        _changes: &[AttributedChange],
        _turn: &Turn<'_>,
    ) -> Result<bool, HandlerError> {
        Ok(false)
    }

    /// Changes may be missing: the controller is new, or the history after its position is no longer
    /// retained, or a new epoch began. A controller of one kind is then given all rows of the table as they
    /// are at one revision, and what comes after that; a row that was deleted meanwhile is absent by
    /// [`Controller::on_listed`]. A controller of all kinds goes on at `gap.resume`.
    async fn on_gap(&self, _gap: &Gap, _turn: &Turn<'_>) -> Result<(), HandlerError> {
        Ok(())
    }

    /// That was the last row of the table, as it is at this revision. In the same transaction as `on_gap`.
    async fn on_listed(&self, _revision: Revision, _turn: &Turn<'_>) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Called now and then, by every hub, outside of any turn: for deleting what is too old.
    async fn tidy(&self, _store: &Store) -> Result<(), crate::error::Error> {
        Ok(())
    }
}

/// How controllers run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many times a change is tried before it waits for an operator.
    pub attempts: u32,
    /// The pause after the first attempt; each further one is twice as long, with jitter.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The longest that one attempt may take.
    pub attempt_timeout: Duration,
    /// How often a hub looks whether another one has abandoned a controller.
    pub look: Duration,
    /// How often [`Controller::tidy`] is called.
    pub tidy: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(20),
            look: Duration::from_millis(400),
            tidy: Duration::from_secs(30),
        }
    }
}

/// The controllers that a hub runs.
#[derive(Clone, Default)]
pub struct Controllers(Vec<Arc<dyn Controller>>);

impl Controllers {
    /// The controllers of this program, a line each. `audit`: how long the audit trail is kept, if one is.
    pub fn of_this_program(audit: Option<Duration>) -> Self {
        let audit = audit.map(|keep| Arc::new(AuditTrail::new(keep)) as Arc<dyn Controller>);
        Self::new(audit.into_iter().collect())
    }

    /// These controllers.
    pub fn new(controllers: Vec<Arc<dyn Controller>>) -> Self {
        Self(controllers)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|controller| controller.name())
    }

    /// Checks that no two have the same name, and that each kind is one of these.
    pub fn check(&self, kinds: &[&str]) -> anyhow::Result<()> {
        let mut names = HashSet::new();
        for controller in &self.0 {
            if !names.insert(controller.name()) {
                bail!("two controllers are called {}", controller.name());
            }
            if let Some(kind) = controller.kind().filter(|kind| !kinds.contains(kind)) {
                bail!("controller {} acts on kind {kind}, which is not registered", controller.name());
            }
        }
        Ok(())
    }

    /// Starts a task for each; they end when `stop` is cancelled.
    pub fn spawn(
        &self,
        resources: &Resources,
        settings: Settings,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for controller in &self.0 {
            tasks.spawn(runner::run(controller.clone(), resources.clone(), settings, stop.clone()));
        }
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// What controllers run on.
#[derive(Clone)]
pub struct Resources {
    /// The database.
    pub target: Target,
    /// The source of the log, and of states.
    pub feed: Arc<dyn Feed>,
    /// For short statements.
    pub store: Store,
    /// Whose head wakes them.
    pub broker: Arc<EventBroker>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}
