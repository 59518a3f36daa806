//! The watched kinds: values in a versioned list, which changes while the hub runs.
//!
//! Code that learns that a kind was added, changed or removed tells the [`Catalog`]. Code that works with
//! kinds takes a [`Kinds`], the list at one version, and uses it for a whole piece of work.

mod attached;
mod batches;
mod kind;

pub use crate::wire::{Renderer, Unreadable};
pub use attached::Attached;
pub use batches::Batches;
use batches::Counting;
pub use kind::{Kind, timestamp};

use crate::{
    model::{KindId, KindName, Removal},
    store::Scope,
    telemetry::Metrics,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};
use tokio::sync::watch;

/// The kinds at one version. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Kinds(Arc<List>);

#[derive(Debug, Clone, Default)]
struct List {
    version: u64,
    /// In the order in which they were added.
    kinds: Vec<Listed>,
    /// Why kinds were removed, including those that were added again.
    removals: HashMap<KindName, Removal>,
}

#[derive(Clone)]
struct Listed {
    kind: Arc<Kind>,
    id: KindId,
    /// One for as long as the kind stays as it is: events that are written by the same can stand side by
    /// side. Made when the first event comes.
    counting: Arc<OnceLock<Arc<Counting>>>,
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listed").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Listed {
    fn new(kind: Kind, version: u64) -> Self {
        let id = KindId { name: kind.name().clone(), version };
        Self { kind: Arc::new(kind), id, counting: Arc::default() }
    }
}

impl Kinds {
    /// These kinds, at version 0.
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let kinds = kinds.into_iter().map(|kind| Listed::new(kind, 0)).collect();
        Self(Arc::new(List { kinds, ..List::default() }))
    }

    /// Counts the changes of the list.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The kind of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Kind>> {
        self.iter().find(|kind| *kind.name() == *name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.kinds.iter().map(|listed| &listed.kind)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &KindName> {
        self.iter().map(|kind| kind.name())
    }

    /// The name of a kind, and its renderer with a count of what it cannot write.
    fn counting(&self, name: &str, metrics: &Metrics) -> Option<(KindName, Arc<dyn Renderer>)> {
        let Listed { kind, counting, .. } =
            self.0.kinds.iter().find(|listed| *listed.kind.name() == *name)?;
        let counting = counting.get_or_init(|| {
            let unreadable = metrics.undecodable_rows.with_label_values(&[name]);
            Arc::new(Counting { renderer: kind.renderer.clone(), unreadable })
        });
        Some((kind.name().clone(), counting.clone()))
    }

    /// The migrations of the tables that are ours.
    pub fn scopes(&self) -> Vec<Scope> {
        self.iter().filter_map(|kind| kind.scope).collect()
    }

    /// The id that distinguishes this kind from others that had its name.
    pub fn id(&self, name: &str) -> Option<&KindId> {
        self.0.kinds.iter().map(|listed| &listed.id).find(|id| id.name == *name)
    }

    /// Whether this very kind is there.
    pub fn has(&self, id: &KindId) -> bool {
        self.0.kinds.iter().any(|listed| listed.id == *id)
    }

    /// Why the kind of this name was removed, the last time.
    pub fn removal(&self, name: &str) -> Option<Removal> {
        self.0.removals.get(name).copied()
    }

    /// Empty batches, to be filled.
    pub fn batches(&self) -> Batches {
        Batches::of(self.clone())
    }
}

/// The list of kinds, which changes. Clones are one catalog.
#[derive(Debug, Clone)]
pub struct Catalog(Arc<watch::Sender<Kinds>>);

impl Catalog {
    /// Begins with these kinds.
    pub fn new(kinds: Kinds) -> Self {
        Self(Arc::new(watch::Sender::new(kinds)))
    }

    /// The list now.
    pub fn kinds(&self) -> Kinds {
        self.0.borrow().clone()
    }

    /// The lists from now on; the current one counts as seen.
    pub fn changes(&self) -> watch::Receiver<Kinds> {
        self.0.subscribe()
    }

    /// Adds a kind, or replaces the one of its name, whose streams go on. Returns the new version.
    pub fn put(&self, kind: Kind) -> u64 {
        self.change(|list| {
            match list.kinds.iter_mut().find(|listed| listed.kind.name() == kind.name()) {
                Some(listed) => *listed = Listed { id: listed.id.clone(), ..Listed::new(kind, 0) },
                None => list.kinds.push(Listed::new(kind, list.version)),
            }
            true
        })
    }

    /// Removes a kind; its streams end for this reason. Returns the version of a list without it.
    pub fn remove(&self, name: &str, why: Removal) -> u64 {
        self.change(|list| {
            let at = list.kinds.iter().position(|listed| *listed.kind.name() == *name);
            if let Some(at) = at {
                let gone = list.kinds.remove(at);
                list.removals.insert(gone.kind.name().clone(), why);
            }
            at.is_some()
        })
    }

    /// `false`: nothing has changed.
    fn change(&self, change: impl FnOnce(&mut List) -> bool) -> u64 {
        let mut version = 0;
        self.0.send_if_modified(|kinds| {
            let mut list = List::clone(&kinds.0);
            list.version += 1;
            let changed = change(&mut list);
            if changed {
                *kinds = Kinds(Arc::new(list));
            }
            version = kinds.version();
            changed
        });
        version
    }
}

#[cfg(test)]
mod tests;
