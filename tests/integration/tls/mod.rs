//! TLS: to Postgres, and to clients.

mod clients;
mod postgres;
mod relay;
mod whole;

use crate::support::{Database, certificates::Authority, until};
use relay::Relay;
use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process,
    sync::atomic::{AtomicU8, Ordering},
};
use tokio::sync::OnceCell;
use trex::{embedded::testing::EphemeralPostgres, store::Target};

/// Who may come how. `db.test` is the name in the server's certificate.
const RULES: &str = "\
local all all trust
hostssl all scram all scram-sha-256
hostssl all mutual all trust clientcert=verify-ca
hostnossl all clear all trust
hostssl all postgres all trust
";

/// A cluster that is reached by TCP, with a certificate of its authority.
pub(crate) struct Secured {
    pub(crate) cluster: EphemeralPostgres,
    pub(crate) authority: Authority,
    /// A loopback that no other cluster has.
    pub(crate) address: String,
}

/// One for the run.
pub(crate) async fn secured() -> &'static Secured {
    static SECURED: OnceCell<Secured> = OnceCell::const_new();
    SECURED.get_or_init(Secured::start).await
}

impl Secured {
    pub(crate) async fn start() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = process::id().to_be_bytes();
        let address = format!("127.{high}.{low}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let settings =
            vec![("listen_addresses".into(), address.clone()), ("max_connections".into(), "100".into())];
        let cluster = EphemeralPostgres::start(settings).await.expect("a cluster");
        let authority = Authority::new("authority of Postgres");
        let pair = authority.issue("server", &["db.test"]);
        let account = fs::metadata(cluster.socket_dir()).expect("a directory");
        // The server takes no key of somebody else's.
        chown(&pair.key, Some(account.uid()), Some(account.gid())).expect("its key");
        let secured = Self { cluster, authority, address };
        let session = Database::of(&secured.cluster, "postgres").connect().await;
        let rules: String = session.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
        fs::write(rules, RULES).expect("its rules");
        let roles = "CREATE ROLE scram LOGIN SUPERUSER PASSWORD 'secret'; CREATE ROLE mutual LOGIN SUPERUSER;
                     CREATE ROLE clear LOGIN SUPERUSER";
        session.batch_execute(roles).await.unwrap();
        secured.present(&pair.certificate, &pair.key).await;
        secured
    }

    /// Gives the server another certificate.
    pub(crate) async fn present(&self, certificate: &Path, key: &Path) {
        let session = Database::of(&self.cluster, "postgres").connect().await;
        for (name, value) in [
            ("ssl_cert_file", certificate),
            ("ssl_key_file", key),
            ("ssl_ca_file", &self.authority.path()),
            ("ssl", Path::new("on")),
        ] {
            session.batch_execute(&format!("ALTER SYSTEM SET {name} = '{}'", value.display())).await.unwrap();
        }
        session.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // Each new session has what was reloaded; the postmaster may need a moment.
        crate::support::until_true("the server takes its certificate", async || {
            let session = Database::of(&self.cluster, "postgres").connect().await;
            let file: String = session
                .query_one("SELECT current_setting('ssl_cert_file') || current_setting('ssl')", &[])
                .await
                .unwrap()
                .get(0);
            file == format!("{}on", certificate.display())
        })
        .await;
    }

    /// A URL by TCP, with these parameters.
    pub(crate) fn url(&self, user: &str, database: &str, parameters: &str) -> String {
        format!("postgresql://{user}@db.test/{database}?hostaddr={}&{parameters}", self.address)
    }

    /// The parameters of the strictest mode.
    pub(crate) fn strict(&self) -> String {
        format!("sslmode=verify-full&sslrootcert={}", self.authority.path().display())
    }
}

/// Whether a session that is opened so is encrypted, or why there is none, in one line.
pub(crate) async fn encrypted(url: &str) -> Result<bool, String> {
    let target = Target::parse(url).map_err(|error| format!("{error:#}"))?;
    let session = target.open().await.map_err(|error| trex::error::chain(&error))?;
    let row = session.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await;
    Ok(row.map_err(|error| trex::error::chain(&error))?.get(0))
}
