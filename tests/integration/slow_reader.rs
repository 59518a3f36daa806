//! Readers that stop reading: their losses are counted exactly, and nobody else pays.

mod large;
mod latest;
mod stopped;

use crate::support::{
    Database, TestHub,
    history::{History, Journal, Row},
    recorder::{Recorder, SENTINEL},
    validators::validate,
    writer::{MARKS, Open, Verb, session},
};
use std::time::Duration;
use tokio_postgres::Client;
use tonic::transport::{Channel, Endpoint};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{EventType, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient},
};

/// Rows that every transaction updates.
const HOT: usize = 10;
/// Events of one transaction: `HOT` updates and this many creations, with 30 of the rows updated and 20
/// deleted.
const CREATED: usize = 40;
const EVENTS: usize = HOT + CREATED + 30 + 20;
/// Transactions while a reader stands still: enough that also the stream which wants a tenth of the events is
/// passed.
const FLOOD: usize = 200;
/// Events of the last transaction.
const LAST: usize = 3;

const DROPPED: &str = "grpc_stream_events_dropped_total";

/// A session that writes transactions of `EVENTS` events.
struct Flood {
    client: Client,
    hot: Vec<String>,
    journal: Journal,
}

impl Flood {
    async fn new(database: &Database) -> Self {
        let client = session(database.url()).await.expect("a session");
        client.batch_execute(MARKS).await.expect("a table");
        let hot = (0..HOT).map(|number| format!("hot-{number}")).collect();
        Self { client, hot, journal: Journal::default() }
    }

    async fn write(&mut self, statements: &[(Verb, &[String])]) {
        let mark = format!("t{}", self.journal.transactions.len());
        let mut open = Open::begin(&self.client, mark).await.expect("BEGIN");
        for (verb, ids) in statements {
            open.run(*verb, ids).await.expect("a change");
        }
        self.journal.transactions.push(open.commit().await);
    }

    /// The hot rows, before anything else.
    async fn begin(&mut self) {
        let hot = self.hot.clone();
        self.write(&[(Verb::Insert, &hot)]).await;
    }

    async fn transactions(&mut self, count: usize) {
        let hot = self.hot.clone();
        for _ in 0..count {
            let number = self.journal.transactions.len();
            let ids: Vec<_> = (0..CREATED).map(|row| format!("row-{number}-{row}")).collect();
            self.write(&[
                (Verb::Insert, &ids),
                (Verb::Update, &hot),
                (Verb::Update, &ids[..30]),
                (Verb::Delete, &ids[20..]),
            ])
            .await;
        }
    }

    /// The sentinel; and the journal, which it completes.
    async fn end(mut self) -> Journal {
        let ids = [SENTINEL.to_owned()];
        self.write(&[(Verb::Insert, &ids), (Verb::Update, &ids), (Verb::Delete, &ids)]).await;
        let table = "SELECT id, species, (extract(epoch FROM updated_at) * 1000000)::bigint FROM dinosaurs";
        let rows = self.client.query(table, &[]).await.expect("rows");
        self.journal.table =
            rows.iter().map(|row| (row.get(0), Row::new(row.get::<_, String>(1), row.get(2)))).collect();
        self.journal
    }
}

/// One request of each sort, by name.
fn requests(hot: &[String]) -> Vec<(&'static str, WatchDinosaursRequest)> {
    let plain = WatchDinosaursRequest::default;
    let ids = hot.iter().cloned().chain([SENTINEL.to_owned()]).collect();
    vec![
        ("plain", plain()),
        ("created", WatchDinosaursRequest { types: vec![EventType::Created.into()], ..plain() }),
        ("of some", WatchDinosaursRequest { resource_ids: ids, ..plain() }),
        ("with previous", WatchDinosaursRequest { include_previous: true, ..plain() }),
    ]
}

/// A client whose connection holds no more than HTTP/2 demands, so that little is under way when it stops
/// reading.
async fn narrow_client(hub: &TestHub) -> DinosaurServiceClient<Channel> {
    const SMALLEST: u32 = 65_535;
    let address = hub.app().addresses().grpc.clone().expect("gRPC is served");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    let endpoint = endpoint.initial_stream_window_size(SMALLEST).initial_connection_window_size(SMALLEST);
    DinosaurServiceClient::new(endpoint.connect().await.expect("a connection"))
}

/// Stops a reader of each sort, floods, reads again; twice, so that a stream loses events more than once.
async fn flood_stopped_readers(settings: Settings, database: &Database, reason: &str) {
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut flood = Flood::new(database).await;
    let (mut readers, mut slow) = (Vec::new(), Vec::new());
    for (name, request) in requests(&flood.hot) {
        readers.push(Recorder::start(hub.client().await, name, request.clone()).await);
        let name = format!("slow, {name}");
        slow.push(Recorder::start(narrow_client(&hub).await, &name, request).await);
    }
    flood.begin().await;
    for _ in 0..2 {
        slow.iter().for_each(Recorder::pause);
        for _ in 0..FLOOD / 20 {
            flood.transactions(20).await;
            // However slow this machine is: those who read must not be passed by a window this small.
            for (reader, each) in readers.iter().zip([EVENTS, CREATED, HOT, EVENTS]) {
                let all = HOT + each * (flood.journal.transactions.len() - 1);
                reader.until("all that was written", |progress| progress.events == all as u64).await;
            }
        }
        slow.iter().for_each(Recorder::resume);
        for recorder in &slow {
            let seen = recorder.events();
            flood.transactions(1).await;
            recorder.until("an event after the pause", |progress| progress.events > seen).await;
        }
    }
    let journal = flood.end().await;
    let mut history = History::default();
    for recorder in readers.into_iter().chain(slow) {
        history.streams.push(recorder.finish().await);
    }
    let mut lost = 0;
    for stream in history.streams.iter().filter(|stream| stream.stalls) {
        println!("{}: {} delivered, {} dropped", stream.name, stream.events.len(), stream.dropped());
        assert!(stream.dropped() > 0, "{} lost nothing", stream.name);
        lost += stream.dropped();
    }
    assert_eq!(hub.metric(DROPPED, reason) as u64, lost, "the metric says what the streams say");
    hub.stop().await;
    validate(&history, &journal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_the_window_passes_is_told_what_it_lost() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 1 << 20;
    // Only the window takes events away.
    settings.limits.blocked_after = Duration::from_secs(3600);
    flood_stopped_readers(settings, &database, r#"reason="window""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_reader_is_told_what_it_lost() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.default_buffer = 4096;
    settings.limits.blocked_after = Duration::from_millis(200);
    flood_stopped_readers(settings, &database, r#"reason="buffer""#).await;
}
