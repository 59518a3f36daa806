//! Ways to get many rows into the dinosaurs' table.

use super::PATIENCE;
use super::{cluster::Cluster, cpu, hub::HubProcess};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_postgres::{binary_copy::BinaryCopyInWriter, types::Type};
use tonic::transport::{Channel, Endpoint};
use trex::{
    proto::{
        codec::Streamed,
        rh_trex::v1::{
            CreateDinosaurRequest, ImportDinosaursItem, ImportDinosaursRequest, ImportDinosaursStart,
            dinosaur_service_client::DinosaurServiceClient, import_dinosaurs_request::Message,
        },
    },
    store::Driven,
};

/// Like the dinosaurs' table, but nobody captures what happens to it.
pub const BARE_TABLE: &str = "plain_dinosaurs";
const CAPTURED_TABLE: &str = "dinosaurs";

/// How rows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// COPY, a transaction per batch, into a table that is not captured.
    BareCopy,
    /// The same into the captured table.
    Copy,
    /// `ImportDinosaurs`.
    Import,
    /// `BulkCreateDinosaurs`.
    BulkCreate,
    /// `CreateDinosaur`, a call per row.
    Calls,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::BareCopy, Self::Copy, Self::Import, Self::BulkCreate, Self::Calls];

    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::BareCopy => "COPY, not captured",
            Self::Copy => "COPY, captured",
            Self::Import => "ImportDinosaurs",
            Self::BulkCreate => "BulkCreateDinosaurs",
            Self::Calls => "CreateDinosaur",
        }
    }

    /// Whether its rows are events.
    pub fn is_captured(self) -> bool {
        self != Self::BareCopy
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Sessions, streams or callers at a time.
    pub streams: usize,
    /// Rows per transaction, but of calls.
    pub batch: u32,
    /// For this long; what is in flight then still counts, and so does its time.
    pub lasting: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Rows a second, until they were committed.
    pub rate: f64,
    /// Rows a second, until they were sealed too.
    pub sealed_rate: f64,
    /// Microseconds of processor time per row, sealing included: of the hub, of the sessions of Postgres that
    /// did the work, and of this program.
    pub cpu: [f64; 3],
}

/// Real names of dinosaurs, again and again.
#[derive(Clone)]
pub struct Names(Arc<[String]>);

impl Names {
    /// Those of the repository.
    pub fn read() -> anyhow::Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dinosaurs.ndjson");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = |line: &str| -> anyhow::Result<String> {
            let line: serde_json::Value = serde_json::from_str(line)?;
            Ok(line["species"].as_str().context("a species")?.to_owned())
        };
        Ok(Self(text.lines().map(name).collect::<anyhow::Result<_>>()?))
    }

    /// All of them, for ever.
    pub fn cycle(&self) -> impl Iterator<Item = String> + Send + 'static {
        let names = self.0.clone();
        (0..).map(move |n: usize| names.get(n % names.len()).cloned().unwrap_or_default())
    }
}

/// A hub and its database.
pub struct Place<'a> {
    /// The server.
    pub cluster: &'a Cluster,
    /// The database.
    pub database: &'a str,
    /// The hub.
    pub hub: &'a HubProcess,
}

/// Runs a load.
pub async fn run(
    way: Way,
    load: Load,
    names: &Names,
    &Place { cluster, database, hub }: &Place<'_>,
) -> anyhow::Result<Outcome> {
    let watch = cluster.connect(database).await?;
    watch.batch_execute("CHECKPOINT").await?;
    let mut sessions = Vec::new();
    let mut channels = Vec::new();
    for _ in 0..load.streams {
        match way {
            Way::BareCopy | Way::Copy => sessions.push(Arc::new(cluster.connect(database).await?)),
            _ => channels.push(Endpoint::from_shared(format!("http://{}", hub.grpc))?.connect().await?),
        }
    }
    let before = Spent::by_now(&watch, hub).await?;
    let head = head(hub).await?;
    let began = Instant::now();
    let until = began + load.lasting;
    let mut tasks = JoinSet::new();
    for session in &sessions {
        let table = if way == Way::Copy { CAPTURED_TABLE } else { BARE_TABLE };
        tasks.spawn(copy(session.clone(), table, load.batch, names.clone(), until));
    }
    for channel in channels {
        match way {
            Way::Import => tasks.spawn(import(channel, load.batch, names.clone(), until)),
            Way::BulkCreate => tasks.spawn(bulk_create(channel, names.clone(), until)),
            _ => tasks.spawn(calls(channel, names.clone(), until)),
        };
    }
    let mut rows = 0;
    while let Some(result) = tasks.join_next().await {
        rows += result??;
    }
    let elapsed = began.elapsed();
    // Nothing of this is left for the hub to do in the next measurement.
    sealed(hub, head + if way.is_captured() { rows } else { 0 }).await?;
    let until_sealed = began.elapsed();
    let cpu =
        before.until(&Spent::by_now(&watch, hub).await?).map(|time| time.as_secs_f64() * 1e6 / rows as f64);
    // Not before: what a session has spent is known while it is there.
    drop(sessions);
    Ok(Outcome {
        rate: rows as f64 / elapsed.as_secs_f64(),
        sealed_rate: rows as f64 / until_sealed.as_secs_f64(),
        cpu,
    })
}

async fn head(hub: &HubProcess) -> anyhow::Result<u64> {
    Ok(hub.metrics().await?.value("hub_head_revision") as u64)
}

/// Waits until the hub has sealed up to this revision.
async fn sealed(hub: &HubProcess, revision: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let head = head(hub).await?;
        if head == revision {
            return Ok(());
        }
        ensure!(head < revision, "revision {head} is sealed, and {revision} were written");
        ensure!(Instant::now() < deadline, "revision {head} is sealed of {revision}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Processor time.
struct Spent {
    hub: Duration,
    /// By process id: the sessions of the database, but the one that asks.
    sessions: HashMap<u32, Duration>,
    this: Duration,
}

impl Spent {
    async fn by_now(session: &Driven, hub: &HubProcess) -> anyhow::Result<Self> {
        let sql = "SELECT pid FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let rows = session.query(sql, &[]).await?;
        let pids = rows.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok());
        Ok(Self {
            hub: cpu::of_process(hub.pid()?),
            sessions: pids.map(|pid| (pid, cpu::of_process(pid))).collect(),
            this: cpu::of_self(),
        })
    }

    /// Since then: of the hub, the sessions, this program. A session that was not there yet has spent all of
    /// its time since.
    fn until(&self, later: &Self) -> [Duration; 3] {
        let before = |pid| self.sessions.get(pid).copied().unwrap_or_default();
        let sessions = later.sessions.iter().map(|(pid, time)| time.saturating_sub(before(pid)));
        [later.hub.saturating_sub(self.hub), sessions.sum(), later.this.saturating_sub(self.this)]
    }
}

async fn copy(
    session: Arc<Driven>,
    table: &'static str,
    batch: u32,
    names: Names,
    until: Instant,
) -> anyhow::Result<u64> {
    let statement = session.prepare(&format!("COPY {table} (species) FROM STDIN BINARY")).await?;
    let (mut names, mut rows) = (names.cycle(), 0);
    while Instant::now() < until {
        let writer = BinaryCopyInWriter::new(session.copy_in(&statement).await?, &[Type::TEXT]);
        let mut writer = std::pin::pin!(writer);
        for name in names.by_ref().take(batch as usize) {
            writer.as_mut().write(&[&name]).await?;
        }
        rows += writer.finish().await?;
    }
    Ok(rows)
}

async fn import(channel: Channel, batch: u32, names: Names, until: Instant) -> anyhow::Result<u64> {
    let start = ImportDinosaursStart {
        import_id: uuid::Uuid::now_v7().to_string(),
        batch_size: batch,
        acknowledged: 0,
    };
    let items = names.cycle().take_while(move |_| Instant::now() < until);
    let items = items.map(|species| Message::Item(ImportDinosaursItem { id: String::new(), species }));
    let messages = std::iter::once(Message::Start(start)).chain(items);
    let messages = stream::iter(messages)
        .map(|message| Streamed::Message(ImportDinosaursRequest { message: Some(message) }));
    let mut answers = DinosaurServiceClient::new(channel).import_dinosaurs(messages).await?.into_inner();
    let mut created = 0;
    while let Some(answer) = answers.message().await? {
        ensure!(answer.failed == 0, "{answer:?}");
        created = answer.created;
    }
    Ok(created)
}

async fn bulk_create(channel: Channel, names: Names, until: Instant) -> anyhow::Result<u64> {
    let items = names.cycle().take_while(move |_| Instant::now() < until);
    let items = items.map(|species| Streamed::Message(CreateDinosaurRequest { species }));
    let answer = DinosaurServiceClient::new(channel).bulk_create_dinosaurs(stream::iter(items)).await?;
    let answer = answer.into_inner();
    ensure!(answer.failed == 0, "{answer:?}");
    Ok(u64::try_from(answer.created)?)
}

async fn calls(channel: Channel, names: Names, until: Instant) -> anyhow::Result<u64> {
    let (mut client, mut names, mut rows) = (DinosaurServiceClient::new(channel), names.cycle(), 0);
    while let Some(species) = names.next().filter(|_| Instant::now() < until) {
        client.create_dinosaur(CreateDinosaurRequest { species }).await?;
        rows += 1;
    }
    Ok(rows)
}
