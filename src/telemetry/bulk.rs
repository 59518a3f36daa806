//! The metrics of bulk calls.

use super::families::{LATENCY, counter, counters, histogram, registered};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// 1 to 16,384 rows.
const ROWS: (f64, f64, usize) = (1.0, 2.0, 15);

/// The metrics of bulk calls.
#[derive(Clone)]
pub struct BulkMetrics {
    received: IntCounter,
    skipped: IntCounter,
    created: IntCounter,
    failed: IntCounter,
    failures: IntCounterVec,
    batch_duration: Histogram,
    batch_rows: Histogram,
    streams: IntGauge,
    resumed: IntCounter,
}

impl BulkMetrics {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        let items = counters(r, "hub_bulk_items_total", "Items of bulk calls", &["outcome"])?;
        let outcome = |outcome| items.with_label_values(&[outcome]);
        Ok(Self {
            received: outcome("received"),
            skipped: outcome("skipped"),
            created: outcome("created"),
            failed: outcome("failed"),
            failures: counters(
                r,
                "hub_bulk_failures_total",
                "Items of bulk calls that failed, by reason",
                &["reason"],
            )?,
            batch_duration: histogram(
                r,
                "hub_bulk_batch_duration_seconds",
                "Duration of bulk transactions",
                LATENCY,
            )?,
            batch_rows: histogram(r, "hub_bulk_batch_rows", "Rows of bulk transactions", ROWS)?,
            streams: registered(r, IntGauge::new("hub_bulk_streams_active", "Open bulk streams")?)?,
            resumed: counter(r, "hub_imports_resumed_total", "Streams that went on with an import")?,
        })
    }

    /// A stream began.
    pub fn stream_began(&self) {
        self.streams.inc();
    }

    /// A stream ended.
    pub fn stream_ended(&self) {
        self.streams.dec();
    }

    /// A stream goes on with an import.
    pub fn resumed(&self) {
        self.resumed.inc();
    }

    /// An item arrived that is to be decided.
    pub fn received(&self) {
        self.received.inc();
    }

    /// An item arrived again that was already decided.
    pub fn skipped(&self) {
        self.skipped.inc();
    }

    /// A transaction ended, committed or not.
    pub fn batch(&self, rows: usize, took: Duration) {
        self.batch_rows.observe(rows as f64);
        self.batch_duration.observe(took.as_secs_f64());
    }

    /// Items were created.
    pub fn created(&self, items: u64) {
        self.created.inc_by(items);
    }

    /// An item failed. `reason` is one of the hub's error reasons.
    pub fn failed(&self, reason: &str) {
        self.failed.inc();
        self.failures.with_label_values(&[reason]).inc();
    }
}
