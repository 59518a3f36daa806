//! trex, a watch hub for Postgres: every committed change to a watched table reaches every watcher, in commit order, over gRPC streams.
//!
//! The modules in the order of the flow: [`store`] captures and seals, [`capture`] follows the seal, [`log`] keeps events in memory,
//! [`broker`] fans them out, [`controller`] acts on them, [`transport`] carries them away; [`kinds`] says what is particular to a table.

// A macro that prints panics where nobody can read it: `cli::print` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod broker;
pub mod bulk;
pub mod capture;
pub mod cli;
pub mod client;
pub mod controller;
pub mod embedded;
pub mod error;
pub mod health;
pub mod introspection;
pub mod kind;
pub mod kinds;
pub mod log;
pub mod model;
pub mod proto;
pub mod reader;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod transport;
