//! Where a hub listens.

use super::ListenersTls;
use crate::server;
use std::net::TcpListener;

/// Sockets that are bound but not yet served.
pub struct Endpoints {
    pub(super) grpc: Option<Vec<TcpListener>>,
    pub(super) admin: Vec<TcpListener>,
    pub(super) api: Vec<TcpListener>,
    pub(super) metrics: Vec<TcpListener>,
    pub(super) health: Vec<TcpListener>,
}

/// Where a hub listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// gRPC, if it is served.
    pub grpc: Option<String>,
    /// The operator's gRPC.
    pub admin: String,
    /// The HTTP API.
    pub api: String,
    /// Metrics.
    pub metrics: String,
    /// Health.
    pub health: String,
}

impl Endpoints {
    /// Binds them all, or none.
    pub async fn bind(
        grpc: Option<&String>,
        admin: &str,
        api: &str,
        metrics: &str,
        health: &str,
    ) -> Result<Self, server::BindError> {
        Ok(Self {
            grpc: match grpc {
                Some(address) => Some(server::bind("--grpc-server-bindaddress", address).await?),
                None => None,
            },
            admin: server::bind("--admin-server-bindaddress", admin).await?,
            api: server::bind("--api-server-bindaddress", api).await?,
            metrics: server::bind("--metrics-server-bindaddress", metrics).await?,
            health: server::bind("--health-check-server-bindaddress", health).await?,
        })
    }

    /// Any free ports of the loopbacks.
    pub async fn ephemeral() -> Result<Self, server::BindError> {
        let any = "localhost:0";
        Self::bind(Some(&any.to_owned()), any, any, any, any).await
    }

    /// The flags of listeners that other machines can reach in plain text.
    pub fn exposed(&self, tls: &ListenersTls) -> Vec<&'static str> {
        let no_sockets = Vec::new();
        let all = [
            ("--grpc-server-bindaddress", self.grpc.as_ref().unwrap_or(&no_sockets), &tls.grpc),
            ("--admin-server-bindaddress", &self.admin, &tls.admin),
            ("--api-server-bindaddress", &self.api, &tls.api),
            ("--metrics-server-bindaddress", &self.metrics, &tls.metrics),
            ("--health-check-server-bindaddress", &self.health, &tls.health),
        ];
        let is_open = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|address| !address.ip().to_canonical().is_loopback())
        };
        let exposed =
            all.into_iter().filter(|(_, sockets, tls)| tls.is_none() && sockets.iter().any(is_open));
        exposed.map(|(flag, ..)| flag).collect()
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            grpc: self.grpc.as_deref().map(describe),
            admin: describe(&self.admin),
            api: describe(&self.api),
            metrics: describe(&self.metrics),
            health: describe(&self.health),
        }
    }
}

/// Both loopbacks are `localhost`.
fn describe(listeners: &[TcpListener]) -> String {
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    match addresses.as_slice() {
        [first, ..] if addresses.iter().all(|address| address.ip().is_loopback()) => {
            format!("localhost:{}", first.port())
        }
        [first, ..] => first.to_string(),
        [] => String::new(),
    }
}
