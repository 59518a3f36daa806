//! Keeps the history within its bounds: raises the floor, then deletes below it, in small steps, by one hub
//! at a time.

use crate::{
    error::{Error, chain},
    feed::{HistorySlot, Pipeline, Retention},
    model::Revision,
};
use tokio_util::sync::CancellationToken;

/// Transactions by which one step raises the floor, and rows that one statement deletes.
const STEP: i32 = 2000;

pub(crate) async fn run(
    pipeline: Pipeline,
    retention: Retention,
    history: HistorySlot,
    stop: CancellationToken,
) {
    let compact_for_ever = async {
        let mut interval = tokio::time::interval(retention.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = compact(&pipeline, retention, &history).await {
                tracing::warn!(error = chain(&error), "compaction");
            }
        }
    };
    stop.run_until_cancelled(compact_for_ever).await;
}

async fn compact(pipeline: &Pipeline, retention: Retention, history: &HistorySlot) -> Result<(), Error> {
    let mut floor = pipeline.store.compacted().await?;
    loop {
        note(pipeline, floor, history);
        match pipeline.store.raise_floor(retention.age, retention.events, STEP).await? {
            Some(raised) if raised > floor => floor = raised,
            _ => break,
        }
    }
    // Each statement is its own transaction: writers and vacuum never wait for long.
    while pipeline.store.delete_below_floor(STEP).await? > 0 {}
    while pipeline.store.expire_imports(retention.imports, STEP).await? > 0 {}
    Ok(())
}

fn note(pipeline: &Pipeline, floor: Revision, history: &HistorySlot) {
    pipeline.metrics.compacted_revision.set(floor.to_sql());
    if let Some(history) = history.lock().as_ref() {
        history.set_oldest(floor);
    }
}
