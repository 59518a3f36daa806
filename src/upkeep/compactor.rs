//! Keeps the history within its bounds: raises the floor, then deletes below it, in small steps, by one hub at a time.

use crate::{
    error::{Error, chain},
    feed::{HistorySlot, Parts, Retention},
    model::Revision,
};
use tokio_util::sync::CancellationToken;

/// Transactions that one step of the floor passes, and rows that one statement deletes.
const STEP: i32 = 2000;

pub(crate) async fn run(parts: Parts, retention: Retention, history: HistorySlot, stop: CancellationToken) {
    let compact_for_ever = async {
        let mut interval = tokio::time::interval(retention.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = compact(&parts, retention, &history).await {
                tracing::warn!(error = chain(&error), "compaction");
            }
        }
    };
    stop.run_until_cancelled(compact_for_ever).await;
}

async fn compact(parts: &Parts, retention: Retention, history: &HistorySlot) -> Result<(), Error> {
    let mut floor = parts.store.compacted().await?;
    loop {
        note(parts, floor, history);
        match parts.store.raise_floor(retention.age, retention.events, STEP).await? {
            Some(raised) if raised > floor => floor = raised,
            _ => break,
        }
    }
    // Each statement is a transaction of its own: writers and vacuum are never kept waiting for long.
    while parts.store.delete_below_floor(STEP).await? > 0 {}
    while parts.store.expire_imports(retention.imports, STEP).await? > 0 {}
    Ok(())
}

fn note(parts: &Parts, floor: Revision, history: &HistorySlot) {
    parts.metrics.compacted_revision.set(floor.to_sql());
    if let Some(history) = history.lock().as_ref() {
        history.set_oldest(floor);
    }
}
