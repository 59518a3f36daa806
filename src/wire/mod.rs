//! How an event is spelt on the wire.

pub mod frame;
