//! The HTTP API, over real sockets.

mod gate;
mod rest;
mod smuggling;
pub(crate) mod wire;
