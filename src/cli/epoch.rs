//! `trex new-epoch`.

use super::{migrate::required, print::print};
use crate::store::{Doubt, HubConnection, begin_epoch};

/// Begin a new epoch: needed after the files of the database were rolled back while no hub ran
///
/// A hub notices by itself what can be seen from inside: a restored dump, a copied database, a failover, a
/// base backup restored underneath it. It cannot see that files were rolled back while it was not running.
/// After this command every watch is told EPOCH_CHANGED and lists again.
#[derive(Debug, clap::Args)]
pub(super) struct NewEpoch {
    /// The database, as a URL
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

impl NewEpoch {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let target = required(self.database_url.as_deref())?;
        begin_epoch(&target, Doubt::Told).await?;
        let connection = HubConnection::open(&target.pooled()).await?;
        let sealed = connection.seal().await?;
        print(&format!("epoch {}, from revision {}\n", sealed.epoch, sealed.revision))?;
        Ok(())
    }
}
