//! Thin adapters between the wire and the use cases.

pub mod grpc;
pub mod http;
