//! The settings that all services share: how large requests may be, and how they may be compressed.

use crate::proto::{
    hub::v1::{
        admin_service_server::AdminServiceServer, audit_service_server::AuditServiceServer,
        event_service_server::EventServiceServer, internal_auth_service_server::InternalAuthServiceServer,
        table_service_server::TableServiceServer, watch_service_server::WatchServiceServer,
    },
    rh_trex::v1::dinosaur_service_server::DinosaurServiceServer,
};
use tonic::codec::CompressionEncoding;

/// A service that reads messages.
pub trait Bounded: Sized {
    /// The same, which takes messages of at most this many bytes, and compressed ones too.
    fn bounded(self, max_message_bytes: usize) -> Self;
}

/// The generated services have these methods, but no trait for them.
macro_rules! bounded {
    ($($service:ident),*) => {
        $(impl<T> Bounded for $service<T> {
            fn bounded(self, max_message_bytes: usize) -> Self {
                self.max_decoding_message_size(max_message_bytes).accept_compressed(CompressionEncoding::Gzip)
            }
        })*
    };
}

bounded!(DinosaurServiceServer, EventServiceServer, AuditServiceServer, AdminServiceServer);
bounded!(WatchServiceServer, TableServiceServer, InternalAuthServiceServer);
