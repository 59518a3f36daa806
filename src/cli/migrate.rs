//! `trex migrate`.

use super::print::{print, say};
use crate::{
    faces::Registry,
    store::{Target, migrate},
};

/// Bring a database to the schema of this program, and repair its triggers
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// The database, as a URL; its role must own the watched tables and schema hub, or may create them
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Whether to create and watch the table of dinosaurs, too
    #[arg(
        long, env = "TREX_DINOSAURS", default_value_t = false, default_missing_value = "true",
        num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    dinosaurs: bool,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let target = required(self.database_url.as_deref())?;
        let scopes = match self.dinosaurs {
            true => Registry::of_this_program().kinds().scopes(),
            false => Vec::new(),
        };
        let done = match migrate(&target, &scopes).await? {
            0 => "nothing to migrate; the triggers are as they must be\n".to_owned(),
            applied => format!("{applied} migrations applied\n"),
        };
        print(&done)?;
        Ok(())
    }
}

/// These commands are about one database and have no default for it.
pub(super) fn required(url: Option<&str>) -> anyhow::Result<Target> {
    let target = Target::parse(
        given(url)
            .ok_or_else(|| anyhow::anyhow!("--database-url or DATABASE_URL must say which database"))?,
    )?;
    target.notes().iter().for_each(|note| say(format!("trex: --database-url: {note}")));
    Ok(target)
}

/// Some platforms set an empty variable where there is no value.
pub(super) fn given(url: Option<&str>) -> Option<&str> {
    url.filter(|url| !url.trim().is_empty())
}
