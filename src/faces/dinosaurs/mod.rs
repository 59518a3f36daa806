//! The dinosaur, the first watched kind.

mod bulk;
mod fields;
mod grpc;
mod row;
mod rules;

use super::ServedKind;
use crate::{
    catalog::{Kind, Unreadable},
    error::Error,
    faces::grpc::{Grpc, Hub},
    model::Change,
    proto::rh_trex::v1::{self as pb, dinosaur_service_server::DinosaurServiceServer},
    store::{Migration, Scope, Table},
};
use prost::Message;
use tonic::codec::CompressionEncoding;

const KIND: &str = "Dinosaur";
const TABLE: Table = Table { kind: KIND, name: "public.dinosaurs", key: "id" };

/// Whether the API's rules allow a dinosaur with this id, which may be empty, to be created. What the table says is another matter.
pub fn check_new(id: &str, species: &str) -> Result<(), Error> {
    if !id.is_empty() {
        rules::id(id)?;
    }
    rules::new_species(species).map(|_| ())
}

/// The kind.
pub struct Dinosaurs;

impl Kind for Dinosaurs {
    fn name(&self) -> &'static str {
        KIND
    }

    fn scope(&self) -> Scope {
        const MIGRATIONS: &[Migration] =
            &[Migration { version: 1, name: "dinosaurs", sql: include_str!("0001_dinosaurs.sql") }];
        Scope { name: TABLE.kind, migrations: MIGRATIONS, table: Some(TABLE.name) }
    }

    fn encode(
        &self,
        change: &Change<'_>,
        event: &mut Vec<u8>,
        previous: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let after = change.after.map(row::read).transpose();
        let before = change.before.map(row::read).transpose();
        let (dinosaur, previous_dinosaur, result) = match (after, before) {
            (Ok(after), Ok(before)) => (after, before, Ok(())),
            (Err(error), other) => (None, other.ok().flatten(), Err(error)),
            (Ok(after), Err(error)) => (after, None, Err(error)),
        };
        let message = pb::DinosaurWatchEvent {
            r#type: change.change as i32,
            dinosaur,
            resource_id: change.resource_id.to_owned(),
            revision: change.revision.get(),
            occurred_at: change.captured_at.map(Into::into),
            ..Default::default()
        };
        // Appending to a Vec cannot fail.
        let _ = message.encode(event);
        if previous_dinosaur.is_some() {
            let _ =
                pb::DinosaurWatchEvent { previous: previous_dinosaur, ..Default::default() }.encode(previous);
        }
        result
    }
}

impl ServedKind for Dinosaurs {
    fn serve(&self, hub: &Hub, services: &mut Grpc) {
        let service = DinosaurServiceServer::new(grpc::Service::new(hub.clone()))
            .max_decoding_message_size(services.max_message_bytes())
            .accept_compressed(CompressionEncoding::Gzip);
        services.add(service);
    }
}
