//! The HTTP API, over real sockets.

mod contract;
mod gate;
mod reader;
mod rest;
mod smuggling;
mod streams;
mod tables;
mod web;
pub(crate) mod wire;
