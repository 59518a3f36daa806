//! The door that every use case passes. What the use cases work with lies behind it: none of it can be had
//! without a [`Grant`], so that a use case that forgets the door does not compile.

pub use crate::auth::Action;
use crate::{call::Call, error::Error, model::KindName};

/// Says that a call may do something. [`authorize`] makes it, and nobody else can.
#[derive(Debug)]
pub(super) struct Grant(());

/// Whether a call may do this with resources of this kind; `None`: it is about no kind, or about all. Today
/// every call may.
///
/// # Errors
///
/// None yet: a call that may not will be told so here.
pub(super) fn authorize(call: &Call, action: Action, kind: Option<&KindName>) -> Result<Grant, Error> {
    let (operation, kind) = (call.operation(), kind.map(KindName::as_str));
    tracing::trace!(operation, actor = call.actor(), ?action, kind, "allowed");
    Ok(Grant(()))
}

/// What lies behind the door.
#[derive(Debug, Clone)]
pub(super) struct Guarded<T>(T);

impl<T> Guarded<T> {
    /// Puts it there.
    pub(super) fn new(inner: T) -> Self {
        Self(inner)
    }

    /// Hands it to a call that came through the door.
    pub(super) fn open(&self, _: &Grant) -> &T {
        &self.0
    }
}
