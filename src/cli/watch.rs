//! `trex watch`.

use super::{
    access::AccessOptions,
    failure::{Listener, explain},
    listeners::GRPC,
    print::{say, shown, unless_left},
};
use crate::{
    client::{Notice, Watch as Watching, WatchOptions, WatchStart},
    model::Revision,
    proto::rh_trex::v1::{BackpressurePolicy, DinosaurWatchEvent, EventType},
};
use serde_json::json;
use std::io::{self, Write};
use tonic::{Code, Status};

/// Watch a hub: a line per event; reconnects and resumes by itself
#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// The hub
    #[arg(long, env = "TREX_SERVER", default_value = format!("http://{GRPC}"), value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// Start after this revision instead of now
    #[arg(long, value_name = "REVISION")]
    after_revision: Option<u64>,
    /// The epoch that the revision belongs to, as the hub told it
    #[arg(long, requires = "after_revision", value_name = "EPOCH")]
    epoch: Option<String>,
    /// Begin with the current rows, and begin with them again when the history being followed is gone
    #[arg(long, conflicts_with = "after_revision")]
    initial_state: bool,
    /// What the hub does when this program's reader is too slow
    #[arg(long, value_enum, default_value_t = Backpressure::CatchUp)]
    backpressure: Backpressure,
    /// Only these kinds of change; may be given again
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    types: Vec<Type>,
    /// Only this dinosaur; may be given again
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only what matches, such as 'species = "T*" AND type != DELETED'
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_name = "FILTER"
    )]
    filter: String,
    /// How to write events: lines for people, or JSON objects, one per line, for programs
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Backpressure {
    /// Leave events out, and say how many
    Drop,
    /// Leave nothing out
    CatchUp,
    /// End the stream; it is resumed at once
    Disconnect,
    /// Only the newest event of each resource, and say how many it stands for
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Type {
    Created,
    Updated,
    Deleted,
}

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let start = match self.after_revision {
            _ if self.initial_state => WatchStart::State,
            Some(revision) => WatchStart::After(Revision::new(revision), self.epoch.clone()),
            None => WatchStart::Now,
        };
        let options = WatchOptions {
            types: self.types.iter().map(|&name| event_type(name)).collect(),
            resource_ids: self.ids.clone(),
            filter: self.filter.clone(),
            start,
            backpressure: match self.backpressure {
                Backpressure::Drop => BackpressurePolicy::Drop,
                Backpressure::CatchUp => BackpressurePolicy::CatchUp,
                Backpressure::Disconnect => BackpressurePolicy::Disconnect,
                Backpressure::Latest => BackpressurePolicy::Latest,
            },
        };
        let mut watch = Watching::new(self.access.hub(&self.server)?, options);
        let written = tokio::select! {
            written = self.write_all(&mut watch) => written,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        };
        unless_left(written)
    }

    async fn write_all(&self, watch: &mut Watching) -> anyhow::Result<()> {
        loop {
            match watch.next().await.map_err(|status| self.explain(&status))? {
                Notice::Connected { revision, epoch, state } => {
                    let first = if state { " with the state there first" } else { "" };
                    say(format!("watching after revision {revision} of epoch {epoch}{first}"));
                }
                Notice::Complete { dropped: 0, .. } => {}
                Notice::Complete { revision, dropped } => self.write(&lost(revision, dropped))?,
                Notice::Disconnected { why, retry_in } => {
                    say(format!("disconnected: {why}; again in {} ms", retry_in.as_millis()))
                }
                Notice::Event(event) => self.write(&event)?,
            }
        }
    }

    fn explain(&self, status: &Status) -> anyhow::Error {
        let error = explain(&self.server, Listener::Api, status);
        match status.code() {
            Code::OutOfRange => anyhow::anyhow!(
                "{error}; --initial-state begins with what is there, and does so again by itself when this \
                 happens"
            ),
            _ => error,
        }
    }

    fn write(&self, event: &DinosaurWatchEvent) -> io::Result<()> {
        let line = match self.output {
            Output::Text => text(event),
            Output::Json => json(event).to_string(),
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }
}

fn event_type(name: Type) -> EventType {
    match name {
        Type::Created => EventType::Created,
        Type::Updated => EventType::Updated,
        Type::Deleted => EventType::Deleted,
    }
}

fn type_name(event: &DinosaurWatchEvent) -> &'static str {
    event.r#type().as_str_name().trim_start_matches("EVENT_TYPE_")
}

pub(super) fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// What was dropped, when no later event has told it.
fn lost(revision: Revision, dropped: u64) -> DinosaurWatchEvent {
    DinosaurWatchEvent {
        r#type: EventType::Bookmark.into(),
        revision: revision.get(),
        dropped_before: dropped,
        ..Default::default()
    }
}

fn text(event: &DinosaurWatchEvent) -> String {
    let dropped = match event.dropped_before {
        0 => String::new(),
        dropped => format!("  ({dropped} dropped before this)"),
    };
    let conflated = match event.conflated {
        0 => String::new(),
        conflated => format!("  (stands for {conflated})"),
    };
    let species = event.dinosaur.as_ref().map(|dinosaur| shown(&dinosaur.species)).unwrap_or_default();
    let at = time(event.occurred_at.as_ref());
    format!(
        "{:>10}  {at:<27}  {:<7}  {}  {species}{dropped}{conflated}",
        event.revision,
        type_name(event),
        shown(&event.resource_id)
    )
    .trim_end()
    .to_owned()
}

fn json(event: &DinosaurWatchEvent) -> serde_json::Value {
    let dinosaur = event.dinosaur.as_ref().map(|dinosaur| {
        let metadata = dinosaur.metadata.clone().unwrap_or_default();
        json!({
            "metadata": {
                "id": metadata.id,
                "created_at": time(metadata.created_at.as_ref()),
                "updated_at": time(metadata.updated_at.as_ref()),
                "kind": metadata.kind,
                "href": metadata.href,
            },
            "species": dinosaur.species,
        })
    });
    json!({
        "type": type_name(event),
        "revision": event.revision,
        "resource_id": event.resource_id,
        "occurred_at": time(event.occurred_at.as_ref()),
        "dropped_before": event.dropped_before,
        "conflated": event.conflated,
        "dinosaur": dinosaur,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bookmark_says_was_dropped_is_told() {
        let event = lost(Revision::new(9), 4);
        assert!(text(&event).contains("BOOKMARK") && text(&event).ends_with("(4 dropped before this)"));
        let json = json(&event);
        assert_eq!((&json["type"], &json["dropped_before"]), (&"BOOKMARK".into(), &4.into()));
    }
}
