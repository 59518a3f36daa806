//! Generated messages and services, and their descriptors.

pub mod codec;

/// `rh_trex.v1`, the published API.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, unreachable_pub, reason = "generated")]
pub mod rh_trex {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("rh_trex.v1");
    }
}

/// `hub.v1`, what a hub offers whatever it watches.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, unreachable_pub, reason = "generated")]
pub mod hub {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("hub.v1");
    }
}

/// All protos, with their imports and options, as a `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.binpb"));
