//! What has to be looked after while a hub runs: retention, triggers, old transactions.

pub(crate) mod compactor;
pub(crate) mod inspector;
