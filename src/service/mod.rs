//! The use cases, free of any transport.

pub mod import;
pub mod operate;
