//! The dinosaur, the first watched kind.

mod bulk;
mod fields;
mod grpc;
mod openapi;
mod rest;
mod row;
mod rules;

use super::ServedKind;
use crate::{
    catalog::{Kind, Renderer, Unreadable},
    error::Error,
    faces::{grpc::Grpc, http::Http},
    model::{Revision, Table},
    proto::rh_trex::v1::dinosaur_service_server::DinosaurServiceServer,
    service::UseCases,
    store::{Migration, Scope},
};
use fields::SCHEMA;
use prost::Message;
use std::sync::Arc;

const KIND: &str = "Dinosaur";
const TABLE: &str = "public.dinosaurs";
const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "dinosaurs", sql: include_str!("0001_dinosaurs.sql") }];

/// Whether the API's rules allow a dinosaur with this id, which may be empty, to be created. The table may
/// still refuse it.
pub fn check_new(id: &str, species: &str) -> Result<(), Error> {
    if !id.is_empty() {
        rules::id(id)?;
    }
    rules::new_species(species).map(|_| ())
}

/// The kind.
pub struct Dinosaurs;

/// How its rows are written.
struct Rows;

impl Renderer for Rows {
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        // Appending to a Vec cannot fail.
        let _ = row::read(row)?.encode(out);
        Ok(())
    }

    fn json(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        Ok(serde_json::to_writer(out, &row::flat(row)?)?)
    }
}

impl ServedKind for Dinosaurs {
    fn kind(&self) -> Kind {
        Kind {
            table: Table::new(KIND, TABLE, "id"),
            schema: SCHEMA.clone(),
            scope: Some(Scope { name: KIND, migrations: MIGRATIONS, table: Some(TABLE) }),
            since: Revision::ZERO,
            renderer: Arc::new(Rows),
            attached: None,
        }
    }

    fn serve(&self, cases: &UseCases, services: &mut Grpc) {
        services.add(DinosaurServiceServer::new(grpc::Service::new(cases.clone(), self.kind())));
    }

    fn serve_http(&self, cases: &UseCases, http: &mut Http) {
        rest::serve(cases, self.kind(), http);
    }
}
