//! `trex serve`: arguments → logs → database → hub → drain.

mod database;

use super::{
    authentication::AuthenticationOptions,
    duration,
    listeners::{ADMIN, GRPC, ListenerOptions},
    print::print,
    time,
};
use crate::{
    app::{self, App, Authentication, Endpoints, ListenersTls},
    broker::Limits,
    controller::{self, AuditTrail, Controllers},
    faces::{host::Hosts, http::Gate},
    feed::{Retention, Settings, Wakeups},
    model::{BadName, Wishes},
    server::{ConnectionLimits, Tls},
    service::import::{self, LARGEST_BATCH},
    store::Target,
    telemetry::{LogFormat, init_logs},
};
use database::Database;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Run a hub (the default): on its own Postgres, or on the one at --database-url
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// A file with options, as `name = value` lines in TOML
    #[arg(long, env = "TREX_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// The Postgres to watch; without it the hub runs its own
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// Where the hub's own Postgres keeps its data
    /// [default: /var/lib/trex/postgres for root, else ~/.local/share/trex/postgres]
    #[arg(long, env = "TREX_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Where the binaries of Postgres are, if they are not where they usually are
    #[arg(long, env = "PG_BINDIR", value_name = "DIR")]
    pub(super) pg_bindir: Option<PathBuf>,
    /// Tables to attach: names and patterns such as 'public.*', separated by commas; tables that match a
    /// pattern are attached when they appear
    #[arg(
        long, env = "TREX_TABLES", default_value = "", hide_default_value = true, value_parser = wishes,
        value_name = "NAMES"
    )]
    tables: Wishes,
    /// Whether to create and watch the table of dinosaurs, to try things out
    /// [default: only in the hub's own Postgres]
    #[arg(
        long, env = "TREX_DINOSAURS", default_missing_value = "true", num_args = 0..=1,
        action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    dinosaurs: Option<bool>,
    /// Whether to bring the database to this program's schema at the start
    #[arg(
        long, env = "TREX_MIGRATE", default_value_t = true, action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub(super) migrate: bool,
    /// Connections for calls that read or write the database
    #[arg(
        long, env = "TREX_DB_POOL_SIZE", default_value_t = app::DB_POOL_SIZE,
        value_parser = clap::value_parser!(u16).range(1..), value_name = "N"
    )]
    pub(super) db_pool_size: u16,

    /// Where gRPC listens
    #[arg(
        long,
        env = "TREX_GRPC_SERVER_BINDADDRESS",
        default_value = GRPC,
        value_name = "ADDRESS"
    )]
    grpc_server_bindaddress: String,
    /// Whether to serve gRPC at all
    #[arg(
        long, env = "TREX_ENABLE_GRPC", default_value_t = true, action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    enable_grpc: bool,
    /// Where the operator's gRPC listens: `trex status`, `trex subscriptions`
    #[arg(
        long,
        env = "TREX_ADMIN_SERVER_BINDADDRESS",
        default_value = ADMIN,
        value_name = "ADDRESS"
    )]
    admin_server_bindaddress: String,
    /// Where the HTTP API listens
    #[arg(
        long,
        env = "TREX_API_SERVER_BINDADDRESS",
        default_value = "localhost:8000",
        value_name = "ADDRESS"
    )]
    api_server_bindaddress: String,
    /// Names, separated by commas, that the HTTP API goes by, besides IP addresses and localhost
    #[arg(long, env = "TREX_HTTP_HOSTS", value_delimiter = ',', value_name = "NAMES")]
    http_hosts: Vec<String>,
    /// Origins, separated by commas, whose pages may use the HTTP API, such as https://app.example.com
    #[arg(long, env = "TREX_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGINS")]
    cors_origins: Vec<String>,
    /// Where /metrics is
    #[arg(
        long,
        env = "TREX_METRICS_SERVER_BINDADDRESS",
        default_value = "localhost:8080",
        value_name = "ADDRESS"
    )]
    metrics_server_bindaddress: String,
    /// Where /healthcheck and /readyz are
    #[arg(
        long,
        env = "TREX_HEALTH_CHECK_SERVER_BINDADDRESS",
        default_value = "localhost:8083",
        value_name = "ADDRESS"
    )]
    pub(super) health_check_server_bindaddress: String,

    #[command(flatten)]
    listeners: ListenerOptions,
    #[command(flatten)]
    authentication: AuthenticationOptions,

    /// How the hub learns of changes; behind a pooler that keeps no session it polls in any case
    #[arg(long, env = "TREX_WAKEUPS", value_enum, default_value_t = Settings::default().wakeups)]
    wakeups: Wakeups,
    /// How often a sleeping hub looks for changes even if no bell rings
    #[arg(
        long, env = "TREX_BACKUP_POLL_INTERVAL", default_value = time(Settings::default().backup_poll),
        value_parser = duration, value_name = "TIME"
    )]
    backup_poll_interval: Duration,
    /// How often a polling hub at rest looks for changes
    #[arg(
        long, env = "TREX_POLL_INTERVAL", default_value = time(Settings::default().poll),
        value_parser = duration, value_name = "TIME"
    )]
    poll_interval: Duration,

    /// How often the triggers of the watched tables are checked
    #[arg(
        long, env = "TREX_INSPECTION_INTERVAL", default_value = time(Settings::default().inspect),
        value_parser = duration, value_name = "TIME"
    )]
    inspection_interval: Duration,
    /// How long history is kept; a watch can resume that far back
    #[arg(
        long, env = "TREX_RETENTION_AGE", default_value = time(Retention::default().age),
        value_parser = duration, value_name = "TIME"
    )]
    retention_age: Duration,
    /// How many events of history are kept at most
    #[arg(
        long, env = "TREX_RETENTION_EVENTS", default_value_t = Retention::default().events,
        value_name = "EVENTS"
    )]
    pub(super) retention_events: u64,
    /// How often history that may go is deleted
    #[arg(
        long, env = "TREX_COMPACTION_INTERVAL", default_value = time(Retention::default().interval),
        value_parser = duration, value_name = "TIME"
    )]
    compaction_interval: Duration,

    /// Items that a bulk call commits at a time, if its request does not say
    #[arg(
        long, env = "TREX_BULK_BATCH_SIZE", default_value_t = import::Limits::default().batch_size,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(LARGEST_BATCH)), value_name = "ITEMS"
    )]
    bulk_batch_size: u32,
    /// Bulk calls at a time
    #[arg(
        long, env = "TREX_MAX_BULK_STREAMS", default_value_t = import::Limits::default().streams,
        value_name = "N"
    )]
    max_bulk_streams: usize,
    /// An import that has rested for this long is forgotten, and cannot be resumed
    #[arg(
        long, env = "TREX_IMPORT_RETENTION", default_value = time(Retention::default().imports),
        value_parser = duration, value_name = "TIME"
    )]
    import_retention: Duration,
    /// Whether to keep an audit trail: who changed what, when, and how it was before and after
    #[arg(
        long, env = "TREX_AUDIT", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    audit: bool,
    /// How long the records of the audit trail are kept
    #[arg(
        long, env = "TREX_AUDIT_RETENTION", default_value = time(AuditTrail::KEPT), value_parser = duration,
        value_name = "TIME"
    )]
    audit_retention: Duration,

    /// The metadata of a call that names its caller, such as `trex-actor`: it is believed, so only a proxy
    /// that sets it may reach the hub
    #[arg(long, env = "TREX_TRUST_ACTOR_METADATA", value_name = "NAME")]
    trust_actor_metadata: Option<http::HeaderName>,

    /// Memory for the newest events, per kind, in bytes
    #[arg(
        long, env = "TREX_LOG_WINDOW_BYTES", default_value_t = Limits::default().window_bytes as u64,
        value_parser = clap::value_parser!(u64).range(1 << 20..), value_name = "BYTES"
    )]
    log_window_bytes: u64,
    /// Events that a watch may fall behind while its connection takes no bytes, if its request does not say
    #[arg(
        long, env = "TREX_WATCH_BUFFER", default_value_t = Limits::default().default_buffer,
        value_parser = clap::value_parser!(u64).range(1..), value_name = "EVENTS"
    )]
    watch_buffer: u64,
    /// The most that a request may ask for
    #[arg(
        long, env = "TREX_WATCH_MAX_BUFFER", default_value_t = Limits::default().max_buffer,
        value_name = "EVENTS"
    )]
    watch_max_buffer: u64,
    /// A watch whose connection has taken no byte for this long is blocked
    #[arg(
        long, env = "TREX_WATCH_BLOCKED_AFTER", default_value = time(Limits::default().blocked_after),
        value_parser = duration, value_name = "TIME"
    )]
    watch_blocked_after: Duration,
    /// Watches at a time, per kind
    #[arg(
        long, env = "TREX_MAX_WATCHES", default_value_t = Limits::default().max_subscribers, value_name = "N"
    )]
    max_watches: usize,
    /// Disk space for initial states that wait for their clients, in bytes: beyond it no other is begun
    #[arg(
        long, env = "TREX_MAX_STATE_SPOOL_BYTES", default_value_t = app::MAX_STATE_SPOOL_BYTES,
        value_parser = clap::value_parser!(u64).range(1..), value_name = "BYTES"
    )]
    pub(super) max_state_spool_bytes: u64,
    /// Calls at a time, per connection
    #[arg(
        long, env = "TREX_MAX_STREAMS_PER_CONNECTION", default_value_t = ConnectionLimits::default().streams,
        value_parser = clap::value_parser!(u32).range(1..), value_name = "N"
    )]
    max_streams_per_connection: u32,
    /// The largest request, in bytes
    #[arg(
        long, env = "TREX_MAX_MESSAGE_BYTES", default_value_t = app::MAX_MESSAGE_BYTES, value_name = "BYTES"
    )]
    max_message_bytes: usize,
    /// The longest that a unary call may take
    #[arg(
        long, env = "TREX_CALL_TIMEOUT", default_value = time(app::CALL_TIMEOUT), value_parser = duration,
        value_name = "TIME"
    )]
    call_timeout: Duration,
    /// How often a silent connection is pinged
    #[arg(
        long, env = "TREX_KEEPALIVE", default_value = time(ConnectionLimits::default().keepalive),
        value_parser = duration, value_name = "TIME"
    )]
    keepalive: Duration,
    /// How old a connection may become: then its client is told to make another one [default: any age]
    #[arg(long, env = "TREX_CONNECTION_MAX_AGE", value_parser = duration, value_name = "TIME")]
    connection_max_age: Option<Duration>,
    /// How long a stop waits for calls in progress
    #[arg(
        long, env = "TREX_DRAIN_TIMEOUT", default_value = time(app::DRAIN_TIMEOUT), value_parser = duration,
        value_name = "TIME"
    )]
    drain_timeout: Duration,
    /// Threads that serve connections [default: one per processor]
    #[arg(long, env = "TREX_LANES", value_name = "N")]
    lanes: Option<usize>,

    /// What to log, as a tracing filter such as `info` or `trex=debug`
    #[arg(long, env = "TREX_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How to log
    #[arg(long, env = "TREX_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// The config file and the environment may leave it empty.
fn wishes(text: &str) -> Result<Wishes, BadName> {
    if text.trim().is_empty() { Ok(Wishes::default()) } else { text.parse() }
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        init_logs(&self.log, self.log_format)?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stop = async || {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        let (tls, authentication) =
            (self.listeners.read()?, self.authentication.read(self.listeners.asks_for_certificates())?);
        // Before the database: a taken port stops the start with nothing to undo.
        let endpoints = Endpoints::bind(
            self.enable_grpc.then_some(&self.grpc_server_bindaddress),
            &self.admin_server_bindaddress,
            &self.api_server_bindaddress,
            &self.metrics_server_bindaddress,
            &self.health_check_server_bindaddress,
        )
        .await?;
        self.listeners.check(&endpoints, &tls, authentication.is_required())?;
        let database = tokio::select! {
            database = Database::open(&self) => database?,
            () = stop() => return Ok(()),
        };
        let started = async {
            let settings = self.settings(Target::parse(&database.url)?, tls.clone(), authentication);
            let app = App::start(settings, endpoints).await?;
            self.welcome(&app, &database, &tls);
            anyhow::Ok(Some(app))
        };
        let started = tokio::select! {
            started = started => started,
            // It serves nobody yet; a migration that is cut off rolls back.
            () = stop() => Ok(None),
        };
        let result = match started {
            Ok(Some(app)) => {
                stop().await;
                tokio::select! {
                    () = app.stop() => {}
                    // Asked twice.
                    () = stop() => tracing::warn!("not waiting for calls under way"),
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        database.close().await?;
        result
    }

    /// Whether the table of dinosaurs is watched.
    pub(super) fn dinosaurs(&self) -> bool {
        self.dinosaurs.unwrap_or(self.database_url.is_none())
    }

    /// Whether the hub is told to poll.
    pub(super) fn polls(&self) -> bool {
        self.wakeups == Wakeups::Poll
    }

    /// The addresses to listen on, with the flags that set them.
    pub(super) fn addresses(&self) -> Vec<(&'static str, &str)> {
        let grpc = self.enable_grpc.then_some(("--grpc-server-bindaddress", &self.grpc_server_bindaddress));
        let others = [
            ("--admin-server-bindaddress", &self.admin_server_bindaddress),
            ("--api-server-bindaddress", &self.api_server_bindaddress),
            ("--metrics-server-bindaddress", &self.metrics_server_bindaddress),
            ("--health-check-server-bindaddress", &self.health_check_server_bindaddress),
        ];
        grpc.into_iter().chain(others).map(|(flag, address)| (flag, address.as_str())).collect()
    }

    fn settings(&self, target: Target, tls: ListenersTls, authentication: Authentication) -> app::Settings {
        app::Settings {
            target,
            tables: self.tables.clone(),
            compiled_kinds: self.dinosaurs(),
            migrate: self.migrate,
            db_pool_size: self.db_pool_size.into(),
            capture: Settings {
                wakeups: self.wakeups,
                backup_poll: self.backup_poll_interval,
                poll: self.poll_interval,
                inspect: self.inspection_interval,
                retention: Retention {
                    age: self.retention_age,
                    events: self.retention_events,
                    imports: self.import_retention,
                    interval: self.compaction_interval,
                },
                ..Settings::default()
            },
            controllers: Controllers::of_this_program(self.audit.then_some(self.audit_retention)),
            controller: controller::Settings::default(),
            limits: Limits {
                window_bytes: usize::try_from(self.log_window_bytes).unwrap_or(usize::MAX),
                default_buffer: self.watch_buffer,
                max_buffer: self.watch_max_buffer.max(self.watch_buffer),
                blocked_after: self.watch_blocked_after,
                max_subscribers: self.max_watches,
            },
            max_state_spool_bytes: self.max_state_spool_bytes,
            bulk: import::Limits { batch_size: self.bulk_batch_size, streams: self.max_bulk_streams },
            connections: ConnectionLimits {
                streams: self.max_streams_per_connection,
                keepalive: self.keepalive,
                max_age: self.connection_max_age,
                ..ConnectionLimits::default()
            },
            max_message_bytes: self.max_message_bytes,
            trusted_actor: self.trust_actor_metadata.clone(),
            authentication,
            gate: Gate {
                hosts: Hosts::new(self.http_hosts.iter().cloned()),
                origins: self.cors_origins.as_slice().into(),
            },
            call_timeout: self.call_timeout,
            tls,
            drain_timeout: self.drain_timeout,
            lanes: self.lanes.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        }
    }

    /// Prints what is served where. The hub serves whether or not somebody reads it.
    fn welcome(&self, app: &App, database: &Database, tls: &ListenersTls) {
        let addresses = app.addresses();
        let scheme = |tls: &Option<Arc<Tls>>| if tls.is_some() { "https" } else { "http" };
        let mut text = format!("trex {} watches {}\n\n", env!("CARGO_PKG_VERSION"), database.describe);
        if let Some(grpc) = &addresses.grpc {
            let how = if tls.grpc.is_some() { ", TLS" } else { "" };
            text += &format!("  gRPC     {grpc}{how}\n");
        }
        let how = if tls.admin.is_some() { ", TLS" } else { "" };
        text += &format!("  admin    {}{how}\n", addresses.admin);
        text += &format!("  HTTP     {}://{}\n", scheme(&tls.api), addresses.api);
        text += &format!("  metrics  {}://{}/metrics\n", scheme(&tls.metrics), addresses.metrics);
        text += &format!("  health   {}://{}/readyz\n\n", scheme(&tls.health), addresses.health);
        if let Some(grpc) = &addresses.grpc {
            let how = if tls.grpc.is_some() { "-cacert FILE" } else { "-plaintext" };
            if !self.dinosaurs() {
                text += &format!(
                    "Attach a table, and watch it:\n\n  trex attach public.orders --server {}\n",
                    addresses.admin
                );
                text += &format!(
                    "  grpcurl {how} -d '{{\"table\":\"public.orders\"}}' {grpc} \
                     hub.v1.WatchService/Watch\n\n"
                );
                let _ = print(&text);
                return;
            }
            text += &format!(
                "Watch, and in another terminal write:\n\n  grpcurl {how} {grpc} \
                 rh_trex.v1.DinosaurService/WatchDinosaurs\n"
            );
            text += &format!(
                "  psql '{}' -c \"INSERT INTO dinosaurs (species) VALUES ('Tyrannosaurus')\"\n\n",
                database.shown_url
            );
        }
        let _ = print(&text);
    }
}
