//! The policy that is in force, which may be replaced while the hub runs.

use super::Policy;
use parking_lot::RwLock;
use std::sync::Arc;

/// Holds the policy. Without one, everybody may do everything. Cheap to clone: clones are one cell.
#[derive(Debug, Clone, Default)]
pub struct PolicyCell(Arc<RwLock<Option<InForce>>>);

#[derive(Debug, Clone)]
struct InForce {
    version: u64,
    policy: Arc<Policy>,
}

impl PolicyCell {
    /// With a policy.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Some(InForce { version: 1, policy: Arc::new(policy) }))))
    }

    /// Puts another in its place.
    pub fn replace(&self, policy: Policy) {
        let mut cell = self.0.write();
        let version = cell.as_ref().map_or(1, |known| known.version + 1);
        *cell = Some(InForce { version, policy: Arc::new(policy) });
    }

    /// The policy, and a number that no other has had; `None`: everybody may do everything.
    pub fn get(&self) -> Option<(u64, Arc<Policy>)> {
        self.0.read().as_ref().map(|known| (known.version, known.policy.clone()))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.read().is_some()
    }

    /// Its number; 0: there is none.
    pub fn version(&self) -> u64 {
        self.0.read().as_ref().map_or(0, |known| known.version)
    }
}
