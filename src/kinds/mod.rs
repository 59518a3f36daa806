//! The watched kinds. What is particular to one stands in its folder and in one line of [`Registry::of_this_program`].

pub mod dinosaur;
mod row;

use crate::{
    log::Batch,
    model::Change,
    store::Scope,
    telemetry::Metrics,
    transport::grpc::{Grpc, Hub},
};
use std::{collections::HashMap, sync::Arc};

pub use row::{Unreadable, timestamp};

/// A watched kind.
pub trait Kind: Send + Sync + 'static {
    /// Its name: in metrics, in `hub.change`, in the API.
    fn name(&self) -> &'static str;

    /// Its migrations and its table.
    fn scope(&self) -> Scope;

    /// Appends the watch event of a change, as a protobuf message in which `type` has number 1, `revision` 4, `dropped_before` 6 and
    /// `conflated` 8; and to `previous` what must follow that message to show the row before too. It does so in any case; an error says that a row does not
    /// fit this kind.
    fn encode(
        &self,
        change: &Change<'_>,
        event: &mut Vec<u8>,
        previous: &mut Vec<u8>,
    ) -> Result<(), Unreadable>;

    /// Adds its services.
    fn serve(&self, hub: &Hub, grpc: &mut Grpc);
}

/// The kinds that a hub watches.
#[derive(Clone)]
pub struct Registry(Vec<Arc<dyn Kind>>);

impl Registry {
    /// The kinds of this program, a line each.
    pub fn of_this_program() -> Self {
        Self::new(vec![Arc::new(dinosaur::Dinosaurs)])
    }

    /// These kinds.
    pub fn new(kinds: Vec<Arc<dyn Kind>>) -> Self {
        Self(kinds)
    }

    /// The kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Kind>> {
        self.0.iter()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|kind| kind.name())
    }

    /// Their migrations and tables.
    pub fn scopes(&self) -> Vec<Scope> {
        self.0.iter().map(|kind| kind.scope()).collect()
    }

    /// Empty batches, to be filled.
    pub fn batches(&self) -> Batches<'_> {
        Batches { registry: self, batches: HashMap::new() }
    }
}

/// Sealed changes, encoded and sorted by kind.
pub struct Batches<'a> {
    registry: &'a Registry,
    batches: HashMap<&'static str, Batch>,
}

impl Batches<'_> {
    /// Encodes a change, once, for everybody. Changes of kinds that this program does not know are left out.
    pub fn push(&mut self, change: &Change<'_>, sealed_at: u64, metrics: &Metrics) {
        let Some(kind) = self.registry.0.iter().find(|kind| kind.name() == change.kind) else { return };
        let batch = self.batches.entry(kind.name()).or_default();
        batch.push((change.revision, change.change, change.resource_id), sealed_at, |event, previous| {
            if let Err(error) = kind.encode(change, event, previous) {
                metrics.undecodable_rows.with_label_values(&[kind.name()]).inc();
                tracing::error!(kind = kind.name(), revision = %change.revision, %error, "a row does not fit its kind");
            }
        });
    }

    /// The batches.
    pub fn into_map(self) -> HashMap<&'static str, Batch> {
        self.batches
    }
}
