//! Tables that are attached while hubs run: any table, served.

mod attaching;
mod replica;
mod rows;
mod watches;

use crate::support::{Database, PATIENCE, TestHub, until_ok};
use std::time::Duration;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;
use trex::{
    app::Settings,
    faces::Registry,
    proto::{
        hub::v1::{
            WatchEvent, WatchRequest, table_service_client::TableServiceClient,
            watch_service_client::WatchServiceClient,
        },
        rh_trex::v1::{BackpressurePolicy, EventType},
    },
    store::{AttachChoice, Store},
};

/// A hub that attaches what fits, of a database with these tables.
pub async fn hub_of(database: &Database, tables: &str, wishes: &str) -> TestHub {
    database.connect().await.batch_execute(tables).await.expect("the tables");
    start(database, wishes).await
}

/// A hub that attaches what fits.
pub async fn start(database: &Database, wishes: &str) -> TestHub {
    TestHub::start_with(settings(database, wishes), Registry::new(vec![])).await
}

pub fn settings(database: &Database, wishes: &str) -> Settings {
    let mut settings = Settings::new(database.target());
    settings.tables = if wishes.is_empty() { Default::default() } else { wishes.parse().expect("wishes") };
    settings.capture.inspect = Duration::from_millis(200);
    settings
}

pub async fn watches(hub: &TestHub) -> WatchServiceClient<Channel> {
    WatchServiceClient::new(hub.channel().await)
}

pub async fn rows(hub: &TestHub) -> TableServiceClient<Channel> {
    TableServiceClient::new(hub.channel().await)
}

/// Everything of a table, and nothing lost.
pub fn everything(table: &str) -> WatchRequest {
    WatchRequest {
        table: table.into(),
        backpressure: BackpressurePolicy::CatchUp.into(),
        ..WatchRequest::default()
    }
}

/// Begins a watch that must be granted.
pub async fn watch(hub: &TestHub, request: WatchRequest) -> Streaming<WatchEvent> {
    watches(hub).await.watch(request).await.expect("a watch").into_inner()
}

/// The next event.
pub async fn next(stream: &mut Streaming<WatchEvent>) -> Result<WatchEvent, Status> {
    let next = tokio::time::timeout(*PATIENCE, stream.message()).await.expect("in time");
    next.map(|event| event.expect("the hub says how a stream ends"))
}

/// As `+id`, `~id`, `-id`, `=id` (of a state) and `.` (a bookmark).
pub fn short(event: &WatchEvent) -> String {
    let sign = match event.r#type() {
        EventType::Created => "+",
        EventType::Updated => "~",
        EventType::Deleted => "-",
        EventType::Snapshot => "=",
        EventType::Bookmark => ".",
        EventType::Unspecified | EventType::Schema => "?",
    };
    format!("{sign}{}", event.resource_id)
}

/// The next events, in short.
pub async fn take(stream: &mut Streaming<WatchEvent>, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(short(&next(stream).await.expect("an event")));
    }
    taken
}

/// The code and the reason of an error.
pub fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().expect("a reason").reason)
}

pub fn store(database: &Database) -> Store {
    Store::new(&database.target(), 2).expect("a pool")
}

pub async fn attach(database: &Database, table: &str, choice: AttachChoice) {
    store(database).attach(&table.parse().expect("a name"), &choice).await.expect("attached");
}

/// Waits until a hub serves this many tables.
pub async fn until_tables(hub: &TestHub, count: usize) {
    until_ok(format!("{count} tables"), async || {
        let tables =
            rows(hub).await.list_tables(trex::proto::hub::v1::ListTablesRequest {}).await.expect("a list");
        let names: Vec<_> = tables.into_inner().tables.into_iter().map(|table| table.name).collect();
        if names.len() == count { Ok(()) } else { Err(names) }
    })
    .await;
}
