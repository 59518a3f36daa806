//! Single connections, each with its driver.

use super::{
    DatabaseError,
    parameters::Parameters,
    passfile::{self, Wanted},
    tls::{Connector, Mode, PostgresStream, TlsFault},
};
use deadpool_postgres::Connect;
use std::{
    env,
    error::Error as _,
    future::poll_fn,
    ops::Deref,
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::{
    Client, Config, Connection, Error, Socket,
    config::{Host, SslMode, SslNegotiation},
    error::SqlState,
};

/// The database that the hub watches.
#[derive(Clone)]
pub struct Target {
    inner: Arc<Inner>,
    /// Whether a server session is a connection's own, so that what is set in it stays.
    session: bool,
}

struct Inner {
    parameters: Parameters,
    first: Server,
    others: Vec<Server>,
    tls: Connector,
}

/// One of the hosts, with the ways to it that are tried in turn.
struct Server {
    first: Config,
    then: Option<Config>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Target").field(&self.describe()).finish()
    }
}

/// What the environment adds to a URL, as libpq has it.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
];

impl Target {
    /// From a URL or a key-value string, as libpq writes them. Certificates and keys are read now. The error
    /// holds no secret.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        Self::parse_in(url, &|name| env::var(name).ok().filter(|value| !value.is_empty()))
            .map_err(|fault| anyhow::anyhow!("--database-url: {fault}"))
    }

    fn parse_in(url: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut parameters = Parameters::parse(url)?;
        if parameters.hosts.is_empty() {
            parameters.hosts =
                parameters.addresses.iter().map(|address| Host::Tcp(address.to_string())).collect();
        }
        let home = environment("HOME").map(PathBuf::from);
        let by_network = parameters.hosts.iter().any(|host| matches!(host, Host::Tcp(_)));
        // A socket on this machine needs none.
        let tls = if by_network {
            for (variable, name) in ENVIRONMENT {
                let in_url = parameters.shown.iter().any(|(shown, _)| shown == name);
                if let Some(value) = environment(variable).filter(|_| !in_url) {
                    parameters.security.take(name, &value).map_err(|fault| format!("{variable}: {fault}"))?;
                }
            }
            parameters.security.connector(home.as_deref())?
        } else {
            Connector::none()
        };
        let mut servers = servers(&mut parameters, home, environment)?.into_iter();
        let first = servers.next().ok_or("it names no host")?;
        let inner = Arc::new(Inner { first, others: servers.collect(), parameters, tls });
        Ok(Self { inner, session: true })
    }

    /// The same through a transaction pooler: there a server session is no connection's own, and nothing that
    /// is set in it stays.
    pub fn pooled(self) -> Self {
        Self { session: false, ..self }
    }

    /// Whether a server session is a connection's own.
    pub(super) fn keeps_session(&self) -> bool {
        self.session
    }

    /// What the URL says that is ignored, a line each.
    pub fn notes(&self) -> &[String] {
        &self.inner.parameters.notes
    }

    /// Where it is, without secrets.
    pub fn describe(&self) -> String {
        let parameters = &self.inner.parameters;
        let host = parameters.hosts.first().map(name_of).unwrap_or_default();
        let database = parameters.database.as_deref().or(parameters.user.as_deref()).unwrap_or("postgres");
        format!("{host}, database {database}")
    }

    /// A URL that libpq takes, without secrets.
    pub fn url(&self) -> String {
        let parameters = &self.inner.parameters;
        let user = parameters.user.as_deref().map(|user| encode(user) + "@").unwrap_or_default();
        let hosts: Vec<_> = parameters.hosts.iter().map(|host| encode(&name_of(host))).collect();
        let ports: Vec<_> = parameters.ports.iter().map(u16::to_string).collect();
        let mut pairs = vec![("host", hosts.join(",")), ("port", ports.join(","))];
        pairs.extend(parameters.shown.iter().map(|(name, value)| (name.as_str(), encode(value))));
        let pairs: Vec<_> = pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let database = parameters.database.as_deref().map(encode).unwrap_or_default();
        format!("postgresql://{user}/{database}?{}", pairs.join("&"))
    }

    /// For a library that wants one; connections are made by [`Target::connect`].
    pub(super) fn config(&self) -> &Config {
        &self.inner.first.first
    }

    /// How its connections are encrypted, those that cancel a statement included.
    pub(super) fn tls(&self) -> Connector {
        self.inner.tls.clone()
    }

    /// Tries the hosts in their order, or in any if they are to share the load.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, PostgresStream>), Error> {
        let inner = &self.inner;
        let mut servers: Vec<&Server> = [&inner.first].into_iter().chain(&inner.others).collect();
        if inner.parameters.balance {
            fastrand::shuffle(&mut servers);
        }
        let mut servers = servers.into_iter();
        let mut outcome = self.connect_to(servers.next().unwrap_or(&inner.first)).await;
        for server in servers {
            if outcome.is_ok() {
                break;
            }
            outcome = self.connect_to(server).await;
        }
        outcome
    }

    async fn connect_to(
        &self,
        server: &Server,
    ) -> Result<(Client, Connection<Socket, PostgresStream>), Error> {
        match (server.first.connect(self.tls()).await, &server.then) {
            (Err(error), Some(then)) if wants_the_other_way(&error) => then.connect(self.tls()).await,
            (outcome, _) => outcome,
        }
    }

    /// A connection whose driver runs until it is dropped.
    pub async fn open(&self) -> Result<Driven, Error> {
        let (client, connection) = self.connect().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %DatabaseError::from(error), "database connection ended");
            }
        });
        Ok(Driven { client, driver })
    }
}

/// A configuration for each host. In it stand also the password and what the URL leaves to this program.
fn servers(
    parameters: &mut Parameters,
    home: Option<PathBuf>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Server>, String> {
    let hosts = parameters.hosts.len();
    let fits = |many: usize, most_one: usize| many <= most_one || many == hosts;
    if !fits(parameters.ports.len(), 1) || !fits(parameters.addresses.len(), 0) {
        return Err("it has not as many ports or addresses as hosts".to_owned());
    }
    let user = parameters.user.clone().or_else(|| environment("USER")).unwrap_or_default();
    let database = parameters.database.clone().unwrap_or_else(|| user.clone());
    let default_file = || home.map(|home| home.join(".pgpass"));
    let given_file = parameters.passfile.clone().or_else(|| environment("PGPASSFILE"));
    let passfile = given_file.map(PathBuf::from).or_else(default_file);
    let password = parameters.password.clone().or_else(|| environment("PGPASSWORD").map(String::into_bytes));
    let mut servers = Vec::with_capacity(hosts);
    for (number, host) in parameters.hosts.iter().enumerate() {
        let port = parameters.ports.get(number).or(parameters.ports.first()).copied().unwrap_or(5432);
        let mut config = with_defaults(parameters.config.clone());
        config.port(port);
        match host {
            Host::Tcp(name) => config.host(name),
            Host::Unix(path) => config.host_path(path),
        };
        parameters.addresses.get(number).map(|&address| config.hostaddr(address));
        parameters.user.as_deref().map(|user| config.user(user));
        parameters.database.as_deref().map(|database| config.dbname(database));
        let wanted = Wanted { host: &name_of(host), port, database: &database, user: &user };
        match (&password, &passfile) {
            (Some(password), _) => drop(config.password(password)),
            (None, Some(file)) => match passfile::look_up(file, &wanted) {
                Ok(found) => drop(found.map(|password| config.password(password))),
                Err(note) if parameters.notes.contains(&note) => {}
                Err(note) => parameters.notes.push(note),
            },
            (None, None) => {}
        }
        servers.push(ways(config, host, parameters.security.mode()));
    }
    Ok(servers)
}

/// The connector asks the server whether it speaks TLS, so the driver is told to begin with it (see
/// [`super::tls`]).
fn ways(mut config: Config, host: &Host, mode: Mode) -> Server {
    let mut encrypted = config.clone();
    encrypted.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    config.ssl_mode(SslMode::Disable);
    match (host, mode) {
        (Host::Unix(_), _) | (_, Mode::Disable) => Server { first: config, then: None },
        (_, Mode::Allow) => Server { first: config, then: Some(encrypted) },
        (_, Mode::Prefer) => Server { first: encrypted, then: Some(config) },
        (_, Mode::Require | Mode::VerifyCa | Mode::VerifyFull) => Server { first: encrypted, then: None },
    }
}

/// A dead peer is noticed within half a minute even when nothing is sent; a lost packet within 20 s when
/// something is.
fn with_defaults(mut config: Config) -> Config {
    if config.get_application_name().is_none() {
        config.application_name("trex");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(20));
    }
    let untouched = Config::new();
    if config.get_keepalives_idle() == untouched.get_keepalives_idle() {
        config.keepalives_idle(Duration::from_secs(15));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    config
}

/// Whether `allow` or `prefer` goes on: the handshake failed, or the server's rules have no entry for this
/// way.
fn wants_the_other_way(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
        || error.source().is_some_and(|source| source.is::<TlsFault>())
}

fn name_of(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.to_string_lossy().into_owned(),
    }
}

fn encode(text: &str) -> String {
    let one = |byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
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

/// Makes the pool's connections, which belong to the hub's runtime and not to whoever asks for one: a lane
/// ends before its neighbours do.
pub(super) struct OnRuntime {
    pub(super) runtime: Handle,
    pub(super) target: Target,
}

impl Connect for OnRuntime {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let mut connecting = pin!(self.target.connect());
            let (client, connection) = poll_fn(|cx| {
                let _runtime = self.runtime.enter();
                connecting.as_mut().poll(cx)
            })
            .await?;
            let driver = self.runtime.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error = %DatabaseError::from(error), "a pooled database connection \
                        ended");
                }
            });
            Ok((client, driver))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, environment: &[(&str, &str)]) -> Result<Target, String> {
        let look = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Target::parse_in(url, &look)
    }

    #[test]
    fn what_is_shown_connects_again_and_holds_no_secret() {
        let target = target(
            "postgresql://hub:secret@db.example:6432/app?sslmode=require&channel_binding=require&schema=public",
            &[],
        )
        .unwrap();
        assert_eq!(
            target.url(),
            "postgresql://hub@/app?host=db.example&port=6432&sslmode=require&channel_binding=require"
        );
        assert_eq!(target.describe(), "db.example, database app");
        assert_eq!(format!("{target:?}"), r#"Target("db.example, database app")"#);
        assert_eq!(target.notes().len(), 1);
    }

    #[test]
    fn the_environment_fills_in_what_the_url_leaves_out() {
        let password = |url: &str, environment: &[(&str, &str)]| {
            target(url, environment).unwrap().config().get_password().map(<[u8]>::to_vec)
        };
        assert_eq!(password("postgresql://hub@db/app", &[("PGPASSWORD", "x")]), Some(b"x".to_vec()));
        assert_eq!(password("postgresql://hub:y@db/app", &[("PGPASSWORD", "x")]), Some(b"y".to_vec()));
        let refusal = target("postgresql://hub@db/app", &[("PGSSLMODE", "verify-full")]).unwrap_err();
        assert!(refusal.contains("sslrootcert"), "{refusal}");
        // Not for a socket.
        assert!(target("postgresql:///app?host=/run", &[("PGSSLMODE", "verify-full")]).is_ok());
        assert!(target("postgresql://db/app?sslmode=disable", &[("PGSSLMODE", "verify-full")]).is_ok());
    }

    #[test]
    fn modes_choose_their_ways() {
        for (mode, first, then) in [
            ("disable", SslMode::Disable, None),
            ("allow", SslMode::Disable, Some(SslMode::Require)),
            ("prefer", SslMode::Require, Some(SslMode::Disable)),
            ("require", SslMode::Require, None),
        ] {
            let target = target(&format!("postgresql://hub@db/app?sslmode={mode}"), &[]).unwrap();
            let server = &target.inner.first;
            assert_eq!(server.first.get_ssl_mode(), first, "{mode}");
            assert_eq!(server.then.as_ref().map(Config::get_ssl_mode), then, "{mode}");
        }
    }

    #[test]
    fn a_url_must_say_where() {
        for bad in ["postgresql:///app", "postgresql://a,b:1,c/app?port=1,2"] {
            assert!(target(bad, &[]).is_err(), "{bad}");
        }
    }
}
