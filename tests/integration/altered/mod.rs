//! Tables that somebody alters while they are watched: what changes rows without a statement on them is told,
//! and nobody's statement fails. Each with event triggers and without.

mod partitions;
mod strangers;
mod streams;
mod structures;
mod writers;

use crate::support::ledger::{Captured, Ledger};
use trex::{
    model::{ChangeType, Table},
    store::Store,
};

/// Whether the hub hears of DDL, or finds out.
const BOTH: [bool; 2] = [true, false];

/// A ledger that has watched these as the kind `Thing`.
async fn watching(hears: bool, tables: &str) -> Ledger {
    let ledger = Ledger::create().await;
    if hears {
        ledger.run("SET hub.event_triggers = on; DO $$ BEGIN ASSERT hub.follow_ddl(); END $$").await;
    }
    ledger.run(tables).await;
    ledger.watch("Thing", "public.thing").await;
    ledger
}

/// What a hub does at each look.
async fn look(ledger: &Ledger) {
    let store = Store::new(&ledger.database.target(), 1).expect("a pool");
    store.look_after_tables(&[Table::new("Thing", "public.thing", "id")]).await.expect("a look");
}

/// Rows in short, and what is told of the table: `!why`, `!key`, or `!` of a description alone.
fn told(captured: &[Captured]) -> Vec<String> {
    let short = |event: &Captured| match (&event.change, &event.after) {
        (ChangeType::Schema, Some(told)) if told["key_changed"] == true => "!key".to_owned(),
        (ChangeType::Schema, Some(told)) => {
            format!("!{}", told["state_changed"].as_str().unwrap_or_default())
        }
        _ => event.short(),
    };
    captured.iter().map(short).collect()
}

/// What came since the last call, a look later.
async fn take(ledger: &mut Ledger) -> Vec<String> {
    look(ledger).await;
    let taken = ledger.take_raw().await;
    // A second look finds nothing.
    look(ledger).await;
    assert_eq!(ledger.take_short().await, Vec::<String>::new());
    told(&taken)
}
