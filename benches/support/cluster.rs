//! A Postgres that keeps its promises: `fsync` and `synchronous_commit` on, in a directory that goes with the
//! program.

use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use trex::{
    embedded::{EmbeddedPostgres, Options},
    store::{Driven, Target},
};

/// A durable cluster for one program.
pub struct Cluster {
    postgres: Option<EmbeddedPostgres>,
    dir: PathBuf,
}

impl Cluster {
    /// Starts one below `parent`, or below the directory for temporary files. That must be on a disk for its
    /// fsync to mean anything.
    pub async fn start(parent: Option<&Path>) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let dir = parent.join(format!("trex-bench-{}", std::process::id()));
        let settings = [
            ("shared_buffers", "512MB"),
            // No checkpoint within a run: each is preceded by one.
            ("max_wal_size", "16GB"),
            ("checkpoint_timeout", "1h"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let postgres = EmbeddedPostgres::start(Options { settings, ..Options::in_directory(&dir) }).await?;
        let cluster = Self { postgres: Some(postgres), dir };
        let session = cluster.connect("postgres").await?;
        for name in ["fsync", "synchronous_commit"] {
            let value: String = session.query_one(&format!("SHOW {name}"), &[]).await?.get(0);
            ensure!(value == "on", "{name} is {value}");
        }
        Ok(cluster)
    }

    fn postgres(&self) -> anyhow::Result<&EmbeddedPostgres> {
        self.postgres.as_ref().context("the cluster was stopped")
    }

    /// Creates a database with the hub's schema and the dinosaurs.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.postgres()?.create_database(name).await?;
        let registry = trex::faces::Registry::of_this_program();
        trex::store::migrate(&self.target(name)?, &registry.kinds().scopes()).await?;
        Ok(())
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> anyhow::Result<String> {
        Ok(self.postgres()?.database_url(database))
    }

    /// A database, as the hub is told of it.
    pub fn target(&self, database: &str) -> anyhow::Result<Target> {
        Target::parse(&self.url(database)?)
    }

    /// A session.
    pub async fn connect(&self, database: &str) -> anyhow::Result<Driven> {
        Ok(self.target(database)?.open().await?)
    }

    /// The processes of the hub's sessions on a database, and of those that this program opened by the hub's
    /// own means and has not closed.
    pub async fn hub_backends(&self, database: &str) -> anyhow::Result<Vec<u32>> {
        let sql = "SELECT pid FROM pg_stat_activity
                   WHERE application_name = 'trex' AND datname = current_database()
                   AND pid <> pg_backend_pid()";
        let rows = self.connect(database).await?.query(sql, &[]).await?;
        Ok(rows.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok()).collect())
    }

    /// A program of this Postgres, such as pgbench.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let program = self.postgres()?.bindir().join(name);
        ensure!(program.is_file(), "{} is not there: it comes with the Postgres server", program.display());
        Ok(program)
    }

    /// Stops it and removes its directory.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A server that still runs is told to stop by its own drop, and needs its directory no more.
        drop(self.postgres.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
