//! Faults that no test can bring about in a real database: each check against what such a database would say.

use super::{Plan, database::CHECKS};
use crate::store::{Examination, SchemaState};

fn healthy() -> Examination {
    Examination {
        version: "17.4".to_owned(),
        version_number: 170_004,
        encoding: "UTF8".to_owned(),
        isolation: "read committed".to_owned(),
        fsync: true,
        free_connections: 90,
        role: "hub".to_owned(),
        may_create_schema: true,
        schema: Some(SchemaState {
            usable: true,
            applied: vec![("hub".to_owned(), 1)],
            ..SchemaState::default()
        }),
        ..Examination::default()
    }
}

fn plan() -> Plan {
    let known = vec![("hub".to_owned(), 1)];
    Plan { migrate: true, polls: false, pool: 16, retention_events: 1_000, known }
}

fn found(at: &Examination, plan: &Plan) -> Vec<String> {
    let findings = CHECKS.iter().flat_map(|check| check(at, plan));
    findings.map(|finding| format!("{} {}", finding.code, finding.what)).collect()
}

#[test]
fn nothing_is_wrong_with_a_healthy_database() {
    assert_eq!(found(&healthy(), &plan()), Vec::<String>::new());
}

#[test]
fn what_cannot_be_had_here_is_seen_as_well() {
    let polls = Plan { polls: true, ..plan() };
    let broken = |change: fn(&mut Examination)| {
        let mut at = healthy();
        change(&mut at);
        at
    };
    for (at, plan, expected) in [
        (broken(|at| at.version_number = 130_009), plan(), "old-server the server is Postgres 17.4"),
        (broken(|at| at.standby = true), plan(), "standby the server is a standby"),
        (broken(|at| at.shared_session = true), plan(), "pooler a pooler that keeps no session"),
        (broken(|at| at.notification_queue = 0.7), plan(), "notify-queue the queue of NOTIFY is 70 % full"),
        (broken(|at| at.clock_ahead = 3.0), plan(), "clock the server's clock is 3.0 s ahead of"),
        (broken(|at| at.clock_ahead = -3.0), plan(), "clock the server's clock is 3.0 s behind"),
        (
            broken(|at| at.isolation = "serializable".to_owned()),
            polls.clone(),
            "isolation default_transaction_isolation",
        ),
        (broken(|at| at.schema.iter_mut().for_each(|s| s.retained = 2_001)), plan(), "retention 2001 events"),
    ] {
        let found = found(&at, &plan);
        assert!(matches!(&found[..], [one] if one.starts_with(expected)), "{expected}: {found:?}");
    }
    // A hub that polls needs no session.
    assert_eq!(found(&broken(|at| at.shared_session = true), &polls), Vec::<String>::new());
}
