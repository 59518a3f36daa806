//! What is wrong with a database, from what it says of itself: one function per check, most important first.

use super::{Finding, Plan, Severity};
use crate::{cli::print::span, store::Examination};
use std::time::Duration;

/// What the hub needs beside its pool: docs/operating.md, "Connections".
const OTHER_CONNECTIONS: i64 = 10;
/// Idle sessions are probed this often, so a limit below twice that cuts them.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Beyond this, times from two clocks cannot be compared.
const CLOCK: f64 = 1.0;

/// A check.
pub(super) type Check = fn(&Examination, &Plan) -> Vec<Finding>;

/// All of them, the most important first.
pub(super) const CHECKS: &[Check] = &[
    old_server,
    standby,
    capture,
    schema,
    schema_rights,
    migrations,
    tables,
    row_security,
    seal_rights,
    pooler,
    read_only,
    connections,
    notification_queue,
    old_transactions,
    session_limits,
    isolation,
    upkeep_rights,
    retention,
    prepared_transactions,
    event_triggers,
    clock,
    encoding,
    fsync,
];

fn when(wrong: bool, finding: impl FnOnce() -> Finding) -> Vec<Finding> {
    if wrong { vec![finding()] } else { Vec::new() }
}

fn old_server(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.version_number < 140_000, || {
        let what = format!("the server is Postgres {}; trex needs 14 or newer", at.version);
        Finding::fault("old-server", what, "upgrade the server")
    })
}

fn standby(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.standby, || {
        let action = "name the primary in --database-url: a hub writes its log";
        Finding::fault("standby", "the server is a standby, and read-only", action)
    })
}

fn capture(at: &Examination, _: &Plan) -> Vec<Finding> {
    let faults = at.tables.iter().flat_map(|table| &table.faults);
    let migrated = at.schema.as_ref().is_some_and(|schema| !schema.applied.is_empty());
    let action = "run `trex migrate` with the owner's role; what was written meanwhile is not captured, so \
                  clients \
                  that need everything begin again with the state";
    faults.filter(|_| migrated).map(|fault| Finding::fault("capture", fault, action)).collect()
}

fn schema(at: &Examination, plan: &Plan) -> Vec<Finding> {
    when(at.schema.is_none() && !(plan.migrate && at.may_create_schema), || {
        if plan.migrate {
            let what = format!("role {} may not create schema hub in this database", at.role);
            let action = "GRANT CREATE ON DATABASE to it, or make the schema for it: docs/privileges.md";
            Finding::fault("may-not-create", what, action)
        } else {
            let action =
                "run `trex migrate` with the role that owns the tables, or leave out --migrate=false";
            Finding::fault("not-migrated", "there is no schema hub in this database", action)
        }
    })
}

fn schema_rights(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.schema.as_ref().is_some_and(|schema| !schema.usable), || {
        let what = format!("role {} may not use schema hub", at.role);
        Finding::fault(
            "rights",
            what,
            "GRANT what docs/privileges.md lists, under \"a hub that does not migrate\"",
        )
    })
}

fn migrations(at: &Examination, plan: &Plan) -> Vec<Finding> {
    let Some(schema) = at.schema.as_ref().filter(|schema| schema.usable) else { return Vec::new() };
    let applied = |scope: &str| {
        schema.applied.iter().find(|(name, _)| name == scope).map_or(0, |(_, version)| *version)
    };
    let mut findings = Vec::new();
    for (scope, known) in &plan.known {
        let found = applied(scope);
        if found > *known {
            let what =
                format!("the database has {scope} migration {found}, this program knows only up to {known}");
            findings.push(Finding::fault("newer-schema", what, "run a newer trex"));
        } else if found < *known && !plan.migrate {
            let what = format!("the database has {scope} migration {found}, this program needs {known}");
            findings.push(Finding::fault(
                "older-schema",
                what,
                "run `trex migrate` with the role that owns the tables",
            ));
        }
    }
    findings
}

fn tables(at: &Examination, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &at.tables {
        let name = &table.table;
        if !table.exists {
            // The migration makes it.
            if !plan.migrate {
                let what = format!("table {name} of kind {} is not there", table.kind);
                findings.push(Finding::fault("no-table", what, "run `trex migrate`"));
            }
        } else if !table.readable {
            let what = format!("role {} may not read {name}", at.role);
            findings.push(Finding::fault("rights", what, format!("grant the role the right to read {name}")));
        } else if !table.owned && plan.migrate {
            let what = format!("role {} does not own {name}, so it cannot make its triggers", at.role);
            let action = "run `trex migrate` with the owner's role, and the hub with --migrate=false: \
                          docs/privileges.md";
            findings.push(Finding::fault("not-owner", what, action));
        }
    }
    findings
}

fn row_security(at: &Examination, _: &Plan) -> Vec<Finding> {
    let hidden = at.tables.iter().filter(|table| table.rows_hidden);
    let finding = |name: &String| {
        let what = format!(
            "row-level security of {name} applies to role {}: initial states and lists lack rows",
            at.role
        );
        Finding::fault("row-security", what, "give the role BYPASSRLS, or a policy that shows it every row")
    };
    hidden.map(|table| finding(&table.table)).collect()
}

/// What a hub cannot do at all without them.
fn is_vital((relation, privilege): &(String, String)) -> bool {
    privilege == "SELECT"
        || matches!((relation.as_str(), privilege.as_str()), ("hub.log", "INSERT") | ("hub.head", "UPDATE"))
}

fn rights(at: &Examination, severity: Severity) -> Vec<Finding> {
    let missing = at.schema.iter().flat_map(|schema| &schema.missing_rights);
    let missing: Vec<_> = missing
        .filter(|right| is_vital(right) == (severity == Severity::Fault))
        .map(|(relation, privilege)| format!("{privilege} on {relation}"))
        .collect();
    let effect = match severity {
        Severity::Fault => "it cannot follow the log",
        Severity::Warning => "trimming, new epochs or imports will fail",
    };
    when(!missing.is_empty(), || Finding {
        severity,
        code: if severity == Severity::Fault { "rights" } else { "upkeep-rights" },
        what: format!("role {} lacks {}: {effect}", at.role, missing.join(", ")),
        action: "GRANT what docs/privileges.md lists, under \"a hub that does not migrate\"".to_owned(),
    })
}

fn seal_rights(at: &Examination, _: &Plan) -> Vec<Finding> {
    rights(at, Severity::Fault)
}

fn upkeep_rights(at: &Examination, _: &Plan) -> Vec<Finding> {
    rights(at, Severity::Warning)
}

fn pooler(at: &Examination, plan: &Plan) -> Vec<Finding> {
    when(at.shared_session && !plan.polls, || {
        let what = "a pooler that keeps no session stands before Postgres: the hub polls";
        let action =
            "name the server itself in --database-url, or say --wakeups poll: docs/operating.md, \"Poolers\"";
        Finding::warning("pooler", what, action)
    })
}

fn read_only(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.read_only, || {
        let action = format!("ALTER ROLE {} SET default_transaction_read_only = off", at.role);
        Finding::fault("read-only", "default_transaction_read_only is on: a hub cannot seal", action)
    })
}

fn connections(at: &Examination, plan: &Plan) -> Vec<Finding> {
    let wanted = plan.pool + OTHER_CONNECTIONS;
    when(at.free_connections < wanted, || {
        let what = format!(
            "there is room for {} more connections, a hub may open {wanted}",
            at.free_connections.max(0)
        );
        let action =
            "raise max_connections or the CONNECTION LIMIT of the role or database, or lower --db-pool-size";
        Finding::warning("connections", what, action)
    })
}

fn notification_queue(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.notification_queue > 0.5, || {
        let what = format!(
            "the queue of NOTIFY is {:.0} % full; when it is, writers fail",
            at.notification_queue * 100.0
        );
        let action = "end the session that listens and stays in a transaction: see pg_stat_activity";
        Finding::warning("notify-queue", what, action)
    })
}

fn old_transactions(at: &Examination, _: &Plan) -> Vec<Finding> {
    let finding = |open: &crate::store::OldTransaction| {
        let age = span(open.age);
        let effect = "its events wait for its commit, and vacuum with them";
        match open.pid {
            Some(pid) => {
                let what = format!("a transaction of pid {pid} ({}) is open for {age}: {effect}", open.name);
                Finding::warning("old-transaction", what, format!("end it, with pg_terminate_backend({pid})"))
            }
            None => {
                let what = format!("the prepared transaction {} is open for {age}: {effect}", open.name);
                Finding::warning("old-prepared-transaction", what, "COMMIT PREPARED or ROLLBACK PREPARED it")
            }
        }
    };
    at.old_transactions.iter().map(finding).collect()
}

/// As pg_settings writes it, in milliseconds.
fn milliseconds(value: &str) -> u64 {
    value.trim_end_matches("ms").parse().unwrap_or(u64::MAX)
}

fn session_limits(at: &Examination, _: &Plan) -> Vec<Finding> {
    let cutting = at.limits.iter().filter(|(name, value)| {
        // The hub's longest transaction lasts as long as the reading of an initial state; its sessions idle
        // only between heartbeats.
        name == "transaction_timeout" || Duration::from_millis(milliseconds(value)) < HEARTBEAT * 2
    });
    let finding = |(name, value): &(String, String)| {
        let what = format!("{name} is {value}: it cuts the hub's sessions, which connect again each time");
        Finding::warning("session-limit", what, format!("ALTER ROLE {} SET {name} = 0", at.role))
    };
    cutting.map(finding).collect()
}

fn isolation(at: &Examination, plan: &Plan) -> Vec<Finding> {
    // A hub that keeps its sessions sets it for itself.
    when(plan.polls && at.isolation != "read committed", || {
        let what =
            format!("default_transaction_isolation is {}, and a polling hub cannot change it", at.isolation);
        let action = format!("ALTER ROLE {} SET default_transaction_isolation = 'read committed'", at.role);
        Finding::warning("isolation", what, action)
    })
}

fn retention(at: &Examination, plan: &Plan) -> Vec<Finding> {
    let retained = at.schema.as_ref().map_or(0, |schema| schema.retained);
    when(u64::try_from(retained).unwrap_or(0) > plan.retention_events.saturating_mul(2), || {
        let what = format!("{retained} events are retained, twice what --retention-events allows");
        Finding::warning("retention", what, "run a hub, and look in its log for `compaction`")
    })
}

fn prepared_transactions(at: &Examination, plan: &Plan) -> Vec<Finding> {
    when(at.max_prepared_transactions > 0 && !plan.polls, || {
        let what = format!(
            "max_prepared_transactions is {}: the hub polls, for NOTIFY forbids PREPARE TRANSACTION",
            at.max_prepared_transactions
        );
        Finding::warning(
            "prepared-transactions",
            what,
            "set it to 0 if nobody needs it, or say --wakeups poll",
        )
    })
}

fn event_triggers(at: &Examination, plan: &Plan) -> Vec<Finding> {
    when(!at.event_triggers.is_empty() && plan.migrate, || {
        let what =
            format!("event triggers run when the hub changes its schema: {}", at.event_triggers.join(", "));
        Finding::warning(
            "event-triggers",
            what,
            "see to it that they let schema hub pass; then it needs no action",
        )
    })
}

fn clock(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.clock_ahead.abs() > CLOCK, || {
        let (by, way) = (at.clock_ahead.abs(), if at.clock_ahead > 0.0 { "ahead of" } else { "behind" });
        let what = format!(
            "the server's clock is {by:.1} s {way} this machine's: latencies are shown wrong by that"
        );
        Finding::warning("clock", what, "let NTP keep both")
    })
}

fn encoding(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(at.encoding != "UTF8", || {
        let what =
            format!("the database's encoding is {}: text that is no UTF-8 cannot be delivered", at.encoding);
        Finding::warning("encoding", what, "use a database with ENCODING 'UTF8'")
    })
}

fn fsync(at: &Examination, _: &Plan) -> Vec<Finding> {
    when(!at.fsync, || {
        let what =
            "fsync is off: after a crash of the machine, commits can be gone whose events were delivered";
        Finding::warning("fsync", what, "switch it on, except for tests")
    })
}
