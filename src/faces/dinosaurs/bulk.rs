//! Bulk creation of dinosaurs.

use super::rules;
use crate::{
    call::Call,
    error::Error,
    faces::grpc::{acknowledgements, checked_import_id, failed_items, import_id, items, unreadable},
    model::Table,
    proto::{codec::Streamed, rh_trex::v1 as pb},
    service::{
        UseCases,
        import::{Acknowledgement, Item, Opening, Resumable},
    },
    store::{BulkTable, NewRow},
};
use futures_util::{StreamExt, stream::BoxStream};
use pb::import_dinosaurs_request::Message;
use tonic::{Request, Status, Streaming};

/// The columns that an item fills.
fn written(table: &Table) -> BulkTable {
    BulkTable { table: table.clone(), columns: &[("species", "text")], arbiter: true }
}

/// What `ImportDinosaurs` answers with.
pub(super) type ImportStream = BoxStream<'static, Result<pb::ImportDinosaursResponse, Status>>;

/// `BulkCreateDinosaurs`.
pub(super) async fn create(
    cases: &UseCases,
    call: &Call,
    table: &Table,
    request: Request<Streaming<Streamed<pb::CreateDinosaurRequest>>>,
) -> Result<pb::BulkCreateDinosaursResponse, Error> {
    let resumable =
        import_id(request.metadata())?.map(|id| Resumable { id, acknowledged: 0, from_the_first: true });
    let items = items(request.into_inner(), |item| Ok(new_item("", &item.species)));
    let opening = std::future::ready(Ok((Opening { resumable, ..Opening::default() }, items)));
    let (mut session, first) = cases.import(call, written(table), opening).await?;
    let Acknowledgement { mut created, mut failed, mut failures, .. } = first;
    while let Some(acknowledgement) = session.next().await {
        let acknowledgement = acknowledgement?;
        (created, failed) = (acknowledgement.created, acknowledgement.failed);
        failures.extend(acknowledgement.failures);
    }
    let (errors, omitted) = failed_items(call, failures);
    // A stream has at most `i32::MAX` items.
    let count = |number| i32::try_from(number).unwrap_or(i32::MAX);
    Ok(pb::BulkCreateDinosaursResponse {
        created: count(created),
        failed: count(failed),
        errors,
        errors_omitted: count(omitted),
    })
}

/// `ImportDinosaurs`. It answers before anything is read: a client may wait for the headers before it sends
/// `start`.
pub(super) fn import(
    cases: UseCases,
    call: Call,
    table: &Table,
    mut messages: Streaming<Streamed<pb::ImportDinosaursRequest>>,
) -> ImportStream {
    let (written, opened) = (written(table), call.clone());
    let opening = async move {
        let told = async {
            let start = start(&mut messages).await?;
            let resumable = Some(Resumable {
                id: checked_import_id("start.import_id", &start.import_id)?,
                acknowledged: start.acknowledged,
                from_the_first: false,
            });
            Ok((Opening { resumable, batch_size: start.batch_size }, items(messages, item)))
        };
        cases.import(&opened, written, told).await
    };
    let acknowledged = acknowledgements(call.clone(), opening);
    acknowledged.map(move |result| result.map(|acknowledgement| response(&call, acknowledgement))).boxed()
}

/// The first message.
async fn start(
    messages: &mut Streaming<Streamed<pb::ImportDinosaursRequest>>,
) -> Result<pb::ImportDinosaursStart, Error> {
    match messages.message().await.map_err(|status| unreadable(&status))? {
        Some(Streamed::Message(pb::ImportDinosaursRequest { message: Some(Message::Start(start)) })) => {
            Ok(start)
        }
        Some(Streamed::Undecodable { why, .. }) => Err(Error::Undecodable(why)),
        Some(Streamed::Message(_)) | None => Err(Error::invalid("start", "must be the first message")),
    }
}

/// Any later message.
fn item(request: pb::ImportDinosaursRequest) -> Result<Item, Error> {
    match request.message {
        Some(Message::Item(item)) => Ok(new_item(&item.id, &item.species)),
        Some(Message::Start(_)) => Err(Error::invalid("start", "must be the first message, and no other")),
        None => Ok(Err(Error::invalid("item", "is required"))),
    }
}

fn new_item(id: &str, species: &str) -> Item {
    let species = rules::new_species(species)?.to_owned();
    let key = if id.is_empty() { None } else { Some(rules::id(id)?.to_owned()) };
    Ok(NewRow { key, values: vec![Some(species)] })
}

fn response(call: &Call, acknowledgement: Acknowledgement) -> pb::ImportDinosaursResponse {
    let Acknowledgement { next_index, created, failed, failures } = acknowledgement;
    let (errors, omitted) = failed_items(call, failures);
    pb::ImportDinosaursResponse {
        next_index,
        created,
        failed,
        errors,
        errors_omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
    }
}
