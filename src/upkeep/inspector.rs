//! Checks what no bell announces: whether the triggers are as they must be, and whether an old transaction
//! holds changes back.

use crate::{
    backoff::Backoff,
    error::{Error, chain},
    feed::Pipeline,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(pipeline: Pipeline, every: Duration, stop: CancellationToken) {
    let inspect_for_ever = async {
        // Not the whole interval between two looks: nobody is served before the first.
        let mut backoff = Backoff::default();
        while let Err(error) = inspect(&pipeline).await {
            tracing::warn!(error = chain(&error), "inspection");
            tokio::time::sleep(backoff.next_pause().min(every)).await;
        }
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = inspect(&pipeline).await {
                tracing::warn!(error = chain(&error), "inspection");
            }
        }
    };
    stop.run_until_cancelled(inspect_for_ever).await;
}

async fn inspect(pipeline: &Pipeline) -> Result<(), Error> {
    for what in pipeline.store.shield().await? {
        tracing::warn!(what, "switched off: another tool had put it on the hub's own table");
    }
    let kinds = pipeline.catalog.kinds();
    for kind in kinds.iter() {
        let (name, table) = (kind.name(), &kind.table.name);
        let faults = pipeline.store.capture_faults(name.as_str(), Some(table)).await?;
        pipeline.metrics.capture_faults.with_label_values(&[name.as_str()]).set(faults.len() as i64);
        pipeline.health.capture(name, faults);
    }
    pipeline.health.keep(|kind| kinds.get(kind.as_str()).is_some());
    pipeline.health.inspected();
    let oldest = pipeline.store.oldest_open_transaction().await?;
    pipeline.metrics.oldest_open_transaction.set(oldest.as_secs_f64());
    let (in_use, idle) = pipeline.store.connections();
    pipeline.metrics.pool(in_use, idle);
    Ok(())
}
