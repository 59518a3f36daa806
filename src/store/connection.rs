//! Single connections, each with its driver.

use super::DatabaseError;
use deadpool_postgres::{ConfigConnectImpl, Connect};
use std::{future::poll_fn, ops::Deref, pin::Pin, str::FromStr, time::Duration};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::{
    Client, Config, Connection, NoTls, Socket,
    config::{Host, SslMode},
    tls::NoTlsStream,
};

/// The database that the hub watches.
#[derive(Debug, Clone)]
pub struct Target(Config);

impl Target {
    /// From a URL or a key-value string, as libpq writes them.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        // The parser's own message may quote the URL, and with it a password.
        if url.contains("sslmode=verify") {
            anyhow::bail!(
                "--database-url: TLS to Postgres is not supported yet; use a local socket, a tunnel or a private network"
            );
        }
        let mut config = Config::from_str(url).map_err(|_| {
            anyhow::anyhow!("--database-url is not a Postgres URL, such as postgresql://user@host/database")
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            anyhow::bail!(
                "--database-url: sslmode=require is not supported yet; use a local socket, a tunnel or a private network"
            );
        }
        // A dead peer is noticed within half a minute even when nothing is sent; a lost packet within 20 s when something is.
        config
            .application_name("trex")
            .connect_timeout(Duration::from_secs(5))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20));
        Ok(Self(config))
    }

    pub(super) fn config(&self) -> &Config {
        &self.0
    }

    /// Where it is, without secrets.
    pub fn describe(&self) -> String {
        let host = self.0.get_hosts().first().map_or_else(
            || "localhost".to_owned(),
            |host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            },
        );
        format!("{host}, database {}", self.0.get_dbname().or(self.0.get_user()).unwrap_or("postgres"))
    }

    /// A URL that libpq takes, without secrets.
    pub fn url(&self) -> String {
        let encode = |text: &str| {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                        char::from(byte).to_string()
                    }
                    byte => format!("%{byte:02X}"),
                })
                .collect::<String>()
        };
        let user = self.0.get_user().map(|user| encode(user) + "@").unwrap_or_default();
        let hosts = self.0.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => encode(name),
            Host::Unix(path) => encode(&path.to_string_lossy()),
        });
        let ports = self.0.get_ports().iter().map(u16::to_string);
        let parameters =
            [("host", hosts.collect::<Vec<_>>().join(",")), ("port", ports.collect::<Vec<_>>().join(","))];
        let parameters: Vec<_> = parameters
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "postgresql://{user}/{}?{}",
            self.0.get_dbname().map(encode).unwrap_or_default(),
            parameters.join("&")
        )
    }

    pub(super) async fn connect(
        &self,
    ) -> Result<(Client, Connection<Socket, NoTlsStream>), tokio_postgres::Error> {
        self.0.connect(NoTls).await
    }

    /// A connection whose driver runs until it is dropped.
    pub async fn open(&self) -> Result<Driven, tokio_postgres::Error> {
        let (client, connection) = self.connect().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %DatabaseError::from(error), "database connection ended");
            }
        });
        Ok(Driven { client, driver })
    }
}

/// A connection and the task that drives it. Dropping it closes the connection at once.
pub struct Driven {
    client: Client,
    driver: JoinHandle<()>,
}

impl Driven {
    pub(super) fn new(client: Client, driver: JoinHandle<()>) -> Self {
        Self { client, driver }
    }
}

impl Deref for Driven {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Makes the pool's connections, which belong to the hub's runtime and not to whoever asks for one: a lane ends before its neighbours do.
pub(super) struct OnRuntime(pub(super) Handle);

impl Connect for OnRuntime {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>>
    {
        let config = config.clone();
        Box::pin(async move {
            let plain = ConfigConnectImpl { tls: NoTls };
            let mut connecting = plain.connect(&config);
            poll_fn(|cx| {
                let _runtime = self.0.enter();
                connecting.as_mut().poll(cx)
            })
            .await
        })
    }
}
