//! The options on who can reach a hub, and whether that is encrypted.

use crate::{
    app::{Endpoints, ListenersTls},
    server::{Files, MinVersion, Protocol, Tls},
};
use anyhow::bail;
use std::{path::PathBuf, sync::Arc};

/// Where gRPC listens by default.
pub(super) const GRPC: &str = "localhost:9000";
/// Where the operator's gRPC listens by default.
pub(super) const ADMIN: &str = "localhost:9001";

/// TLS of the listeners.
#[derive(Debug, clap::Args)]
pub(super) struct ListenerOptions {
    /// Whether gRPC is encrypted
    #[arg(
        long, env = "TREX_GRPC_ENABLE_TLS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    grpc_enable_tls: bool,
    /// The certificate of gRPC, and those between it and its authority, in PEM; looked at every 10 s
    #[arg(long, env = "TREX_GRPC_TLS_CERT_FILE", value_name = "FILE")]
    grpc_tls_cert_file: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, env = "TREX_GRPC_TLS_KEY_FILE", value_name = "FILE")]
    grpc_tls_key_file: Option<PathBuf>,
    /// Whether clients of gRPC must show a certificate
    #[arg(
        long, env = "TREX_GRPC_TLS_ENABLE_CLIENT_AUTH", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    grpc_tls_enable_client_auth: bool,
    /// The authority of clients' certificates, in PEM
    #[arg(long, env = "TREX_GRPC_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    grpc_tls_client_ca_file: Option<PathBuf>,
    /// The oldest TLS version to accept [default: 1.2]
    #[arg(long, env = "TREX_GRPC_TLS_MIN_VERSION", value_enum, value_name = "VERSION")]
    grpc_tls_min_version: Option<MinVersion>,
    /// Whether the operator's gRPC is encrypted too, by the same certificate and rules
    #[arg(
        long, env = "TREX_ADMIN_ENABLE_TLS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    admin_enable_tls: bool,
    /// Whether the HTTP API is encrypted
    #[arg(
        long, env = "TREX_ENABLE_HTTPS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    enable_https: bool,
    /// The certificate of what speaks HTTP, in PEM; looked at every 10 s
    #[arg(long, env = "TREX_HTTPS_CERT_FILE", value_name = "FILE")]
    https_cert_file: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, env = "TREX_HTTPS_KEY_FILE", value_name = "FILE")]
    https_key_file: Option<PathBuf>,
    /// Whether /metrics is encrypted
    #[arg(
        long, env = "TREX_ENABLE_METRICS_HTTPS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    enable_metrics_https: bool,
    /// Whether /healthcheck and /readyz are encrypted
    #[arg(
        long, env = "TREX_ENABLE_HEALTH_CHECK_HTTPS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    enable_health_check_https: bool,
    /// Listen in plain text where other machines can reach it: something in front encrypts, or the network is
    /// trusted
    #[arg(
        long, env = "TREX_INSECURE", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    insecure: bool,
}

impl ListenerOptions {
    /// Reads the certificates. A flag without effect is an error: it would be taken for protection.
    pub(super) fn read(&self) -> anyhow::Result<ListenersTls> {
        let grpc = self.grpc()?;
        let https = self.https(Protocol::Http1)?;
        Ok(ListenersTls {
            admin: grpc.clone().filter(|_| self.admin_enable_tls),
            grpc: grpc.filter(|_| self.grpc_enable_tls),
            api: self.https(Protocol::Either)?.filter(|_| self.enable_https),
            metrics: https.clone().filter(|_| self.enable_metrics_https),
            health: https.filter(|_| self.enable_health_check_https),
            ..ListenersTls::default()
        })
    }

    fn grpc(&self) -> anyhow::Result<Option<Arc<Tls>>> {
        let given = [
            ("--grpc-tls-cert-file", self.grpc_tls_cert_file.is_some()),
            ("--grpc-tls-key-file", self.grpc_tls_key_file.is_some()),
            ("--grpc-tls-enable-client-auth", self.grpc_tls_enable_client_auth),
            ("--grpc-tls-client-ca-file", self.grpc_tls_client_ca_file.is_some()),
            ("--grpc-tls-min-version", self.grpc_tls_min_version.is_some()),
        ];
        if !self.grpc_enable_tls && !self.admin_enable_tls {
            return idle(&given, "--grpc-enable-tls or --admin-enable-tls");
        }
        let (Some(certificate), Some(key)) = (&self.grpc_tls_cert_file, &self.grpc_tls_key_file) else {
            bail!("--grpc-enable-tls needs --grpc-tls-cert-file and --grpc-tls-key-file");
        };
        let client_authority = match (self.grpc_tls_enable_client_auth, &self.grpc_tls_client_ca_file) {
            (true, None) => bail!("--grpc-tls-enable-client-auth needs --grpc-tls-client-ca-file"),
            (false, Some(_)) => {
                bail!("--grpc-tls-client-ca-file does nothing without --grpc-tls-enable-client-auth")
            }
            (_, authority) => authority.clone(),
        };
        let files = Files { certificate: certificate.clone(), key: key.clone(), client_authority };
        let minimum = self.grpc_tls_min_version.unwrap_or_default();
        let tls = Tls::new(files, Protocol::Http2, minimum)
            .map_err(|fault| anyhow::anyhow!("--grpc-enable-tls: {fault}"))?;
        Ok(Some(Arc::new(tls)))
    }

    fn https(&self, protocol: Protocol) -> anyhow::Result<Option<Arc<Tls>>> {
        let given = [
            ("--https-cert-file", self.https_cert_file.is_some()),
            ("--https-key-file", self.https_key_file.is_some()),
        ];
        if !self.enable_https && !self.enable_metrics_https && !self.enable_health_check_https {
            return idle(&given, "--enable-https, --enable-metrics-https or --enable-health-check-https");
        }
        let (Some(certificate), Some(key)) = (&self.https_cert_file, &self.https_key_file) else {
            bail!(
                "--enable-https, --enable-metrics-https and --enable-health-check-https need \
                 --https-cert-file and --https-key-file"
            );
        };
        let files = Files { certificate: certificate.clone(), key: key.clone(), client_authority: None };
        let tls = Tls::new(files, protocol, MinVersion::default())
            .map_err(|fault| anyhow::anyhow!("--https-cert-file: {fault}"))?;
        Ok(Some(Arc::new(tls)))
    }

    /// Whether callers of gRPC are known by certificates.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.grpc_enable_tls && self.grpc_tls_enable_client_auth
    }

    /// Refuses plain text that other machines could read on the way, unless that is meant.
    pub(super) fn check(&self, endpoints: &Endpoints, tls: &ListenersTls, asks: bool) -> anyhow::Result<()> {
        let exposed = endpoints.exposed(tls).join(", ");
        if exposed.is_empty() {
            return Ok(());
        }
        if !self.insecure {
            bail!(
                "{exposed}: other machines can reach it, in plain text: listen on localhost, enable TLS \
                 there, or \
                   give --insecure if something in front encrypts"
            );
        }
        let who =
            if asks { "whoever is on the way reads credentials" } else { "nobody is asked who they are" };
        tracing::warn!(listeners = exposed, who, "open to other machines in plain text");
        Ok(())
    }
}

/// Refuses a flag that has no effect without another.
fn idle(given: &[(&str, bool)], without: &str) -> anyhow::Result<Option<Arc<Tls>>> {
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => bail!("{flag} does nothing without {without}"),
        None => Ok(None),
    }
}
