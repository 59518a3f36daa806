//! What this hub is doing, for its operator. It asks the parts that know anyway, and answers even when the
//! database does not.

use super::authorize::{Action, Door, Guarded};
use crate::{
    broker::{EventBroker, SubscriptionState, SubscriptionStatus},
    call::Call,
    catalog::{Attached, Catalog},
    error::Error,
    feed::{Doorbell, DoorbellState},
    health::Health,
    model::{BadName, Epoch, KindName, Revision, TableName},
    store::{AttachChoice, ControllerStatus, DatabaseStatus, Store},
    telemetry::Metrics,
};
use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long the database may take to answer; what the hub knows by itself does not wait longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at a hub. Cheap to clone.
#[derive(Clone)]
pub struct Introspection {
    door: Door,
    behind: Guarded<Arc<Sources>>,
}

/// Whom it asks.
pub struct Sources {
    /// For what the database knows.
    pub store: Store,
    /// For what the watches do.
    pub broker: Arc<EventBroker>,
    /// For whether it is ready.
    pub health: Arc<Health>,
    /// For its counters.
    pub metrics: Arc<Metrics>,
    /// For how it waits.
    pub doorbell: Arc<Doorbell>,
    /// For what it watches.
    pub catalog: Catalog,
    /// Rung when the attached tables are to be looked at.
    pub tables: Arc<Notify>,
    /// When it started.
    pub started: Instant,
}

/// A hub at a moment.
#[derive(Debug)]
pub struct HubStatus {
    /// How long it has run.
    pub uptime: Duration,
    /// Why it is not ready; empty: it is.
    pub reasons: Vec<String>,
    /// The history that it serves; `None`: it has not seen its database yet.
    pub epoch: Option<Epoch>,
    /// Everything up to here has been published, of every kind.
    pub head: Revision,
    /// A watch of any kind can start after this revision.
    pub oldest: Revision,
    /// How it learns of changes.
    pub doorbell: DoorbellStatus,
    /// Its kinds.
    pub kinds: Vec<KindStatus>,
    /// What the database says of itself, and of controllers; `None`: it did not answer in time.
    pub database: Option<(DatabaseStatus, Vec<ControllerStatus>)>,
}

/// How a hub learns of changes, and how often it did.
#[derive(Debug)]
pub struct DoorbellStatus {
    /// What it is doing.
    pub state: DoorbellState,
    /// Bells heard.
    pub rings: u64,
    /// Transactions sealed while busy, for which no bell rang.
    pub skips: u64,
    /// Seals by this hub.
    pub seals: u64,
    /// Events in them.
    pub sealed_events: u64,
}

/// A kind at a moment.
#[derive(Debug)]
pub struct KindStatus {
    /// Its name.
    pub kind: KindName,
    /// Its open watches.
    pub subscriptions: u64,
    /// Everything up to here has been published.
    pub head: Revision,
    /// Events in memory.
    pub window_events: u64,
    /// The bytes of these events.
    pub window_bytes: u64,
}

/// Which subscriptions, and how many of them.
#[derive(Debug)]
pub struct SubscriptionQuery {
    /// Of this kind; `None`: of any.
    pub kind: Option<String>,
    /// In one of these states; empty: in any.
    pub states: Vec<SubscriptionState>,
    /// With at least this many events waiting.
    pub min_lag_events: u64,
    /// At most this many.
    pub limit: usize,
}

impl Introspection {
    /// Asks these, behind this door.
    pub fn new(sources: Sources, door: Door) -> Self {
        Self { door, behind: Guarded::new(Arc::new(sources)) }
    }

    /// The hub now.
    pub async fn status(&self, call: &Call) -> Result<HubStatus, Error> {
        Ok(self.enter(call)?.status().await)
    }

    /// The subscriptions that a query is about, the furthest behind first, then the oldest first; and how
    /// many there are.
    pub async fn subscriptions(
        &self,
        call: &Call,
        query: &SubscriptionQuery,
    ) -> Result<(Vec<SubscriptionStatus>, usize), Error> {
        self.enter(call)?.subscriptions(query).await
    }

    /// The attached tables, by name.
    pub async fn tables(&self, call: &Call) -> Result<Vec<Arc<Attached>>, Error> {
        Ok(self.enter(call)?.tables())
    }

    /// Attaches a table. It is watched, here, when this returns.
    pub async fn attach(
        &self,
        call: &Call,
        table: &str,
        choice: &AttachChoice,
    ) -> Result<Arc<Attached>, Error> {
        let name = table_name(table)?;
        let sources = self.enter_of(call, &name)?;
        sources.store.attach(&name, choice).await?;
        sources.tables.notify_one();
        let mut changes = sources.catalog.changes();
        let is_it = |attached: &Arc<Attached>| attached.table.name == name;
        let coming = changes.wait_for(|_| sources.tables().iter().any(is_it));
        match tokio::time::timeout(COMING, coming).await {
            Ok(_) => sources.tables().into_iter().find(is_it).ok_or(Error::DeadlineExceeded),
            Err(_) => Err(Error::Unavailable {
                why: "the table is attached, and this hub has not seen it yet",
                retry_after: Duration::from_secs(1),
            }),
        }
    }

    /// Stops watching a table.
    pub async fn detach(&self, call: &Call, table: &str, purge: bool) -> Result<(), Error> {
        let name = table_name(table)?;
        let sources = self.enter_of(call, &name)?;
        sources.store.detach(&name, purge).await?;
        sources.tables.notify_one();
        Ok(())
    }

    fn enter(&self, call: &Call) -> Result<&Sources, Error> {
        Ok(self.behind.open(&self.door.authorize(call, Action::Admin, None)?))
    }

    fn enter_of(&self, call: &Call, table: &TableName) -> Result<&Sources, Error> {
        Ok(self.behind.open(&self.door.authorize_table(call, table)?))
    }
}

/// What was attached is watched within this.
const COMING: Duration = Duration::from_secs(10);

fn table_name(text: &str) -> Result<TableName, Error> {
    text.parse().map_err(|error: BadName| Error::invalid("table", error.to_string()))
}

impl Sources {
    fn tables(&self) -> Vec<Arc<Attached>> {
        let mut tables: Vec<_> =
            self.catalog.kinds().iter().filter_map(|kind| kind.attached.clone()).collect();
        tables.sort_by(|one, other| one.table.name.cmp(&other.table.name));
        tables
    }

    async fn status(&self) -> HubStatus {
        let asking = async { tokio::try_join!(self.store.status(), self.store.controllers()) };
        let database = self.in_time("status", asking).await;
        let subscriptions = self.broker.subscriptions();
        let count = |kind: &KindName| subscriptions.iter().filter(|open| open.kind == *kind).count() as u64;
        let era = self.broker.era();
        let topics = || era.iter().flat_map(|era| era.topics());
        let mut kinds: Vec<_> = topics()
            .map(|topic| KindStatus {
                kind: topic.kind().clone(),
                subscriptions: count(topic.kind()),
                head: topic.head(),
                window_events: topic.window().events,
                window_bytes: topic.window().bytes as u64,
            })
            .collect();
        kinds.sort_by(|one, other| one.kind.cmp(&other.kind));
        HubStatus {
            uptime: self.started.elapsed(),
            reasons: self.health.reasons(),
            head: topics().map(|topic| topic.head()).min().unwrap_or_default(),
            oldest: topics().map(|topic| topic.oldest()).max().unwrap_or_default(),
            epoch: era.as_ref().map(|era| era.epoch.clone()),
            doorbell: DoorbellStatus {
                state: self.doorbell.state(),
                rings: self.metrics.doorbell_rings.get(),
                skips: self.metrics.doorbell_skips.get(),
                seals: self.metrics.seals.get(),
                sealed_events: self.metrics.sealed_events.get(),
            },
            kinds,
            database,
        }
    }

    async fn subscriptions(
        &self,
        query: &SubscriptionQuery,
    ) -> Result<(Vec<SubscriptionStatus>, usize), Error> {
        if let Some(unknown) = &query.kind
            && self.catalog.kinds().get(unknown).is_none()
        {
            return Err(Error::invalid("kind", format!("{unknown:?} is not watched")));
        }
        let mut found = self.broker.subscriptions();
        found.retain(|open| {
            query.kind.as_ref().is_none_or(|kind| open.kind == **kind)
                && (query.states.is_empty() || query.states.contains(&open.state))
                && open.lag_events >= query.min_lag_events
        });
        found.sort_by_key(|open| Reverse((open.lag_events, open.age)));
        let total = found.len();
        found.truncate(query.limit);
        self.date(&mut found).await;
        Ok((found, total))
    }

    /// Watches that do not read the window wait for events that have left memory: the database knows when
    /// those were sealed.
    async fn date(&self, found: &mut [SubscriptionStatus]) {
        let mut undated: Vec<_> = found.iter_mut().filter(|open| !open.reads_window()).collect();
        if undated.is_empty() {
            return;
        }
        let revisions: Vec<_> = undated.iter().map(|open| open.revision).collect();
        if let Some(lags) = self.in_time("lags", self.store.waiting_since(&revisions)).await {
            undated.iter_mut().zip(lags).for_each(|(open, lag)| open.lag = lag);
        }
    }

    async fn in_time<T>(&self, what: &str, asking: impl Future<Output = Result<T, Error>>) -> Option<T> {
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(what, error = format!("{:#}", anyhow::Error::from(error)), "introspection");
                None
            }
            Err(_) => None,
        }
    }
}
