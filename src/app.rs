//! A hub: built, started, drained. Everything that runs is owned here.

use crate::{
    broker::{Ending, EventBroker, Limits},
    catalog::Catalog,
    controller::{self, Controllers},
    faces::Registry,
    faces::{
        grpc::{Grpc, Hub, serve_audit},
        ops,
    },
    feed::reader::LogReader,
    feed::snapshot::Snapshots,
    feed::{self, Doorbell, Parts},
    health::Health,
    model::KindName,
    server::{self, Calls, ConnectionLimits, Server},
    service::import::{self, Bulk},
    service::operate::Introspection,
    store::{Store, Target, migrate},
    telemetry::Metrics,
};
use anyhow::Context;
use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Blocked streams are looked for so often.
const SWEEP: Duration = Duration::from_millis(250);
/// What an ended stream is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The operator's calls are short; their streams (health, reflection) may be open for ever.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);

/// How a hub runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub target: Target,
    /// Whether to bring it to this program's schema first.
    pub migrate: bool,
    /// Connections for calls.
    pub db_pool_size: usize,
    /// How the hub follows the database.
    pub capture: feed::Settings,
    /// What acts on changes.
    pub controllers: Controllers,
    /// How that runs.
    pub controller: controller::Settings,
    /// Bounds on logs and watches.
    pub limits: Limits,
    /// Bytes of initial states on the disk, beyond which none is begun.
    pub max_state_spool_bytes: u64,
    /// Bounds on bulk calls.
    pub bulk: import::Limits,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// The largest request, in bytes.
    pub max_message_bytes: usize,
    /// The metadata that says who calls, if it is to be believed.
    pub trusted_actor: Option<http::HeaderName>,
    /// The longest unary call.
    pub call_timeout: Duration,
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
            migrate: true,
            db_pool_size: 16,
            capture: feed::Settings::default(),
            controllers: Controllers::default(),
            controller: controller::Settings::default(),
            limits: Limits::default(),
            max_state_spool_bytes: 4 << 30,
            bulk: import::Limits::default(),
            connections: ConnectionLimits {
                streams: 1024,
                send_buffer: 64 * 1024,
                keepalive: Duration::from_secs(20),
            },
            max_message_bytes: 4 << 20,
            trusted_actor: None,
            call_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(15),
            lanes: 2,
        }
    }
}

/// Sockets that are bound and not yet served.
pub struct Endpoints {
    grpc: Option<Vec<TcpListener>>,
    admin: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    health: Vec<TcpListener>,
}

/// Where a hub listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// gRPC, if it is served.
    pub grpc: Option<String>,
    /// The operator's gRPC.
    pub admin: String,
    /// Metrics.
    pub metrics: String,
    /// Health.
    pub health: String,
}

impl Endpoints {
    /// Binds them all, or none.
    pub async fn bind(
        grpc: Option<&String>,
        admin: &str,
        metrics: &str,
        health: &str,
    ) -> Result<Self, server::BindError> {
        Ok(Self {
            grpc: match grpc {
                Some(address) => Some(server::bind("--grpc-server-bindaddress", address).await?),
                None => None,
            },
            admin: server::bind("--admin-server-bindaddress", admin).await?,
            metrics: server::bind("--metrics-server-bindaddress", metrics).await?,
            health: server::bind("--health-check-server-bindaddress", health).await?,
        })
    }

    /// Any free ports of the loopbacks.
    pub async fn ephemeral() -> Result<Self, server::BindError> {
        Self::bind(Some(&"localhost:0".to_owned()), "localhost:0", "localhost:0", "localhost:0").await
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            grpc: self.grpc.as_deref().map(describe),
            admin: describe(&self.admin),
            metrics: describe(&self.metrics),
            health: describe(&self.health),
        }
    }
}

/// Both loopbacks are `localhost`.
fn describe(listeners: &[TcpListener]) -> String {
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    match addresses.as_slice() {
        [first, ..] if addresses.iter().all(|address| address.ip().is_loopback()) => {
            format!("localhost:{}", first.port())
        }
        [first, ..] => first.to_string(),
        [] => String::new(),
    }
}

/// A running hub.
pub struct App {
    addresses: Addresses,
    health: Arc<Health>,
    broker: Arc<EventBroker>,
    bulk: Bulk,
    metrics: Arc<Metrics>,
    store: Store,
    server: Option<Server>,
    /// Serves the operator until everything else has ended.
    admin: Server,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl App {
    /// Starts the hub of this program's kinds.
    pub async fn start(settings: Settings, endpoints: Endpoints) -> anyhow::Result<Self> {
        Self::start_with(settings, endpoints, Registry::of_this_program()).await
    }

    /// Starts a hub of these kinds. When it returns, the hub serves; whether it sees its database is told by its readiness.
    pub async fn start_with(
        settings: Settings,
        endpoints: Endpoints,
        registry: Registry,
    ) -> anyhow::Result<Self> {
        let kinds = registry.kinds();
        let catalog = Catalog::new(kinds.clone());
        settings.controllers.check(&kinds.names().map(KindName::as_str).collect::<Vec<_>>())?;
        if settings.migrate {
            let applied = migrate(&settings.target, &kinds.scopes())
                .await
                .with_context(|| format!("Postgres at {}", settings.target.describe()))?;
            tracing::info!(applied, "migrated");
        }
        let metrics = Arc::new(Metrics::new(kinds.names())?);
        let health = Arc::new(Health::default());
        let store = Store::new(
            &settings.target,
            settings.db_pool_size,
            settings.capture.wakeups == feed::Wakeups::Listen,
        )?;
        let broker = Arc::new(EventBroker::new(catalog.clone(), settings.limits, metrics.clone()));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let addresses = endpoints.addresses();

        let snapshots =
            Snapshots::new(settings.target.clone(), catalog.clone(), settings.max_state_spool_bytes);
        let bulk = Bulk::new(store.clone(), settings.db_pool_size, settings.bulk, &metrics);
        let hub = Hub { store: store.clone(), broker: broker.clone(), snapshots, bulk: bulk.clone() };
        let mut grpc = Grpc::new(settings.max_message_bytes);
        registry.serve(&hub, &mut grpc);
        let session = settings.capture.wakeups == feed::Wakeups::Listen;
        let reader = LogReader::new(settings.target.clone(), session);
        grpc.serve_events(reader, catalog.clone(), broker.clone(), metrics.clone());
        serve_audit(&hub, &mut grpc);
        let doorbell = Arc::new(Doorbell::default());
        let mut admin = Grpc::new(settings.max_message_bytes);
        admin.serve_admin(Introspection {
            store: store.clone(),
            broker: broker.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            doorbell: doorbell.clone(),
            catalog: catalog.clone(),
            started: Instant::now(),
        });
        let mut serve = |grpc: Grpc, listeners, lanes, drain| {
            let (face, report) = grpc.finish(health.clone(), metrics.clone())?;
            let reporting = stop.clone();
            tasks.spawn(async move {
                reporting.run_until_cancelled(report).await;
            });
            let calls = Calls::new(face, settings.call_timeout).trusting(settings.trusted_actor.clone());
            anyhow::Ok(Server::start(listeners, &calls, lanes, settings.connections, drain)?)
        };
        let server = endpoints
            .grpc
            .map(|listeners| serve(grpc, listeners, settings.lanes, settings.drain_timeout))
            .transpose()?;
        // Never behind the watches: a lane of its own.
        let admin = serve(admin, endpoints.admin, 1, settings.drain_timeout.min(ADMIN_DRAIN))?;
        ops::serve(endpoints.metrics, &ops::metrics(metrics.clone()), &stop, &mut tasks)?;
        ops::serve(endpoints.health, &ops::health(health.clone()), &stop, &mut tasks)?;

        let parts = controller::Parts {
            target: settings.target.clone(),
            store: store.clone(),
            broker: broker.clone(),
            metrics: metrics.clone(),
        };
        settings.controllers.spawn(&parts, settings.controller, &stop, &mut tasks);
        let parts = Parts {
            target: settings.target,
            store: store.clone(),
            catalog,
            broker: broker.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            doorbell,
        };
        feed::spawn(&parts, settings.capture, &stop, &mut tasks);
        tasks.spawn(sweep(broker.clone(), stop.clone()));
        Ok(Self { addresses, health, broker, bulk, metrics, store, server, admin, tasks, stop })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether it is ready, and why not.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Its broker.
    pub fn broker(&self) -> &Arc<EventBroker> {
        &self.broker
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Drains: readiness off, watches and bulk streams ended with UNAVAILABLE, calls under way finished; then everything else ends.
    pub async fn stop(mut self) {
        tracing::info!("draining");
        self.health.draining();
        self.broker.drain(Ending::ShuttingDown { retry_after: RETRY_AFTER });
        self.bulk.drain();
        // The operator's last: whoever waits for the drain may look at it.
        for server in self.server.take().into_iter().chain([self.admin]) {
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
