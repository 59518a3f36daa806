//! `trex dead-letters`.

use super::{
    migrate::required,
    print::{print, shown},
};
use crate::store::{DeadLetters as Letters, Letter, Which};
use anyhow::bail;
use serde_json::json;
use std::time::SystemTime;

/// List, retry or discard the changes that a controller could not handle, and those that wait behind them
///
/// A change that keeps failing is set aside, and later changes of the same resource wait behind it, in order;
/// everything else goes on. Fix what made it fail, then retry: what waits behind it follows by itself.
#[derive(Debug, clap::Args)]
// Without a subcommand the message says what is missing, instead of the whole help.
#[command(arg_required_else_help = false)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
    /// The database, as a URL
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show them, resource by resource, in the order in which they are tried
    List {
        /// Only of this controller
        #[arg(long, value_name = "NAME")]
        controller: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// How to write them: lines for people, or JSON objects, one per line, for programs
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Try them again now, with as many attempts as a new change has; of each resource the first one, then
    /// the others
    Retry(Selection),
    /// Discard them for good, without an effect
    Discard(Selection),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Selection {
    /// These, by the number that `list` shows
    #[arg(value_name = "NUMBER", conflicts_with_all = ["controller", "all"])]
    letters: Vec<i64>,
    /// All of this controller
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    controller: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl Selection {
    fn which(self) -> Vec<Which> {
        match self.controller {
            Some(name) => vec![Which::Of(name)],
            None if self.all => vec![Which::All],
            None => self.letters.into_iter().map(Which::One).collect(),
        }
    }
}

impl DeadLetters {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let target = required(self.database_url.as_deref())?;
        let letters = Letters::open(&target).await?;
        match self.action {
            Action::List { controller, limit, output } => {
                write(&letters.list(controller.as_deref(), limit).await?, output)
            }
            Action::Retry(selection) => {
                for which in selection.which() {
                    let resources = some(letters.retry(&which).await?, &which)?;
                    print(&format!("resources whose dead letters are tried now: {resources}\n"))?;
                }
                Ok(())
            }
            Action::Discard(selection) => {
                for which in selection.which() {
                    let gone = some(letters.discard(&which).await?, &which)?;
                    print(&format!("dead letters discarded: {gone}\n"))?;
                }
                Ok(())
            }
        }
    }
}

/// A dead letter that was named must exist.
fn some(found: u64, which: &Which) -> anyhow::Result<u64> {
    match (found, which) {
        (0, Which::One(number)) => {
            bail!("there is no dead letter {number}; `trex dead-letters list` shows them")
        }
        _ => Ok(found),
    }
}

fn write(letters: &[Letter], output: Output) -> anyhow::Result<()> {
    let line = |letter| match output {
        Output::Text => text(letter) + "\n",
        Output::Json => format!("{}\n", json(letter)),
    };
    print(&letters.iter().map(line).collect::<String>())?;
    Ok(())
}

fn text(letter: &Letter) -> String {
    let state = match (letter.attempts, letter.due_at) {
        (_, Some(due)) => format!("failed {} times, tried again at {}", letter.attempts, time(due)),
        (0, None) => "waits behind the one before".to_owned(),
        (attempts, None) => format!("failed {attempts} times, waits for you"),
    };
    let error = letter.error.as_deref().map(|error| format!(": {}", shown(&error.replace('\n', " "))));
    let error = error.unwrap_or_default();
    let Letter { id, controller, kind, resource_id, revision, .. } = letter;
    let [controller, kind, resource_id] = [controller, kind, resource_id].map(|text| shown(text));
    format!("{id:>8}  {controller}  {kind} {resource_id}  revision {revision}  {state}{error}")
}

fn json(letter: &Letter) -> serde_json::Value {
    json!({
        "number": letter.id,
        "controller": letter.controller,
        "kind": letter.kind,
        "resource_id": letter.resource_id,
        "revision": letter.revision.get(),
        "attempts": letter.attempts,
        "error": letter.error,
        "failed_at": letter.failed_at.map(time),
        "due_at": letter.due_at.map(time),
    })
}

fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Revision;

    #[test]
    fn a_letter_is_a_line_whatever_it_says() {
        let nasty = || "a\n\x1b[2J".to_owned();
        let letter = Letter {
            id: 1,
            controller: nasty(),
            kind: nasty(),
            resource_id: nasty(),
            revision: Revision::new(1),
            attempts: 1,
            error: Some(nasty()),
            failed_at: None,
            due_at: None,
        };
        assert!(!text(&letter).contains(char::is_control), "{:?}", text(&letter));
    }
}
