//! Looks after what no bell tells: whether the triggers are as they must be, and whether an old transaction holds changes back.

use crate::{
    backoff::Backoff,
    error::{Error, chain},
    feed::Parts,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(parts: Parts, every: Duration, stop: CancellationToken) {
    let inspect_for_ever = async {
        // Not for as long as one waits between two looks: nobody is served before the first.
        let mut backoff = Backoff::default();
        while let Err(error) = inspect(&parts).await {
            tracing::warn!(error = chain(&error), "inspection");
            tokio::time::sleep(backoff.next_pause().min(every)).await;
        }
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = inspect(&parts).await {
                tracing::warn!(error = chain(&error), "inspection");
            }
        }
    };
    stop.run_until_cancelled(inspect_for_ever).await;
}

async fn inspect(parts: &Parts) -> Result<(), Error> {
    let kinds = parts.catalog.kinds();
    for kind in kinds.iter() {
        let (name, table) = (kind.name(), &kind.table.name);
        let faults = parts.store.capture_faults(name.as_str(), Some(table)).await?;
        parts.metrics.capture_faults.with_label_values(&[name.as_str()]).set(faults.len() as i64);
        parts.health.capture(name, faults);
    }
    parts.health.keep(|kind| kinds.get(kind.as_str()).is_some());
    parts.health.inspected();
    let oldest = parts.store.oldest_open_transaction().await?;
    parts.metrics.oldest_open_transaction.set(oldest.as_secs_f64());
    let (in_use, idle) = parts.store.connections();
    parts.metrics.pool(in_use, idle);
    Ok(())
}
