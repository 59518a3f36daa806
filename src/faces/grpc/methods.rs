//! The methods of the services, from their descriptors. Only these names get into a metric's labels, whatever
//! path a client asks for.

use crate::{proto, server::Method};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::HashMap;

/// The method that a call to an unknown path is counted under.
const UNKNOWN: Method = Method { name: "unknown", streams: false, anonymous: false };

/// All methods by path.
pub(super) struct Methods(HashMap<&'static str, Method>);

impl Methods {
    /// Of our own services, of health and of reflection. The paths live as long as the process.
    pub(super) fn of_all_services() -> Result<Self, prost::DecodeError> {
        let mut methods = HashMap::new();
        let sets = [
            proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        for set in sets {
            for file in FileDescriptorSet::decode(set)?.file {
                for service in &file.service {
                    for method in &service.method {
                        let name: &'static str =
                            format!("/{}.{}/{}", file.package(), service.name(), method.name()).leak();
                        let streams = method.client_streaming() || method.server_streaming();
                        // Whoever looks after the hub's process asks how it is, and has no credential.
                        let anonymous = file.package() == "grpc.health.v1";
                        methods.insert(name, Method { name, streams, anonymous });
                    }
                }
            }
        }
        Ok(Self(methods))
    }

    pub(super) fn find(&self, name: &str) -> Method {
        self.0.get(name).copied().unwrap_or(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known() {
        let methods = Methods::of_all_services().unwrap();
        assert!(methods.find("/rh_trex.v1.DinosaurService/WatchDinosaurs").streams);
        assert!(!methods.find("/rh_trex.v1.DinosaurService/GetDinosaur").streams);
        assert!(!methods.find("/grpc.health.v1.Health/Check").streams);
        assert_eq!(methods.find("/nonsense"), UNKNOWN);
    }
}
