//! The protocols: bytes in, bytes out. Everything specific to a kind is in its folder and in one line of
//! [`Registry::of_this_program`].

pub mod dinosaurs;
pub mod grpc;
pub mod host;
pub mod http;
pub mod ops;

use crate::{
    catalog::{Kind, Kinds},
    faces::{grpc::Grpc, http::Http},
    service::UseCases,
};
use std::sync::Arc;

/// A kind with services of its own.
pub trait ServedKind: Send + Sync + 'static {
    /// The kind.
    fn kind(&self) -> Kind;

    /// Adds its services.
    fn serve(&self, cases: &UseCases, grpc: &mut Grpc);

    /// Adds what it has over HTTP, beyond what every kind has.
    fn serve_http(&self, _cases: &UseCases, _http: &mut Http) {}
}

/// The kinds of a hub, with their services.
#[derive(Clone)]
pub struct Registry(Vec<Arc<dyn ServedKind>>);

impl Registry {
    /// The kinds of this program, a line each.
    pub fn of_this_program() -> Self {
        Self::new(vec![Arc::new(dinosaurs::Dinosaurs)])
    }

    /// These kinds.
    pub fn new(kinds: Vec<Arc<dyn ServedKind>>) -> Self {
        Self(kinds)
    }

    /// The kinds without their services.
    pub fn kinds(&self) -> Kinds {
        Kinds::new(self.0.iter().map(|kind| kind.kind()))
    }

    /// Adds their services.
    pub fn serve(&self, cases: &UseCases, grpc: &mut Grpc) {
        self.0.iter().for_each(|kind| kind.serve(cases, grpc));
    }

    /// Adds what they have over HTTP.
    pub fn serve_http(&self, cases: &UseCases, http: &mut Http) {
        self.0.iter().for_each(|kind| kind.serve_http(cases, http));
    }
}
