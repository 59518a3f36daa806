//! trex, a watch hub for Postgres: every committed change to a watched table reaches every watcher, in commit
//! order, over gRPC streams.
//!
//! The modules in the order of the flow: [`store`] captures and seals, [`feed`] follows the seal, [`log`]
//! keeps events in memory, [`broker`] fans them out, [`controller`] acts on them, [`service`] holds the use
//! cases, and [`faces`] carry them to clients.

// The printing macros panic when nobody reads the output; `cli::print` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod auth;
mod backoff;
pub mod broker;
pub mod call;
pub mod catalog;
pub mod cli;
pub mod client;
pub mod controller;
pub mod embedded;
pub mod error;
pub mod faces;
pub mod feed;
pub mod health;
pub mod log;
pub mod model;
pub mod proto;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod upkeep;
pub mod wire;
