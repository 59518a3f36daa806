//! The config file: its keys are the options' long names, and its values become their defaults. So one
//! definition serves the command line, the environment and the file, in this order of precedence, and one
//! parser judges all three.

use anyhow::{Context, bail};
use clap::Command;
use std::{ffi::OsString, path::Path};

/// The commands with the options of a hub.
const SERVES: [&str; 2] = ["serve", "doctor"];

/// Reads the file that `--config` or `TREX_CONFIG` names, if the command has the options of a hub.
pub(super) fn with_file(command: Command, arguments: &[OsString]) -> anyhow::Result<Command> {
    let name = arguments.get(1).and_then(|first| first.to_str()).filter(|first| !first.starts_with('-'));
    if name.is_some_and(|name| !SERVES.contains(&name)) {
        return Ok(command);
    }
    let Some(path) = path(arguments) else { return Ok(command) };
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("--config {}", Path::new(&path).display()))?;
    let table = parse(&text).with_context(|| format!("--config {}", Path::new(&path).display()))?;
    table.into_iter().try_fold(command, |command, (key, value)| {
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
            _ => bail!("--config: {key} is neither text nor a number nor a truth value"),
        };
        with_default(command, &key, &value)
    })
}

/// What the parser says, and where; never the line itself, which may hold a password.
fn parse(text: &str) -> anyhow::Result<toml::Table> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let (line, column) = (
            before.split('\n').count(),
            before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1,
        );
        anyhow::anyhow!("line {line}, column {column}: {}", error.message())
    })
}

/// The file is looked for before clap parses, because it changes clap's defaults.
fn path(arguments: &[OsString]) -> Option<OsString> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().cloned();
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    std::env::var_os("TREX_CONFIG")
}

/// On the command itself, and on those that have the same options.
fn with_default(command: Command, key: &str, value: &str) -> anyhow::Result<Command> {
    let id = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(key))
        .map(|argument| argument.get_id().clone());
    let Some(id) = id.filter(|_| key != "config") else { bail!("--config: there is no option {key}") };
    let with =
        |command: Command| command.mut_arg(id.clone(), |argument| argument.default_value(value.to_owned()));
    Ok(SERVES.into_iter().fold(with(command), |command, name| command.mut_subcommand(name, with)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_parse_keeps_its_secrets() {
        for line in [
            "database-url = \"postgresql://hub:secret@db/app",
            "database-url = postgresql://hub:secret@db/app",
            "database-url \"postgresql://hub:secret@db/app\"",
            "database-url = \"postgresql://hub:secret\\@db/app\"",
            "database-url = \"a\" postgresql://hub:secret@db/app",
            "postgresql://hub:secret@db/app",
            "secret = 1\nsecret = 2",
            "[secret",
        ] {
            let error = parse(&format!("log = \"info\"\n{line}\n")).unwrap_err();
            let text = format!("{error:#}");
            println!("{text}");
            assert!(!text.contains("secret") && !text.contains('\n'), "{text}");
            assert!(text.starts_with("line 2, column ") || text.starts_with("line 3, column "), "{text}");
        }
    }
}
