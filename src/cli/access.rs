//! The options of every command that asks a hub: whom it trusts, and who it is.

use crate::client::{Access, Hub, Token};
use anyhow::Context;
use std::{env, path::PathBuf};

/// Holds the token: everybody on the machine could see an argument.
const TOKEN: &str = "TREX_TOKEN";

/// How a hub is reached.
#[derive(Debug, clap::Args)]
pub(super) struct AccessOptions {
    /// For https: the authority of the hub's certificate, in PEM [default: those that this machine trusts]
    #[arg(long, env = "TREX_CA_FILE", value_name = "FILE", help_heading = "Access")]
    ca_file: Option<PathBuf>,
    /// For https: the certificate of this client, in PEM
    #[arg(
        long,
        env = "TREX_CLIENT_CERT",
        value_name = "FILE",
        help_heading = "Access",
        requires = "client_key"
    )]
    client_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(
        long,
        env = "TREX_CLIENT_KEY",
        value_name = "FILE",
        help_heading = "Access",
        requires = "client_cert"
    )]
    client_key: Option<PathBuf>,
    /// A file with the token that says who asks, read at each call; or the variable TREX_TOKEN holds the
    /// token itself
    #[arg(long, env = "TREX_TOKEN_FILE", value_name = "FILE", help_heading = "Access")]
    token_file: Option<PathBuf>,
}

impl AccessOptions {
    /// The hub at `server`.
    pub(super) fn hub(&self, server: &str) -> anyhow::Result<Hub> {
        let given = env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
        let token = match (&self.token_file, given) {
            (Some(file), _) => Token::File(file.as_path().into()),
            (None, Some(token)) => Token::Given(token.into()),
            (None, None) => Token::None,
        };
        let access = Access {
            authority: self.ca_file.clone(),
            identity: self.client_cert.clone().zip(self.client_key.clone()),
            token,
        };
        Hub::new(server, &access).with_context(|| format!("--server {server}"))
    }
}
