//! What a watched kind is to those who capture, read and deliver: a name, a table, and how its events are written. [`crate::faces`] has them.

use crate::{log::Batch, model::Change, store::Scope, telemetry::Metrics};
use prost_types::Timestamp;
use serde::{Deserialize, Deserializer};
use std::{collections::HashMap, sync::Arc};

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
}

/// The kinds that a hub watches. Cheap to clone.
#[derive(Clone)]
pub struct Kinds(Arc<[Arc<dyn Kind>]>);

impl Kinds {
    /// These kinds.
    pub fn new(kinds: impl IntoIterator<Item = Arc<dyn Kind>>) -> Self {
        Self(kinds.into_iter().collect())
    }

    /// The kind of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Kind>> {
        self.0.iter().find(|kind| kind.name() == name)
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
        Batches { kinds: self, batches: HashMap::new() }
    }
}

/// Sealed changes, encoded and sorted by kind.
pub struct Batches<'a> {
    kinds: &'a Kinds,
    batches: HashMap<&'static str, Batch>,
}

impl Batches<'_> {
    /// Encodes a change, once, for everybody. Changes of kinds that this program does not know are left out.
    pub fn push(&mut self, change: &Change<'_>, sealed_at: u64, metrics: &Metrics) {
        let Some(kind) = self.kinds.get(change.kind) else { return };
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

/// A row does not fit its kind.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unreadable(#[from] serde_json::Error);

/// For `#[serde(deserialize_with)]`: a timestamp as Postgres writes it in JSON. What no protobuf timestamp can say (`infinity`,
/// years before 1) is unset.
pub fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map(|at| Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }))
}
