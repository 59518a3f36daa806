//! The command line: arguments, and one file per command.

mod access;
mod acl;
mod admin;
mod audit;
mod authentication;
mod bench;
mod config;
mod dead_letters;
mod doctor;
mod epoch;
mod export;
mod failure;
mod generate;
mod import;
mod keys;
mod listeners;
mod migrate;
mod print;
mod serve;
mod status;
mod subscriptions;
mod tables;
mod watch;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{process::ExitCode, time::Duration};

/// A watch hub for Postgres: every committed change to a watched table reaches every watcher, in commit
/// order, over gRPC streams.
///
/// Without a command it serves. Every option is an environment variable too, and a key of the file given with
/// --config: the command line wins over the environment, and the environment over the file.
#[derive(Debug, Parser)]
#[command(name = "trex", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    serve: serve::Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a hub (the default): on its own Postgres, or on the one at --database-url
    Serve(Box<serve::Serve>),
    /// Watch a hub: a line per event; reconnects and resumes by itself
    Watch(watch::Watch),
    // These two say more of themselves.
    Import(import::Import),
    Export(export::Export),
    Attach(tables::Attach),
    Detach(tables::Detach),
    Tables(tables::Tables),
    /// List the open watches of a hub, the furthest behind first
    Subscriptions(subscriptions::Subscriptions),
    /// Show the state of a hub: ready or why not, its revisions, its doorbell, its database
    Status(status::Status),
    // These two say more of themselves.
    Doctor(Box<doctor::Doctor>),
    Bench(bench::Bench),
    /// Bring a database to the schema of this program, and repair its triggers
    Migrate(migrate::Migrate),
    /// Begin a new epoch: needed after the files of the database were rolled back while no hub ran
    NewEpoch(epoch::NewEpoch),
    /// Print the completions for a shell
    Completions(generate::Completions),
    /// Print a page of the manual
    Man(generate::Man),
    /// Who changed what, and when: the records of the audit trail, newest first; or, with --follow, as they
    /// come
    Audit(audit::Audit),
    Keys(keys::Keys),
    Acl(acl::Acl),
    /// List, retry or discard the changes that a controller could not handle
    DeadLetters(dead_letters::DeadLetters),
}

const EXAMPLES: &str = "\
Examples:
  trex                                       a hub with a Postgres of its own
  trex --database-url postgresql://hub@db/app  a hub on your Postgres
  trex --tables 'public.*'                   and watch every table of it
  trex attach public.orders                  another table, while hubs run
  trex watch                                 what happens, a line per event
  trex watch --output json | jq .            the same for programs
  trex import dinosaurs.csv.gz               every line of it, exactly once
  trex export --out dinosaurs.ndjson         what is there, at one revision
  trex subscriptions --watch                 who watches, and who is behind
  grpcurl -plaintext localhost:9000 rh_trex.v1.DinosaurService/WatchDinosaurs";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    crate::tls::install_provider();
    let command = match parse() {
        Ok(cli) => cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))),
        Err(code) => return code,
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let done = |()| ExitCode::SUCCESS;
            let result = runtime.block_on(async {
                match command {
                    Command::Serve(serve) => serve.run().await.map(done),
                    Command::Watch(watch) => watch.run().await.map(done),
                    Command::Import(import) => import.run().await,
                    Command::Export(export) => export.run().await.map(done),
                    Command::Attach(attach) => attach.run().await.map(done),
                    Command::Detach(detach) => detach.run().await.map(done),
                    Command::Tables(tables) => tables.run().await.map(done),
                    Command::Subscriptions(subscriptions) => subscriptions.run().await.map(done),
                    Command::Status(status) => status.run().await.map(done),
                    Command::Doctor(doctor) => doctor.run().await,
                    Command::Bench(bench) => bench.run().await,
                    Command::Audit(audit) => audit.run().await.map(done),
                    Command::Keys(keys) => keys.run().await.map(done),
                    Command::Acl(acl) => acl.run().map(done),
                    Command::DeadLetters(letters) => letters.run().await.map(done),
                    Command::Migrate(migrate) => migrate.run().await.map(done),
                    Command::NewEpoch(epoch) => epoch.run().await.map(done),
                    Command::Completions(completions) => completions.run().map(done),
                    Command::Man(man) => man.run().map(done),
                }
            });
            // Nothing that matters is left to do; a blocked reader of standard input must not delay the exit.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(code) => code,
        Err(error) => fail(format!("{error:#}")),
    }
}

/// A pause of zero would be a busy loop.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(duration) }
}

/// A duration as [`duration`] reads it, in the largest unit that says it whole: `90d`, `24h`, `500ms`.
fn time(duration: Duration) -> String {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    let seconds = duration.as_secs();
    if duration.subsec_millis() > 0 {
        format!("{}ms", duration.as_millis())
    } else if seconds.is_multiple_of(DAY) && seconds > DAY {
        format!("{}d", seconds / DAY)
    } else if seconds.is_multiple_of(HOUR) {
        format!("{}h", seconds / HOUR)
    } else {
        format!("{seconds}s")
    }
}

/// One line on standard error.
fn fail(message: impl AsRef<str>) -> ExitCode {
    let words: Vec<_> = message.as_ref().split_whitespace().collect();
    print::say(format!("trex: {}", words.join(" ")));
    ExitCode::FAILURE
}

fn parse() -> Result<Cli, ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command =
        config::with_file(Cli::command(), &arguments).map_err(|error| fail(format!("{error:#}")))?;
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.use_stderr() {
            fail(complaint(&error))
        } else {
            let _ = error.print();
            ExitCode::SUCCESS
        }
    })
}

/// What clap finds wrong, with what it suggests, in one line: the usage and what follows it are in --help.
fn complaint(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let before_usage =
        |part: &String| !part.starts_with("Usage:") && !part.starts_with("For more information");
    let what: Vec<_> = paragraphs.take_while(before_usage).collect();
    format!("{} (see --help)", what.join("; ").trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_says_what_is_wrong_and_what_would_be_right() {
        for (arguments, expected) in [
            (&["import"][..], "the following required arguments were not provided: <FILE|-> (see --help)"),
            (
                &["wacth"],
                "unrecognized subcommand 'wacth'; tip: some similar subcommands exist: 'attach', 'detach', \
                 'watch' (see --help)",
            ),
            (
                &["watch", "--output", "jsn"],
                "invalid value 'jsn' for '--output <OUTPUT>' [possible values: text, json]; tip: a similar \
                 value exists: 'json' (see --help)",
            ),
            (
                &["dead-letters"],
                "'trex dead-letters' requires a subcommand but one was not provided [subcommands: list, \
                 retry, discard, help] (see --help)",
            ),
        ] {
            let error = Cli::try_parse_from([&["trex"], arguments].concat()).unwrap_err();
            assert!(error.use_stderr());
            assert_eq!(complaint(&error), expected);
        }
    }

    /// The one place that a default is written in is the code; the docs are held to it.
    #[test]
    fn every_flag_of_a_hub_is_in_the_docs_with_its_default() {
        let docs = [include_str!("../../docs/operating.md"), include_str!("../../docs/security.md")].concat();
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let missing: Vec<_> = serve
            .get_arguments()
            .filter_map(|argument| {
                let name = argument.get_long().filter(|name| *name != "help")?;
                let variable = argument.get_env().unwrap_or_default().to_string_lossy();
                let default = argument.get_default_values().first().map(|default| default.to_string_lossy());
                let wanted = match default.filter(|default| *default != "false" && !default.is_empty()) {
                    Some(default) => format!("| `--{name}` | `{variable}` | `{default}`"),
                    None => format!("`--{name}`"),
                };
                (!docs.contains(&wanted)).then_some(wanted)
            })
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for text in ["90d", "7d", "24h", "1h", "90s", "500ms", "1500ms"] {
            assert_eq!(time(duration(text).unwrap()), text);
        }
    }
}
