//! `trex migrate`.

use crate::{
    kinds::Registry,
    store::{Target, migrate},
};

/// Bring a database to the schema of this program, and mend its triggers
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// The database, as a URL; its role must own the watched tables and schema hub, or may create them
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let target = Target::parse(&self.database_url)?;
        match migrate(&target, &Registry::of_this_program().scopes()).await? {
            0 => println!("nothing to migrate; the triggers are as they must be"),
            applied => println!("{applied} migrations applied"),
        }
        Ok(())
    }
}
