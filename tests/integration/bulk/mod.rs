//! Bulk creation and imports: what is acknowledged is committed, nothing is half committed, and one bad item
//! harms no other.

mod bad_items;
mod create;
mod endings;
mod fairness;
mod import;
mod refusals;
mod resuming;

use crate::support::{Database, PATIENCE, TestHub};
use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;
use trex::proto::{
    codec::Streamed,
    rh_trex::v1::{
        self as pb, CreateDinosaurRequest, ImportDinosaursItem, ImportDinosaursRequest,
        ImportDinosaursResponse, ImportDinosaursStart, dinosaur_service_client::DinosaurServiceClient,
        import_dinosaurs_request::Message,
    },
};

type Client = DinosaurServiceClient<Channel>;
type Created = Streamed<CreateDinosaurRequest>;
type Imported = Streamed<ImportDinosaursRequest>;

/// A field 1 of one byte that is no UTF-8, and for an import the same within its item.
const NOT_UTF8: &[u8] = b"\x0a\x01\xff";
const ITEM_NOT_UTF8: &[u8] = b"\x12\x03\x12\x01\xff";

fn garbage<M>(bytes: &'static [u8]) -> Streamed<M> {
    Streamed::Undecodable { bytes: Bytes::from_static(bytes), why: String::new() }
}

fn create(species: impl Into<String>) -> Created {
    CreateDinosaurRequest { species: species.into() }.into()
}

fn start(import_id: &str) -> ImportDinosaursStart {
    ImportDinosaursStart { import_id: import_id.into(), ..Default::default() }
}

fn item(id: &str, species: impl Into<String>) -> Imported {
    let item = ImportDinosaursItem { id: id.into(), species: species.into() };
    ImportDinosaursRequest { message: Some(Message::Item(item)) }.into()
}

/// One stream of an import. Dropping it cancels the call.
struct Importing {
    requests: Option<mpsc::Sender<Imported>>,
    responses: Streaming<ImportDinosaursResponse>,
}

impl Importing {
    async fn start(client: &mut Client, start: ImportDinosaursStart) -> Self {
        let stream = Self::open(client).await;
        stream.send(ImportDinosaursRequest { message: Some(Message::Start(start)) }.into()).await;
        stream
    }

    async fn open(client: &mut Client) -> Self {
        let (requests, items) = mpsc::channel(64);
        let responses = client.import_dinosaurs(ReceiverStream::new(items)).await.unwrap().into_inner();
        Self { requests: Some(requests), responses }
    }

    /// Whether the stream takes it.
    async fn try_send(&self, message: Imported) -> bool {
        self.requests.as_ref().unwrap().send(message).await.is_ok()
    }

    async fn send(&self, message: Imported) {
        assert!(self.try_send(message).await, "the stream has ended");
    }

    async fn message(&mut self) -> Result<Option<ImportDinosaursResponse>, Status> {
        timeout(*PATIENCE, self.responses.message()).await.expect("an answer")
    }

    async fn acknowledgement(&mut self) -> ImportDinosaursResponse {
        self.message().await.unwrap().expect("an acknowledgement")
    }

    fn close(&mut self) {
        self.requests = None;
    }

    /// Everything up to the end, which must be in order. `before`: the acknowledgement before.
    async fn finish(self, before: &ImportDinosaursResponse) -> Vec<ImportDinosaursResponse> {
        self.try_finish(before).await.unwrap()
    }

    /// The same, if it is not interrupted.
    async fn try_finish(
        mut self,
        before: &ImportDinosaursResponse,
    ) -> Result<Vec<ImportDinosaursResponse>, Status> {
        self.close();
        let mut all = vec![before.clone()];
        while let Some(acknowledgement) = self.message().await? {
            all.push(acknowledgement);
        }
        assert_exact(&all);
        Ok(all)
    }
}

/// Sends all items and closes; the acknowledgements, the first included.
async fn import(
    client: &mut Client,
    start: ImportDinosaursStart,
    items: impl Iterator<Item = Imported> + Send + 'static,
) -> Vec<ImportDinosaursResponse> {
    let mut stream = Importing::start(client, start).await;
    let first = stream.acknowledgement().await;
    let requests = stream.requests.take().unwrap();
    let skip = usize::try_from(first.next_index).unwrap();
    let sender = tokio::spawn(async move {
        for item in items.skip(skip) {
            if requests.send(item).await.is_err() {
                return;
            }
        }
    });
    let acknowledgements = stream.finish(&first).await;
    sender.await.unwrap();
    acknowledgements
}

/// Positions go forward, and every item below is created or failed; every failure is reported once, at its
/// index.
fn assert_exact(acknowledgements: &[ImportDinosaursResponse]) {
    for acknowledgement in acknowledgements {
        let ImportDinosaursResponse { next_index, created, failed, .. } = acknowledgement;
        assert_eq!(created + failed, *next_index, "{acknowledgement:?}");
    }
    for pair in acknowledgements.windows(2) {
        let ([before, now], told) =
            ([&pair[0], &pair[1]], u64::from(pair[1].errors_omitted) + pair[1].errors.len() as u64);
        assert!(now.next_index > before.next_index, "{before:?} {now:?}");
        assert_eq!(told, now.failed - before.failed, "{now:?}");
        let within = before.next_index..now.next_index;
        let indices = indices(&now.errors);
        assert!(indices.iter().all(|index| within.contains(index)) && indices.is_sorted(), "{now:?}");
    }
}

fn indices(errors: &[pb::Error]) -> Vec<u64> {
    errors.iter().map(|error| u64::try_from(error.index.expect("an index")).unwrap()).collect()
}

fn all_indices(acknowledgements: &[ImportDinosaursResponse]) -> Vec<u64> {
    acknowledgements.iter().flat_map(|acknowledgement| indices(&acknowledgement.errors)).collect()
}

/// An error's reason, and what it says of the progress.
fn interruption(status: &Status, name: &str) -> (Code, String, u64) {
    let info = status.get_details_error_info().expect("a reason");
    let number = info.metadata.get(name).unwrap_or_else(|| panic!("{name} in {info:?}"));
    (status.code(), info.reason, number.parse().unwrap())
}

async fn count(database: &Database, condition: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM dinosaurs WHERE {condition}");
    let row = database.connect().await.query_one(&sql, &[]).await.unwrap();
    u64::try_from(row.get::<_, i64>(0)).unwrap()
}

/// The events of every sealed transaction, once there are this many.
async fn transactions(database: &Database, events: u64) -> Vec<i64> {
    let session = database.connect().await;
    let sql = "SELECT coalesce(sum(events), 0)::bigint, coalesce(array_agg(events ORDER BY revision), '{}')
               FROM hub.log";
    let sealed = async {
        loop {
            let row = session.query_one(sql, &[]).await.unwrap();
            if u64::try_from(row.get::<_, i64>(0)).unwrap() >= events {
                return row.get(1);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(*PATIENCE, sealed).await.expect("a seal")
}

async fn hub() -> (Database, TestHub) {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    (database, hub)
}
