//! `trex keys`.

use super::{
    access::AccessOptions,
    failure::{Listener, explain},
    migrate::required,
    print::{Align, Output, print, say, shown, table},
};
use crate::{
    client::Link,
    faces::grpc::api_key,
    proto::hub::v1::{
        ApiKey, CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest,
        internal_auth_service_client::InternalAuthServiceClient,
    },
    service::keys::{KeyRequest, create, revoke},
    store::Store,
};
use prost_types::Timestamp;
use serde_json::json;
use std::time::{Duration, SystemTime};
use tonic::Status;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// API keys: make, list and revoke them
///
/// A hub with --enable-api-keys knows its callers by them. Without --database they are asked of its admin
/// listener, which needs the verb `manage_keys`; with it, of the database itself, which is how the first key
/// is made.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
    /// The hub's admin listener
    #[arg(
        long,
        env = "TREX_ADMIN_SERVER",
        default_value = "http://localhost:9001",
        value_name = "URL",
        global = true
    )]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// Act on the database of --database-url, whatever its hubs allow
    #[arg(long, global = true)]
    database: bool,
    /// With --database: the database, as a URL
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    database_url: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key, and print it: the one time that it can be seen
    Create {
        /// Who will have it
        #[arg(value_name = "NAME")]
        name: String,
        /// What it is good for: a verb, or a verb and kinds, such as get or watch:public.*; may be given
        /// again [default: whatever its owner may do]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// It ends after this, such as 30days [default: never]
        #[arg(long, value_parser = super::duration, value_name = "TIME")]
        expires: Option<Duration>,
    },
    /// Show the keys, the newest first; not what they are, which nobody keeps
    List {
        /// Those that are revoked, too
        #[arg(long)]
        revoked: bool,
        /// How to write them; JSON is an object a line
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Take a key back: its streams end within a second
    Revoke {
        /// The key, by the id that `list` shows
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Who is asked.
enum Ring {
    Hub(Box<InternalAuthServiceClient<Link>>),
    Database(Store),
}

impl Keys {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut ring = match self.database {
            true => Ring::Database(Store::new(&required(self.database_url.as_deref())?, 1)?),
            false => {
                let hub = self.access.hub(&self.server)?.timeout(CALL_TIMEOUT);
                Ring::Hub(Box::new(InternalAuthServiceClient::new(hub.connect_lazy())))
            }
        };
        let explained = |status: Status| explain(&self.server, Listener::Admin, &status);
        match self.action {
            Action::Create { name, scopes, expires } => {
                let expires_at = expires.map(|expires| SystemTime::now() + expires);
                let text = ring
                    .create(KeyRequest { name, scopes, expires_at })
                    .await
                    .map_err(|fault| fault.told(explained))?;
                print(&format!("{text}\n"))?;
                say("trex: keep it now: it is not shown again");
            }
            Action::List { revoked, output } => {
                let keys = ring.list(revoked).await.map_err(|fault| fault.told(explained))?;
                print(&written(&keys, output))?;
            }
            Action::Revoke { id } => {
                ring.revoke(id.clone()).await.map_err(|fault| fault.told(explained))?;
                print(&format!("revoked {}\n", shown(&id)))?;
            }
        }
        Ok(())
    }
}

/// Why it did not work.
enum Fault {
    Hub(Status),
    Database(crate::error::Error),
}

impl Fault {
    fn told(self, explained: impl Fn(Status) -> anyhow::Error) -> anyhow::Error {
        match self {
            Self::Hub(status) => explained(status),
            Self::Database(error) => anyhow::anyhow!("{}", crate::error::chain(&error)),
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Hub(status)
    }
}

impl From<crate::error::Error> for Fault {
    fn from(error: crate::error::Error) -> Self {
        Self::Database(error)
    }
}

impl Ring {
    async fn create(&mut self, request: KeyRequest) -> Result<String, Fault> {
        Ok(match self {
            Self::Hub(hub) => {
                let KeyRequest { name, scopes, expires_at } = request;
                let expires_at = expires_at.map(Timestamp::from);
                hub.create_api_key(CreateApiKeyRequest { name, scopes, expires_at })
                    .await?
                    .into_inner()
                    .api_key
            }
            Self::Database(store) => create(store, &request, None).await?.0.reveal().to_owned(),
        })
    }

    async fn list(&mut self, include_revoked: bool) -> Result<Vec<ApiKey>, Fault> {
        Ok(match self {
            Self::Hub(hub) => {
                hub.list_api_keys(ListApiKeysRequest { include_revoked }).await?.into_inner().keys
            }
            Self::Database(store) => {
                store.api_keys(include_revoked).await?.into_iter().map(api_key).collect()
            }
        })
    }

    async fn revoke(&mut self, id: String) -> Result<(), Fault> {
        match self {
            Self::Hub(hub) => drop(hub.revoke_api_key(RevokeApiKeyRequest { id }).await?),
            Self::Database(store) => revoke(store, &id).await?,
        }
        Ok(())
    }
}

fn written(keys: &[ApiKey], output: Output) -> String {
    let time = |at: &Option<Timestamp>| super::watch::time(at.as_ref());
    match output {
        Output::Json => keys
            .iter()
            .map(|key| {
                let ApiKey { id, name, scopes, created_by, .. } = key;
                let line = json!({
                    "id": id, "name": name, "scopes": scopes, "created_by": created_by,
                    "created_at": time(&key.created_at), "expires_at": time(&key.expires_at),
                    "revoked_at": time(&key.revoked_at), "last_used_at": time(&key.last_used_at),
                });
                format!("{line}\n")
            })
            .collect(),
        Output::Text => {
            let headings = ["ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "REVOKED"]
                .map(|name| (name, Align::Left));
            let row = |key: &ApiKey| {
                let scopes = match key.scopes.as_slice() {
                    [] => "all".to_owned(),
                    scopes => shown(&scopes.join(" ")),
                };
                vec![
                    key.id.clone(),
                    shown(&key.name),
                    scopes,
                    time(&key.created_at),
                    time(&key.expires_at),
                    time(&key.last_used_at),
                    time(&key.revoked_at),
                ]
            };
            table(&headings, &keys.iter().map(row).collect::<Vec<_>>())
        }
    }
}
