//! Every metric of the hub, declared once. Code that measures gets a handle and calls `dropped_by_buffer(n)`,
//! no more.

use super::{
    bulk::BulkMetrics,
    controllers::{ControllerFamilies, ControllerMetrics},
    families::{LATENCY, counter, counters, gauge, gauges, histogram, histograms, registered},
    streams::{KindMetrics, StreamFamilies},
};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};
use std::time::Duration;

/// The metrics of a hub.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    pool: IntGaugeVec,
    streams: StreamFamilies,
    controllers: ControllerFamilies,
    /// From the capture of a change, within its transaction, to the acknowledgement of its seal.
    pub captured_to_sealed: Histogram,
    /// The newest sealed revision that this hub knows.
    pub head_revision: IntGauge,
    /// Everything up to this revision is compacted.
    pub compacted_revision: IntGauge,
    /// 1 while the hub hears bells.
    pub listener_connected: IntGauge,
    /// Reconnections of the listener.
    pub listener_reconnects: IntCounter,
    /// Bells heard.
    pub doorbell_rings: IntCounter,
    /// Transactions sealed while busy, for which no bell rang.
    pub doorbell_skips: IntCounter,
    /// Seals by this hub.
    pub seals: IntCounter,
    /// Events in them.
    pub sealed_events: IntCounter,
    /// Pages read from the database for streams that are before the window.
    pub history_reads: IntCounter,
    /// Events sent to those who read the log without watching.
    pub read_events: IntCounter,
    /// Rows that the kind's code could not read.
    pub undecodable_rows: IntCounterVec,
    /// How many things are wrong with the capture of a kind; 0: nothing.
    pub capture_faults: IntGaugeVec,
    /// Age of the oldest transaction on the server that has written, in seconds.
    pub oldest_open_transaction: Gauge,
    bulk: BulkMetrics,
}

impl Metrics {
    /// Declares them all, with the series of these kinds, so that a dashboard shows a zero before the first
    /// event.
    pub fn new(kinds: impl IntoIterator<Item: AsRef<str>>) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(None, None)?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let r = &registry;
        let metrics = Self {
            requests: counters(r, "grpc_requests_total", "Finished calls", &["method", "code"])?,
            request_duration: histograms(
                r,
                "grpc_request_duration_seconds",
                "Duration of unary calls",
                LATENCY,
                &["method"],
            )?,
            http_requests: counters(
                r,
                "http_requests_total",
                "Finished requests over HTTP",
                &["route", "code"],
            )?,
            http_duration: histograms(
                r,
                "http_request_duration_seconds",
                "Duration of requests over HTTP that are no streams",
                LATENCY,
                &["route"],
            )?,
            pool: gauges(r, "hub_db_pool_connections", "Connections of the pool", &["state"])?,
            streams: StreamFamilies::register(r)?,
            controllers: ControllerFamilies::register(r)?,
            captured_to_sealed: histogram(
                r,
                "hub_captured_to_sealed_seconds",
                "From capture to the acknowledged seal",
                LATENCY,
            )?,
            head_revision: gauge(r, "hub_head_revision", "Newest sealed revision")?,
            compacted_revision: gauge(
                r,
                "hub_compacted_revision",
                "Everything up to this revision is compacted",
            )?,
            listener_connected: gauge(r, "hub_listener_connected", "1 while the hub hears bells")?,
            listener_reconnects: counter(
                r,
                "hub_listener_reconnects_total",
                "Connections that the listener made anew",
            )?,
            doorbell_rings: counter(r, "hub_doorbell_rings_total", "Bells heard")?,
            doorbell_skips: counter(
                r,
                "hub_doorbell_skips_total",
                "Captured transactions that needed no bell, for the hub was sealing at short intervals",
            )?,
            seals: counter(r, "hub_seals_total", "Seals by this hub")?,
            sealed_events: counter(r, "hub_sealed_events_total", "Events that this hub has sealed")?,
            history_reads: counter(r, "hub_history_reads_total", "Pages of history read from the database")?,
            read_events: counter(r, "hub_read_events_total", "Events sent by ReadEvents")?,
            undecodable_rows: counters(
                r,
                "hub_undecodable_rows_total",
                "Rows that do not fit their kind",
                &["kind"],
            )?,
            capture_faults: gauges(
                r,
                "hub_capture_faults",
                "What is wrong with the capture of a kind; 0 is well",
                &["kind"],
            )?,
            oldest_open_transaction: {
                let gauge = Gauge::new(
                    "hub_oldest_open_transaction_seconds",
                    "Age of the oldest open transaction that has written",
                )?;
                registered(r, gauge)?
            },
            bulk: BulkMetrics::register(r)?,
            registry,
        };
        let build = gauges(&metrics.registry, "hub_build_info", "Always 1", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.pool(0, 0);
        for kind in kinds {
            let kind = kind.as_ref();
            drop((
                metrics.kind(kind),
                metrics.undecodable_rows.with_label_values(&[kind]),
                metrics.capture_faults.with_label_values(&[kind]),
            ));
        }
        Ok(metrics)
    }

    /// The handle of a kind's streams.
    pub fn kind(&self, kind: &str) -> KindMetrics {
        self.streams.of(kind)
    }

    /// Removes the series of a kind that is no longer watched.
    pub fn forget(&self, kind: &str) {
        self.streams.forget(kind);
        // There may be none.
        let _ = self.undecodable_rows.remove_label_values(&[kind]);
        let _ = self.capture_faults.remove_label_values(&[kind]);
    }

    /// The handle of bulk calls.
    pub fn bulk(&self) -> BulkMetrics {
        self.bulk.clone()
    }

    /// The handle of a controller.
    pub fn controller(&self, name: &str) -> ControllerMetrics {
        self.controllers.of(name)
    }

    /// A finished call; `duration` only for a unary one.
    pub fn request(&self, method: &str, code: &str, duration: Option<Duration>) {
        self.requests.with_label_values(&[method, code]).inc();
        if let Some(duration) = duration {
            self.request_duration.with_label_values(&[method]).observe(duration.as_secs_f64());
        }
    }

    /// A finished request over HTTP; `duration` only if it is no stream.
    pub fn http_request(&self, route: &str, code: &str, duration: Option<Duration>) {
        self.http_requests.with_label_values(&[route, code]).inc();
        if let Some(duration) = duration {
            self.http_duration.with_label_values(&[route]).observe(duration.as_secs_f64());
        }
    }

    /// The pool's connections.
    pub fn pool(&self, in_use: usize, idle: usize) {
        self.pool.with_label_values(&["in_use"]).set(in_use as i64);
        self.pool.with_label_values(&["idle"]).set(idle as i64);
    }

    /// Everything in the text format of Prometheus.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
