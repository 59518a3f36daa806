//! `trex status`.

use super::{
    admin::Hub,
    print::{Align, Output, optional_span, shown, span, table},
};
use crate::proto::hub::v1::{
    DatabaseStatus, GetStatusRequest, GetStatusResponse, KindStatus, OpenTransaction,
};
use serde_json::json;

/// Show the state of a hub: ready or why not, its revisions, its doorbell, its database
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
        self.hub
            .show(self.output, async || {
                let status = client.get_status(GetStatusRequest {}).await?.into_inner();
                Ok(match self.output {
                    Output::Text => text(&status),
                    Output::Json => format!("{}\n", json(&status)),
                })
            })
            .await
    }
}

fn doorbell(status: &GetStatusResponse) -> String {
    let state = status.doorbell.map(|doorbell| doorbell.state().as_str_name()).unwrap_or_default();
    state.trim_start_matches("DOORBELL_STATE_").to_lowercase()
}

fn text(status: &GetStatusResponse) -> String {
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let uptime = optional_span(status.uptime).map(span).unwrap_or_default();
    let mut lines = vec![format!("trex {}, up {uptime}, {ready}", shown(&status.version))];
    lines.extend(status.reasons.iter().map(|reason| format!("           {}", shown(reason))));
    let epoch = if status.epoch.is_empty() { "none yet".to_owned() } else { shown(&status.epoch) };
    lines.push(format!("epoch      {epoch}"));
    let (head, oldest) = (status.head_revision, status.oldest_revision);
    lines.push(match &status.database {
        Some(database) => {
            let (sealed, compacted) = (database.sealed_revision, database.compacted_revision);
            format!("revisions  head {head}, sealed {sealed}, compacted {compacted}, oldest {oldest}")
        }
        None => format!("revisions  head {head}, oldest {oldest}"),
    });
    let counts = status.doorbell.unwrap_or_default();
    let (rings, skips, seals) = (counts.rings, counts.skips, counts.seals);
    let events = counts.sealed_events;
    let state = doorbell(status);
    lines.push(format!("doorbell   {state}: {rings} rings, {skips} skips, {seals} seals of {events} events"));
    match &status.database {
        Some(database) => {
            lines.push(format!("hubs       {} listening on this database", database.listening_hubs));
            lines.extend(writers(database));
        }
        None => lines.push("database   does not answer".to_owned()),
    }
    let rows: Vec<_> = status.kinds.iter().map(kind).collect();
    let numbers = ["WATCHES", "HEAD", "IN MEMORY", "BYTES"].map(|heading| (heading, Align::Right));
    let headings: Vec<_> = [("KIND", Align::Left)].into_iter().chain(numbers).collect();
    lines.join("\n") + "\n\n" + &table(&headings, &rows) + &controllers(status)
}

/// A table of its own, if there are any.
fn controllers(status: &GetStatusResponse) -> String {
    let controllers = status.database.iter().flat_map(|database| &database.controllers);
    let rows: Vec<_> = controllers
        .map(|controller| {
            let numbers = [controller.revision, controller.lag_events, controller.dead_letters];
            let holder =
                if controller.holder.is_empty() { "-".to_owned() } else { shown(&controller.holder) };
            let numbers = numbers.map(|number| number.to_string());
            [shown(&controller.name)].into_iter().chain(numbers).chain([holder]).collect()
        })
        .collect();
    let numbers = ["REVISION", "LAG", "DEAD LETTERS"].map(|heading| (heading, Align::Right));
    let headings: Vec<_> =
        [("CONTROLLER", Align::Left)].into_iter().chain(numbers).chain([("HUB", Align::Left)]).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", table(&headings, &rows)) }
}

fn kind(kind: &KindStatus) -> Vec<String> {
    let numbers = [kind.subscriptions, kind.head_revision, kind.window_events, kind.window_bytes];
    [shown(&kind.kind)].into_iter().chain(numbers.map(|number| number.to_string())).collect()
}

fn writers(database: &DatabaseStatus) -> Option<String> {
    let open = transaction(database.oldest_writer.as_ref()?);
    let others = match database.open_writers.saturating_sub(1) {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    Some(format!("writers    {open}: its changes wait for its commit{others}"))
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
            "controllers": database.controllers.iter().map(|controller| json!({
                "name": controller.name,
                "revision": controller.revision,
                "lag_events": controller.lag_events,
                "dead_letters": controller.dead_letters,
                "holder": controller.holder,
                "moved_at": controller.moved_at.as_ref().map(ToString::to_string),
            })).collect::<Vec<_>>(),
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
