//! `trex completions` and `trex man`: from the definition of the command line itself.

use super::{Cli, print::print};
use clap::CommandFactory;
use clap_complete::Shell;

/// Print the completions for a shell, to be put where it looks for them:
/// `trex completions bash > /etc/bash_completion.d/trex`
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "trex", &mut script);
        print(&String::from_utf8(script)?)?;
        Ok(())
    }
}

/// Print a page of the manual: `trex man > trex.1`, or `trex man | man -l -`
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The command that it is about, instead of `trex` itself
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut trex = Cli::command();
        // Gives the commands their full names.
        trex.build();
        let command = match &self.command {
            None => trex,
            Some(name) => match trex.find_subcommand(name) {
                Some(command) => command.clone().display_name(format!("trex-{name}")),
                None => {
                    let names: Vec<_> = trex.get_subcommands().map(clap::Command::get_name).collect();
                    anyhow::bail!("there is no command {name:?}; there are {}", names.join(", "))
                }
            },
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        print(&String::from_utf8(page)?)?;
        Ok(())
    }
}
