//! A hub: built, started, drained. Everything that runs is owned here.

mod authentication;
mod endpoints;
mod pooler;

pub use crate::upkeep::{Issuing, KeySource, TokenRules, read_policy};
use authentication::Access;
pub use authentication::Authentication;
pub use endpoints::{Addresses, Endpoints};

use crate::{
    broker::{Ending, EventBroker, Limits},
    catalog::Catalog,
    controller::{self, AuditTrail, Controllers},
    faces::{
        Registry,
        grpc::{Grpc, GrpcFace},
        http, ops,
    },
    feed::{self, Doorbell, Pipeline, SealedFeed, reader::LogReader, snapshot::Snapshots},
    health::Health,
    model::{KindName, Wishes},
    server::{Calls, ConnectionLimits, Server, Tls},
    service::{
        Means, UseCases,
        import::{self, Bulk},
        keys::Keys,
        operate::{Introspection, Sources},
    },
    store::{Store, Target, migrate},
    telemetry::Metrics,
    upkeep::{self, Follower},
};
use anyhow::Context;
use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The default of [`Settings::db_pool_size`].
pub const DB_POOL_SIZE: u16 = 16;
/// The default of [`Settings::max_state_spool_bytes`].
pub const MAX_STATE_SPOOL_BYTES: u64 = 4 << 30;
/// The default of [`Settings::max_message_bytes`].
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The default of [`Settings::call_timeout`].
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The default of [`Settings::drain_timeout`].
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the files of certificates are looked at.
const RELOAD: Duration = Duration::from_secs(10);
/// How often blocked streams are looked for.
const SWEEP: Duration = Duration::from_millis(250);
/// How long the client of an ended stream is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The operator's calls are short; their streams (health, reflection) may be open for ever.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);

/// How a hub runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub target: Target,
    /// Tables to attach when they appear.
    pub tables: Wishes,
    /// Whether the kinds of this program are created and watched, besides what is attached.
    pub compiled_kinds: bool,
    /// Whether to bring it to this program's schema first.
    pub migrate: bool,
    /// Connections for calls.
    pub db_pool_size: usize,
    /// How the hub follows the database.
    pub capture: feed::Settings,
    /// The controllers.
    pub controllers: Controllers,
    /// How they run.
    pub controller: controller::Settings,
    /// Bounds on logs and watches.
    pub limits: Limits,
    /// Bytes of initial states on the disk, beyond which no other is begun.
    pub max_state_spool_bytes: u64,
    /// Bounds on bulk calls.
    pub bulk: import::Limits,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// The largest request, in bytes.
    pub max_message_bytes: usize,
    /// The metadata that names the caller, if it is to be believed.
    pub trusted_actor: Option<::http::HeaderName>,
    /// Who must be known to call, and how.
    pub authentication: Authentication,
    /// Whom the HTTP API answers.
    pub gate: http::Gate,
    /// The longest unary call.
    pub call_timeout: Duration,
    /// Which listeners are encrypted, and how.
    pub tls: ListenersTls,
    /// How long the stop waits for calls under way.
    pub drain_timeout: Duration,
    /// Threads that serve connections.
    pub lanes: usize,
}

impl Settings {
    /// The defaults, for a database.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            tables: Wishes::default(),
            compiled_kinds: true,
            migrate: true,
            db_pool_size: DB_POOL_SIZE.into(),
            capture: feed::Settings::default(),
            controllers: Controllers::default(),
            controller: controller::Settings::default(),
            limits: Limits::default(),
            max_state_spool_bytes: MAX_STATE_SPOOL_BYTES,
            bulk: import::Limits::default(),
            connections: ConnectionLimits::default(),
            max_message_bytes: MAX_MESSAGE_BYTES,
            trusted_actor: None,
            authentication: Authentication::default(),
            gate: http::Gate::default(),
            call_timeout: CALL_TIMEOUT,
            tls: ListenersTls::default(),
            drain_timeout: DRAIN_TIMEOUT,
            lanes: 2,
        }
    }
}

/// TLS of each listener; `None`: plain text.
#[derive(Clone)]
pub struct ListenersTls {
    /// gRPC.
    pub grpc: Option<Arc<Tls>>,
    /// The operator's gRPC.
    pub admin: Option<Arc<Tls>>,
    /// The HTTP API.
    pub api: Option<Arc<Tls>>,
    /// Metrics.
    pub metrics: Option<Arc<Tls>>,
    /// Health.
    pub health: Option<Arc<Tls>>,
    /// How often the certificate files are checked.
    pub reload: Duration,
}

impl Default for ListenersTls {
    fn default() -> Self {
        Self { grpc: None, admin: None, api: None, metrics: None, health: None, reload: RELOAD }
    }
}

impl std::fmt::Debug for ListenersTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encrypted = self.listeners().map(|tls| tls.is_some());
        formatter.debug_tuple("ListenersTls").field(&encrypted).finish()
    }
}

impl ListenersTls {
    fn listeners(&self) -> [&Option<Arc<Tls>>; 5] {
        [&self.grpc, &self.admin, &self.api, &self.metrics, &self.health]
    }

    /// Each once, though several listeners may share one.
    fn each(&self) -> Vec<Arc<Tls>> {
        let mut each: Vec<Arc<Tls>> = Vec::new();
        for tls in self.listeners().into_iter().flatten() {
            if !each.iter().any(|known| Arc::ptr_eq(known, tls)) {
                each.push(tls.clone());
            }
        }
        each
    }
}

/// A running hub.
pub struct App {
    addresses: Addresses,
    health: Arc<Health>,
    catalog: Catalog,
    broker: Arc<EventBroker>,
    bulk: Bulk,
    metrics: Arc<Metrics>,
    store: Store,
    server: Option<Server>,
    api: Server,
    /// Serves the operator until everything else has ended.
    admin: Server,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl App {
    /// Starts the hub of this program's kinds.
    pub async fn start(settings: Settings, endpoints: Endpoints) -> anyhow::Result<Self> {
        let registry = match settings.compiled_kinds {
            true => Registry::of_this_program(),
            false => Registry::new(Vec::new()),
        };
        Self::start_with(settings, endpoints, registry).await
    }

    /// Starts a hub of these kinds. When it returns, the hub serves; its readiness says whether it sees its
    /// database.
    pub async fn start_with(
        mut settings: Settings,
        endpoints: Endpoints,
        registry: Registry,
    ) -> anyhow::Result<Self> {
        pooler::poll_behind_one(&mut settings).await;
        let pipeline = build(&settings, &registry).await?;
        let bulk = Bulk::new(pipeline.store.clone(), settings.db_pool_size, settings.bulk, &pipeline.metrics);
        let access = Access::new(&settings, &pipeline)?;
        let cases = use_cases(&settings, &pipeline, &bulk, &access);
        let mut follower = Follower::new(pipeline.clone(), settings.tables.clone());
        if settings.migrate {
            follower.begin().await.context("--tables")?;
        }
        let mut running = Running::new(access);
        let addresses = endpoints.addresses();
        let Endpoints { grpc, admin, api, metrics, health } = endpoints;
        let tls = settings.tls.clone();
        let server = match grpc {
            Some(listeners) => {
                let services = services(&settings, &registry, &cases);
                let (lanes, drain) = (settings.lanes, settings.drain_timeout);
                Some(
                    running
                        .serve(&settings, &pipeline, services, (listeners, tls.grpc.clone()), (lanes, drain))
                        .await?,
                )
            }
            None => None,
        };
        let grpc = running.face(&pipeline, services(&settings, &registry, &cases)).await?;
        let api = serve_http(&settings, &pipeline, (&registry, grpc), (&cases, &running.access), api)?;
        let services = operator_services(&settings, &pipeline, &running.access);
        // On its own lane, so that it never waits for the watches.
        let drain = settings.drain_timeout.min(ADMIN_DRAIN);
        let admin =
            running.serve(&settings, &pipeline, services, (admin, tls.admin.clone()), (1, drain)).await?;
        let Running { stop, tasks, access } = &mut running;
        let hosts = &settings.gate.hosts;
        ops::serve(
            metrics,
            tls.metrics.as_ref(),
            &ops::metrics(pipeline.metrics.clone()),
            hosts,
            stop,
            tasks,
        )?;
        ops::serve(
            health,
            tls.health.as_ref(),
            &ops::health(pipeline.health.clone(), !settings.authentication.is_required()),
            hosts,
            stop,
            tasks,
        )?;
        for certificate in tls.each() {
            tasks.spawn(certificate.follow(tls.reload, stop.clone()));
        }
        access.spawn(&settings, &pipeline.store, stop, tasks);
        settings.controllers.spawn(&controller_resources(&pipeline), settings.controller, stop, tasks);
        let history = feed::spawn(&pipeline, stop, tasks);
        upkeep::spawn(&pipeline, settings.capture, (history, follower), stop, tasks);
        tasks.spawn(sweep(pipeline.broker.clone(), stop.clone()));
        let Pipeline { health, catalog, broker, metrics, store, .. } = pipeline;
        let Running { stop, tasks, .. } = running;
        Ok(Self { addresses, health, catalog, broker, bulk, metrics, store, server, api, admin, tasks, stop })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether it is ready, and why not.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Its kinds, which may change while it runs.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Its broker.
    pub fn broker(&self) -> &Arc<EventBroker> {
        &self.broker
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Drains: readiness off, watches and bulk streams ended with UNAVAILABLE, calls in progress finished;
    /// then everything else ends.
    pub async fn stop(mut self) {
        tracing::info!("draining");
        self.health.draining();
        self.broker.drain(Ending::ShuttingDown { retry_after: RETRY_AFTER });
        self.bulk.drain();
        // The operator's listener last: it shows the drain.
        for server in self.server.take().into_iter().chain([self.api, self.admin]) {
            if let Err(error) = server.stop().await {
                tracing::error!(%error, "stopping a server");
            }
        }
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task failed");
            }
        }
        self.store.close();
        tracing::info!("drained");
    }
}

/// What everything else works with. Brings the database to this program's schema first, if asked to.
async fn build(settings: &Settings, registry: &Registry) -> anyhow::Result<Pipeline> {
    let kinds = registry.kinds();
    settings.controllers.check(&kinds.names().map(KindName::as_str).collect::<Vec<_>>())?;
    if settings.migrate {
        let applied = migrate(&settings.target, &kinds.scopes())
            .await
            .with_context(|| format!("Postgres at {}", settings.target.describe()))?;
        tracing::info!(applied, "migrated");
    }
    let metrics = Arc::new(Metrics::new(kinds.names())?);
    let (catalog, doorbell, tables) =
        (Catalog::new(kinds), Arc::<Doorbell>::default(), Arc::<Notify>::default());
    let target = match settings.capture.wakeups {
        feed::Wakeups::Listen => settings.target.clone(),
        feed::Wakeups::Poll => settings.target.clone().pooled(),
    };
    let told = (doorbell.clone(), tables.clone());
    Ok(Pipeline {
        feed: Arc::new(SealedFeed::new(target.clone(), settings.capture, metrics.clone(), told)),
        store: Store::new(&target, settings.db_pool_size)?,
        broker: Arc::new(EventBroker::new(catalog.clone(), settings.limits, metrics.clone())),
        catalog,
        health: Arc::new(Health::default()),
        metrics,
        doorbell,
        target,
        tables,
    })
}

fn use_cases(settings: &Settings, pipeline: &Pipeline, bulk: &Bulk, access: &Access) -> UseCases {
    let (feed, catalog) = (&pipeline.feed, &pipeline.catalog);
    let means = Means {
        store: pipeline.store.clone(),
        broker: pipeline.broker.clone(),
        snapshots: Snapshots::new(feed.clone(), catalog.clone(), settings.max_state_spool_bytes),
        bulk: bulk.clone(),
        reader: LogReader::new(pipeline.feed.replay().clone()),
        catalog: catalog.clone(),
        metrics: pipeline.metrics.clone(),
        keeps_audit: settings.controllers.names().any(|name| name == AuditTrail::NAME),
    };
    UseCases::new(means, access.door.clone())
}

/// What clients call.
fn services(settings: &Settings, registry: &Registry, cases: &UseCases) -> Grpc {
    let mut grpc = Grpc::new(settings.max_message_bytes);
    registry.serve(cases, &mut grpc);
    grpc.serve(cases);
    grpc
}

/// Serves the HTTP API, and these services as gRPC-Web, on these listeners.
fn serve_http(
    settings: &Settings,
    pipeline: &Pipeline,
    (registry, grpc): (&Registry, GrpcFace),
    (cases, access): (&UseCases, &Access),
    listeners: Vec<TcpListener>,
) -> anyhow::Result<Server> {
    let mut served = http::Http::default();
    served.serve(cases);
    registry.serve_http(cases, &mut served);
    let (gate, metrics) = (settings.gate.clone(), pipeline.metrics.clone());
    let face = served.finish(gate, grpc, settings.max_message_bytes, metrics)?;
    let calls = Calls::new(face, settings.call_timeout)
        .trusting(settings.trusted_actor.clone())
        .known_by(access.authenticator.clone());
    let tls = settings.tls.api.clone();
    Ok(Server::start(listeners, tls, &calls, settings.lanes, settings.connections, settings.drain_timeout)?)
}

/// What the operator calls.
fn operator_services(settings: &Settings, pipeline: &Pipeline, access: &Access) -> Grpc {
    let mut grpc = Grpc::new(settings.max_message_bytes);
    let sources = Sources {
        store: pipeline.store.clone(),
        broker: pipeline.broker.clone(),
        health: pipeline.health.clone(),
        metrics: pipeline.metrics.clone(),
        doorbell: pipeline.doorbell.clone(),
        catalog: pipeline.catalog.clone(),
        tables: pipeline.tables.clone(),
        started: Instant::now(),
    };
    let introspection = Introspection::new(sources, access.door.clone());
    let keys = Keys::new(pipeline.store.clone(), access.authenticator.clone(), access.door.clone());
    grpc.serve_admin(introspection, keys);
    grpc
}

fn controller_resources(pipeline: &Pipeline) -> controller::Resources {
    controller::Resources {
        target: pipeline.target.clone(),
        feed: pipeline.feed.clone(),
        store: pipeline.store.clone(),
        broker: pipeline.broker.clone(),
        metrics: pipeline.metrics.clone(),
    }
}

/// The tasks of a hub that starts, and how to stop them.
struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    access: Access,
}

impl Running {
    fn new(access: Access) -> Self {
        Self { stop: CancellationToken::new(), tasks: JoinSet::new(), access }
    }

    /// Services, ready to be served, with a health that follows the hub's.
    async fn face(&mut self, pipeline: &Pipeline, services: Grpc) -> anyhow::Result<GrpcFace> {
        let (face, report) = services.finish(pipeline.health.clone(), pipeline.metrics.clone()).await?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(report).await;
        });
        Ok(face)
    }

    /// Serves services on listeners, with this number of lanes and this bound on the drain.
    async fn serve(
        &mut self,
        settings: &Settings,
        pipeline: &Pipeline,
        services: Grpc,
        (listeners, tls): (Vec<TcpListener>, Option<Arc<Tls>>),
        (lanes, drain): (usize, Duration),
    ) -> anyhow::Result<Server> {
        let face = self.face(pipeline, services).await?;
        let calls = Calls::new(face, settings.call_timeout)
            .trusting(settings.trusted_actor.clone())
            .known_by(self.access.authenticator.clone());
        Ok(Server::start(listeners, tls, &calls, lanes, settings.connections, drain)?)
    }
}

async fn sweep(broker: Arc<EventBroker>, stop: CancellationToken) {
    let sweep_for_ever = async {
        let mut interval = tokio::time::interval(SWEEP);
        loop {
            interval.tick().await;
            // Filters judge what slow streams lost: on a thread where nobody waits for them.
            let broker = broker.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || broker.sweep()).await {
                tracing::error!(%error, "sweeping");
            }
        }
    };
    stop.run_until_cancelled(sweep_for_ever).await;
}
