//! The Postgres that a hub watches: the one it is told, or its own.

use super::{super::migrate::given, Serve};
use crate::{
    embedded::{self, EmbeddedPostgres, Options},
    store::Target,
};

/// The database that the embedded Postgres makes.
const DATABASE: &str = "trex";

/// The Postgres being watched, and the hub's own Postgres if it runs one.
pub(super) struct Database {
    pub(super) url: String,
    /// Without a password.
    pub(super) shown_url: String,
    /// For people.
    pub(super) describe: String,
    embedded: Option<EmbeddedPostgres>,
}

impl Database {
    /// The one that the options name; else an embedded Postgres, which is started.
    pub(super) async fn open(serve: &Serve) -> anyhow::Result<Self> {
        if let Some(url) = given(serve.database_url.as_deref()) {
            let target = Target::parse(url)?;
            for note in target.notes() {
                tracing::warn!("--database-url: {note}");
            }
            return Ok(Self {
                url: url.to_owned(),
                shown_url: target.url(),
                describe: format!("Postgres at {}", target.describe()),
                embedded: None,
            });
        }
        let data_dir = match &serve.data_dir {
            Some(given) => given.clone(),
            None => embedded::default_data_dir()?,
        };
        let options = Options { bindir: serve.pg_bindir.clone(), ..Options::in_directory(data_dir) };
        let embedded = EmbeddedPostgres::start(options).await?;
        embedded.create_database(DATABASE).await?;
        let url = embedded.database_url(DATABASE);
        let how =
            if embedded.adopted() { "its own Postgres, found running" } else { "a Postgres of its own" };
        let describe = format!("{how}, with its data in {}", embedded.data_dir().display());
        Ok(Self { shown_url: url.clone(), url, describe, embedded: Some(embedded) })
    }

    /// Stops the Postgres that was started.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        if let Some(embedded) = self.embedded {
            embedded.stop().await?;
        }
        Ok(())
    }
}
