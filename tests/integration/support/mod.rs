//! What every test needs: a database of its own, a hub on it, and clients.

pub mod certificates;
pub mod follower;
pub mod fossil;
pub mod history;
pub mod ledger;
pub mod recorder;
pub mod scripted;
pub mod validators;
mod waiting;
pub mod wire;
pub mod writer;

pub use waiting::{PATIENCE, until, until_ok, until_sql, until_true};

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};
use tonic::transport::Channel;
use trex::{
    app::{App, Endpoints, Settings},
    embedded::testing::EphemeralPostgres,
    faces::Registry,
    proto::{
        hub::v1::{admin_service_client::AdminServiceClient, event_service_client::EventServiceClient},
        rh_trex::v1::dinosaur_service_client::DinosaurServiceClient,
    },
    store::{Driven, Target},
};

/// One cluster for the run; it goes when the process does.
static CLUSTER: LazyLock<EphemeralPostgres> = LazyLock::new(|| {
    EphemeralPostgres::start_blocking(vec![("max_connections".into(), "300".into())])
        .expect("an ephemeral Postgres")
});

/// The HTTP/2 windows of a reader that is to be slow, in bytes.
pub const NARROW: u32 = 65_535;

/// A database of one test.
pub struct Database {
    url: String,
}

impl Database {
    /// A new, empty one on the cluster of the run.
    pub async fn create() -> Self {
        Self::create_on(&CLUSTER).await
    }

    /// A new, empty one on a cluster of the test's own, which it may stop and kill.
    pub async fn create_on(cluster: &EphemeralPostgres) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&name).await.expect("a database");
        Self { url: cluster.database_url(&name) }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One that is there already.
    pub fn of(cluster: &EphemeralPostgres, name: &str) -> Self {
        Self { url: cluster.database_url(name) }
    }

    /// As a hub is told of it.
    pub fn target(&self) -> Target {
        Target::parse(&self.url).expect("a URL of our own")
    }

    /// A session on it.
    pub async fn connect(&self) -> Driven {
        self.target().open().await.expect("a session")
    }
}

/// A hub under test, in this process.
pub struct TestHub {
    app: App,
}

impl TestHub {
    /// With the defaults.
    pub async fn start(database: &Database) -> Self {
        Self::start_with(Settings::new(database.target()), Registry::of_this_program()).await
    }

    /// With other settings or kinds. Returns when the hub is ready.
    pub async fn start_with(settings: Settings, registry: Registry) -> Self {
        let hub = Self::launch(settings, registry).await;
        until("the hub is ready", || hub.app.health().reasons().is_empty()).await;
        hub
    }

    /// One that may never be ready.
    pub async fn launch(settings: Settings, registry: Registry) -> Self {
        let endpoints = Endpoints::ephemeral().await.expect("free ports");
        Self { app: App::start_with(settings, endpoints, registry).await.expect("a hub") }
    }

    /// The same at a port that another hub had, or will have.
    pub async fn start_at(settings: Settings, address: &str) -> Self {
        let bind = async || {
            let any = "localhost:0";
            Endpoints::bind(Some(&address.to_owned()), any, any, any, any).await
        };
        let endpoints = bind().await.expect("the port is free again");
        let app = App::start_with(settings, endpoints, Registry::of_this_program()).await.expect("a hub");
        let hub = Self { app };
        until("the hub is ready", || hub.app.health().reasons().is_empty()).await;
        hub
    }

    /// The same at a port for the HTTP API.
    pub async fn start_at_api(settings: Settings, address: &str) -> Self {
        let any = "localhost:0";
        let endpoints = Endpoints::bind(Some(&any.to_owned()), any, address, any, any).await;
        let endpoints = endpoints.expect("the port is free again");
        let app = App::start_with(settings, endpoints, Registry::of_this_program()).await.expect("a hub");
        let hub = Self { app };
        until("the hub is ready", || hub.app.health().reasons().is_empty()).await;
        hub
    }

    /// The hub itself.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        let address = self.app.addresses().grpc.clone().expect("gRPC is served");
        Channel::from_shared(format!("http://{address}"))
            .expect("a URL")
            .connect()
            .await
            .expect("a connection")
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> DinosaurServiceClient<Channel> {
        DinosaurServiceClient::new(self.channel().await)
    }

    /// A client of the log, on a connection of its own.
    pub async fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel().await)
    }

    /// A client of the operator's listener.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        let endpoint = Channel::from_shared(format!("http://{}", self.app.addresses().admin)).expect("a URL");
        AdminServiceClient::new(endpoint.connect().await.expect("a connection"))
    }

    /// A client whose connection takes next to nothing that its reader does not read.
    pub async fn narrow_client(&self) -> DinosaurServiceClient<Channel> {
        let address = self.app.addresses().grpc.clone().expect("gRPC is served");
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URL");
        let endpoint = endpoint.initial_stream_window_size(NARROW).initial_connection_window_size(NARROW);
        DinosaurServiceClient::new(endpoint.connect().await.expect("a connection"))
    }

    /// The sum of a metric's series whose labels contain `labels`, such as `kind="Dinosaur"`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = String::from_utf8(self.app.metrics().encode().expect("metrics")).expect("text");
        let series = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']) && rest.contains(labels));
        series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.app.stop().await;
    }
}
