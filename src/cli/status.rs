//! `trex status`.

use super::{
    admin::Hub,
    print::{Align, Output, Reader, optional_span, print, refresh, shown, span, table},
};
use crate::proto::hub::v1::{DatabaseStatus, GetStatusRequest, GetStatusResponse, OpenTransaction};
use serde_json::json;
use std::fmt::Write;

/// Say how a hub is: ready or why not, its revisions, its doorbell, its database
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    hub: Hub,
    /// How to write it; JSON is an object a line
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut client = self.hub.client()?;
        loop {
            let answer = client.get_status(GetStatusRequest {}).await;
            let status = answer.map_err(|status| self.hub.explain(&status))?.into_inner();
            let text = match self.output {
                Output::Text => text(&status),
                Output::Json => format!("{}\n", json(&status)),
            };
            let Some(pause) = self.hub.watch else {
                print(&text)?;
                return Ok(());
            };
            let reader = if self.output == Output::Json { print(&text)? } else { refresh(&text)? };
            if reader == Reader::Left {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn doorbell(status: &GetStatusResponse) -> String {
    let state = status.doorbell.map(|doorbell| doorbell.state().as_str_name()).unwrap_or_default();
    state.trim_start_matches("DOORBELL_STATE_").to_lowercase()
}

fn text(status: &GetStatusResponse) -> String {
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let uptime = optional_span(status.uptime).map(span).unwrap_or_default();
    let mut text = format!("trex {}, up {uptime}, {ready}\n", shown(&status.version));
    // Writing to a String cannot fail.
    let _ = status.reasons.iter().try_for_each(|reason| writeln!(text, "           {}", shown(reason)));
    let _ = match status.epoch.as_str() {
        "" => writeln!(text, "epoch      none yet"),
        epoch => writeln!(text, "epoch      {}", shown(epoch)),
    };
    let sealed =
        status.database.as_ref().map_or("?".to_owned(), |database| database.sealed_revision.to_string());
    let compacted =
        status.database.as_ref().map_or("?".to_owned(), |database| database.compacted_revision.to_string());
    let (head, oldest) = (status.head_revision, status.oldest_revision);
    let _ = writeln!(text, "revisions  head {head}, sealed {sealed}, compacted {compacted}, oldest {oldest}");
    let counts = status.doorbell.unwrap_or_default();
    let _ = writeln!(
        text,
        "doorbell   {}: {} rings, {} skips, {} seals of {} events",
        doorbell(status),
        counts.rings,
        counts.skips,
        counts.seals,
        counts.sealed_events
    );
    match &status.database {
        Some(database) => text.push_str(&database_text(database)),
        None => text.push_str("database   does not answer\n"),
    }
    let rows: Vec<_> = status
        .kinds
        .iter()
        .map(|kind| {
            let numbers = [kind.subscriptions, kind.head_revision, kind.window_events, kind.window_bytes];
            [shown(&kind.kind)].into_iter().chain(numbers.map(|number| number.to_string())).collect()
        })
        .collect();
    let numbers = ["WATCHES", "HEAD", "IN MEMORY", "BYTES"].map(|heading| (heading, Align::Right));
    let headings: Vec<_> = [("KIND", Align::Left)].into_iter().chain(numbers).collect();
    text + "\n" + &table(&headings, &rows)
}

fn database_text(database: &DatabaseStatus) -> String {
    let mut text = format!("hubs       {} listening on this database\n", database.listening_hubs);
    if let Some(open) = &database.oldest_writer {
        let others = match database.open_writers.saturating_sub(1) {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        let _ = writeln!(text, "writers    {}: its changes wait for its commit{others}", transaction(open));
    }
    text
}

fn transaction(open: &OpenTransaction) -> String {
    let name = match shown(&open.application_name) {
        name if name.is_empty() => String::new(),
        name => format!(" ({name})"),
    };
    let who = match open.pid {
        0 => format!("a prepared transaction{name}"),
        pid => format!("pid {pid}{name}"),
    };
    let state = match shown(&open.state) {
        state if state.is_empty() || open.pid == 0 => String::new(),
        state => format!(", {state}"),
    };
    let age = optional_span(open.age).map(|age| format!(", open for {}", span(age))).unwrap_or_default();
    who + &state + &age
}

fn json(status: &GetStatusResponse) -> serde_json::Value {
    let seconds = |wire| optional_span(wire).map(|span| span.as_secs_f64());
    let counts = status.doorbell.unwrap_or_default();
    let kinds: Vec<_> = status
        .kinds
        .iter()
        .map(|kind| {
            json!({
                "kind": kind.kind,
                "subscriptions": kind.subscriptions,
                "head_revision": kind.head_revision,
                "window_events": kind.window_events,
                "window_bytes": kind.window_bytes,
            })
        })
        .collect();
    let database = status.database.as_ref().map(|database| {
        json!({
            "sealed_revision": database.sealed_revision,
            "compacted_revision": database.compacted_revision,
            "listening_hubs": database.listening_hubs,
            "open_writers": database.open_writers,
            "oldest_writer": database.oldest_writer.as_ref().map(|open| json!({
                "pid": open.pid,
                "age_seconds": seconds(open.age),
                "state": open.state,
                "application_name": open.application_name,
                "user": open.user,
            })),
        })
    });
    json!({
        "version": status.version,
        "uptime_seconds": seconds(status.uptime),
        "ready": status.ready,
        "reasons": status.reasons,
        "epoch": status.epoch,
        "head_revision": status.head_revision,
        "oldest_revision": status.oldest_revision,
        "doorbell": {
            "state": doorbell(status),
            "rings": counts.rings,
            "skips": counts.skips,
            "seals": counts.seals,
            "sealed_events": counts.sealed_events,
        },
        "kinds": kinds,
        "database": database,
    })
}
