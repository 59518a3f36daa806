//! `trex audit`.

use super::{
    access::AccessOptions,
    failure::{Listener, explain},
    listeners::GRPC,
    print::{say, shown, unless_left},
};
use crate::{
    client::{Hub, Link, cause, is_final},
    proto::hub::v1::{
        AuditRecord, AuditRecordType, ListAuditRecordsRequest, WatchAuditRecordsRequest,
        audit_service_client::AuditServiceClient,
    },
};
use prost_types::Timestamp;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    time::Duration,
};
use tonic::{Code, Status};

/// Records per call.
const PAGE: i32 = 200;
/// The pause before the next attempt to follow a hub that went away.
const PAUSE: Duration = Duration::from_secs(1);

/// Who changed what, and when: the records of the audit trail, newest first; or, with --follow, as they come
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// The hub
    #[arg(long, env = "TREX_SERVER", default_value = format!("http://{GRPC}"), value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// Only of this kind
    #[arg(long, default_value = "", value_name = "KIND")]
    kind: String,
    /// Only of this resource
    #[arg(long = "id", default_value = "", value_name = "ID")]
    resource_id: String,
    /// Only what this actor did
    #[arg(long, default_value = "", value_name = "NAME")]
    actor: String,
    /// Only from this time on, such as 2026-11-20T06:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    since: Option<jiff::Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<jiff::Timestamp>,
    /// At most this many records
    #[arg(long, default_value_t = 100, value_name = "N", conflicts_with = "follow")]
    limit: usize,
    /// Show what comes from now on, oldest first; reconnects and resumes by itself
    #[arg(long)]
    follow: bool,
    /// With --follow: after this revision instead of now
    #[arg(long, requires = "follow", value_name = "REVISION")]
    after_revision: Option<u64>,
    /// How to write records: lines for people, or JSON objects, one per line, for programs
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let hub = self.access.hub(&self.server)?;
        let written = if self.follow {
            tokio::select! {
                written = self.follow(&hub) => written,
                interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
            }
        } else {
            self.list(&hub).await
        };
        unless_left(written)
    }

    async fn list(&self, hub: &Hub) -> anyhow::Result<()> {
        let mut client = client(hub).await.map_err(|status| self.explain(&status))?;
        let mut request = ListAuditRecordsRequest {
            kind: self.kind.clone(),
            resource_id: self.resource_id.clone(),
            actor: self.actor.clone(),
            start_time: self.since.map(timestamp),
            end_time: self.until.map(timestamp),
            ..Default::default()
        };
        let mut left = self.limit;
        while left > 0 {
            request.page_size = PAGE.min(i32::try_from(left).unwrap_or(PAGE));
            let page = client
                .list_audit_records(request.clone())
                .await
                .map_err(|status| self.explain(&status))?
                .into_inner();
            left -= page.records.len().min(left);
            page.records.iter().try_for_each(|record| self.write(record))?;
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn follow(&self, hub: &Hub) -> anyhow::Result<()> {
        let mut after = self.after_revision;
        loop {
            let status = self.follow_once(hub, &mut after).await?;
            if is_final(&status) && !hub.has_another_token(&status) {
                return Err(self.explain(&status));
            }
            say(format!("disconnected: {}; again in {} ms", cause(&status), PAUSE.as_millis()));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes what a stream brings, and moves `after` with it. Returns how the stream ended.
    async fn follow_once(&self, hub: &Hub, after: &mut Option<u64>) -> io::Result<Status> {
        let request = WatchAuditRecordsRequest {
            after_revision: *after,
            kind: self.kind.clone(),
            resource_id: self.resource_id.clone(),
            actor: self.actor.clone(),
        };
        let response = match client(hub).await {
            Ok(mut client) => client.watch_audit_records(request).await,
            Err(status) => Err(status),
        };
        let response = match response {
            Ok(response) => response,
            Err(status) => return Ok(status),
        };
        let start = response.metadata().get("hub-revision");
        *after = after.or(start.and_then(|text| text.to_str().ok()?.parse().ok()));
        let mut stream = response.into_inner();
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    let record = message.record.unwrap_or_default();
                    self.write(&record)?;
                    *after = Some(record.revision);
                }
                Ok(None) => return Ok(Status::unavailable("the stream ended")),
                Err(status) => return Ok(status),
            }
        }
    }

    fn explain(&self, status: &Status) -> anyhow::Error {
        let error = explain(&self.server, Listener::Api, status);
        match status.code() {
            Code::OutOfRange => anyhow::anyhow!(
                "{error}; --follow without --after-revision begins with what comes now, and trex audit \
                 lists what there is"
            ),
            _ => error,
        }
    }

    fn write(&self, record: &AuditRecord) -> io::Result<()> {
        let line = match self.output {
            Output::Text => text(record),
            Output::Json => json(record).to_string(),
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }
}

/// A row may be as large as Postgres lets it be.
async fn client(hub: &Hub) -> Result<AuditServiceClient<Link>, Status> {
    Ok(AuditServiceClient::new(hub.connect().await?).max_decoding_message_size(usize::MAX))
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

fn time(record: &AuditRecord) -> String {
    let at = record.occurred_at.as_ref().and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

fn type_name(record: &AuditRecord) -> &'static str {
    record.r#type().as_str_name().trim_start_matches("AUDIT_RECORD_TYPE_")
}

fn text(record: &AuditRecord) -> String {
    let at = time(record);
    if record.r#type() == AuditRecordType::Gap {
        return format!("{:>10}  {at:<27}  GAP      changes up to here may be missing", record.revision);
    }
    let AuditRecord { revision, kind, resource_id, actor, before_json, after_json, .. } = record;
    let rows = [before_json, after_json].into_iter().filter(|json| !json.is_empty());
    let rows = rows.map(|json| shown(json)).collect::<Vec<_>>().join(" → ");
    let [kind, resource_id, actor] = [kind, resource_id, actor].map(|text| shown(text));
    format!("{revision:>10}  {at:<27}  {:<7}  {kind} {resource_id}  {actor}  {rows}", type_name(record))
}

fn json(record: &AuditRecord) -> Value {
    // Rows as the database wrote them: always JSON.
    let row = |json: &str| serde_json::from_str::<Value>(json).unwrap_or(Value::Null);
    json!({
        "type": type_name(record),
        "revision": record.revision,
        "epoch": record.epoch,
        "kind": record.kind,
        "resource_id": record.resource_id,
        "actor": record.actor,
        "origin": record.origin,
        "trace": record.trace,
        "occurred_at": time(record),
        "before": row(&record.before_json),
        "after": row(&record.after_json),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_whatever_it_says() {
        let nasty = || "a\n\x1b[2J".to_owned();
        let record = AuditRecord {
            kind: nasty(),
            resource_id: nasty(),
            actor: nasty(),
            before_json: nasty(),
            after_json: nasty(),
            ..Default::default()
        };
        assert!(!text(&record).contains(char::is_control), "{:?}", text(&record));
    }
}
