//! `trex doctor`: looks at what a hub would meet, and says in order of importance what is wrong and what to
//! do.

mod database;
mod machine;
#[cfg(test)]
mod tests;

use super::{
    duration,
    print::{Output, print, shown},
    serve::Serve,
};
use crate::{
    embedded,
    faces::Registry,
    store::{Examination, Scope, Target, examine, known_migrations},
};
use serde_json::json;
use std::{process::ExitCode, time::Duration};

/// Look at the database, its settings and rights, and at this machine: what is wrong for a hub, the worst
/// first, and what to do
///
/// It takes the options of `trex serve`, so that it looks at what that hub would meet, and changes nothing.
/// Exit code: 0 if nothing is wrong, 1 if there are warnings, 2 if a hub cannot work, or would lose changes.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    serve: Serve,
    /// From this age on an open transaction that has written is named
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    old_transaction: Duration,
    /// How to write it; JSON is one object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How bad it is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// A hub cannot work, or changes are lost.
    Fault,
    /// It works, but something is worse than it needs to be.
    Warning,
}

/// Something that is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    /// A name for programs; it never changes.
    code: &'static str,
    what: String,
    action: String,
}

impl Finding {
    fn fault(code: &'static str, what: impl Into<String>, action: impl Into<String>) -> Self {
        Self { severity: Severity::Fault, code, what: what.into(), action: action.into() }
    }

    fn warning(code: &'static str, what: impl Into<String>, action: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fault(code, what, action) }
    }
}

/// The options of the hub, as far as the checks need them.
#[derive(Debug, Clone)]
struct Plan {
    migrate: bool,
    polls: bool,
    pool: i64,
    retention_events: u64,
    known: Vec<(String, i32)>,
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let kinds = match self.serve.dinosaurs() {
            true => Registry::of_this_program().kinds().scopes(),
            false => Vec::new(),
        };
        let mut findings = Vec::new();
        let looked_at = match &self.serve.database_url {
            Some(url) => self.database(&Target::parse(url)?, &kinds, &mut findings).await,
            None => self.embedded(&kinds, &mut findings).await?,
        };
        findings.extend(machine::spool(&std::env::temp_dir(), self.serve.max_state_spool_bytes));
        findings.extend(machine::ports(&self.serve).await);
        // Stable: the checks themselves stand in the order of importance.
        findings.sort_by_key(|finding| finding.severity);
        match self.output {
            Output::Text => print(&text(&findings, &looked_at))?,
            Output::Json => print(&format!("{}\n", object(&findings, &looked_at)))?,
        };
        Ok(match findings.first().map(|finding| finding.severity) {
            None => ExitCode::SUCCESS,
            Some(Severity::Warning) => ExitCode::from(1),
            Some(Severity::Fault) => ExitCode::from(2),
        })
    }

    async fn database(&self, target: &Target, kinds: &[Scope], findings: &mut Vec<Finding>) -> String {
        let place = target.describe();
        match examine(target, kinds, self.old_transaction).await {
            Ok(examination) => {
                let plan = Plan {
                    migrate: self.serve.migrate,
                    polls: self.serve.polls(),
                    pool: self.serve.db_pool_size.into(),
                    retention_events: self.serve.retention_events,
                    known: known_migrations(kinds),
                };
                findings.extend(database::CHECKS.iter().flat_map(|check| check(&examination, &plan)));
                describe(&place, &examination)
            }
            Err(why) => {
                findings.push(Finding::fault(
                    "unreachable",
                    format!("Postgres at {place}: {why}"),
                    "start it, or mend --database-url: host, port, database, role and password; pg_hba.conf \
                     must let the role in",
                ));
                format!("Postgres at {place}, which cannot be asked")
            }
        }
    }

    /// Nothing is started for the checks: a database that does not run is not looked at.
    async fn embedded(&self, kinds: &[Scope], findings: &mut Vec<Finding>) -> anyhow::Result<String> {
        let data_dir = match &self.serve.data_dir {
            Some(given) => given.clone(),
            None => embedded::default_data_dir()?,
        };
        let place = format!("a Postgres of the hub's own, in {}", data_dir.display());
        findings.extend(machine::data_dir(&data_dir));
        match embedded::look(&data_dir, self.serve.pg_bindir.as_deref()) {
            Ok(Some(url)) => Ok(self.database(&Target::parse(&url)?, kinds, findings).await),
            Ok(None) => Ok(format!("{place}, which does not run: its database was not looked at")),
            Err(error) => {
                findings.push(Finding::fault(
                    "programs",
                    error.to_string(),
                    "install Postgres 14 or newer, name its programs with --pg-bindir, or a server with \
                     --database-url",
                ));
                Ok(place)
            }
        }
    }
}

fn describe(place: &str, examination: &Examination) -> String {
    let hubs = match examination.schema.as_ref().map(|schema| schema.hubs) {
        None => "no hub was here yet".to_owned(),
        Some(1) => "1 hub listens".to_owned(),
        Some(hubs) => format!("{hubs} hubs listen"),
    };
    format!("Postgres {} at {place}, as {}; {hubs}", examination.version, examination.role)
}

fn text(findings: &[Finding], looked_at: &str) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Fault => "FAULT  ",
            Severity::Warning => "WARNING",
        };
        text += &format!("{severity}  {}: {}\n", finding.code, shown(&finding.what));
        text += &format!("         {}\n", shown(&finding.action));
    }
    let verdict = if findings.is_empty() { "nothing is wrong with " } else { "looked at " };
    text + &format!("{verdict}{}\n", shown(looked_at))
}

fn object(findings: &[Finding], looked_at: &str) -> serde_json::Value {
    let severity = |severity| match severity {
        Severity::Fault => "fault",
        Severity::Warning => "warning",
    };
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": severity(finding.severity),
                "code": finding.code,
                "what": finding.what,
                "action": finding.action,
            })
        })
        .collect();
    json!({ "looked_at": looked_at, "findings": findings })
}
