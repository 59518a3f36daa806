//! Every metric of the hub, declared once. Who measures gets a handle and says `dropped_by_buffer(n)`, and no more.

use super::bulk::BulkMetrics;
use crate::{log::Size, model::Revision};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector,
};
use std::time::Duration;

/// 100 µs to 52 s.
pub(super) const LATENCY: (f64, f64, usize) = (0.0001, 2.0, 20);
/// 1 s to 3 days.
const LIFETIME: (f64, f64, usize) = (1.0, 4.0, 10);

/// The metrics of a hub.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    subscribers: IntGaugeVec,
    sent: IntCounterVec,
    dropped: IntCounterVec,
    catch_ups: IntCounterVec,
    disconnects: IntCounterVec,
    conflations: IntCounterVec,
    conflated: IntCounterVec,
    filter_evaluations: IntCounterVec,
    stream_duration: HistogramVec,
    sealed_to_sent: Histogram,
    window_events: IntGaugeVec,
    window_bytes: IntGaugeVec,
    lag: IntGaugeVec,
    pool: IntGaugeVec,
    controller_position: IntGaugeVec,
    controller_lag: IntGaugeVec,
    controller_active: IntGaugeVec,
    controller_changes: IntCounterVec,
    controller_hold_ups: IntCounterVec,
    dead_letters: IntGaugeVec,
    /// From the capture of a change, within its transaction, to the acknowledgement of its seal.
    pub captured_to_sealed: Histogram,
    /// The newest sealed revision that this hub knows.
    pub head_revision: IntGauge,
    /// Everything up to this revision is compacted.
    pub compacted_revision: IntGauge,
    /// 1 while the hub hears bells.
    pub listener_connected: IntGauge,
    /// Connections that the listener had to make anew.
    pub listener_reconnects: IntCounter,
    /// Bells heard.
    pub doorbell_rings: IntCounter,
    /// Transactions sealed while busy, for which no bell rang.
    pub doorbell_skips: IntCounter,
    /// Seals by this hub.
    pub seals: IntCounter,
    /// Events in them.
    pub sealed_events: IntCounter,
    /// Pages read from the database for streams that stand before the window.
    pub history_reads: IntCounter,
    /// Events sent to those who read the log without watching.
    pub read_events: IntCounter,
    /// Rows that the kind's own code could not read.
    pub undecodable_rows: IntCounterVec,
    /// What is wrong with the capture of a kind; 0 is well.
    pub capture_faults: IntGaugeVec,
    /// Age of the oldest transaction on the server that has written, in seconds.
    pub oldest_open_transaction: Gauge,
    bulk: BulkMetrics,
}

impl Metrics {
    /// Declares them all, with the series of these kinds, so that a dashboard sees a zero before the first event.
    pub fn new(kinds: impl Iterator<Item = &'static str>) -> prometheus::Result<Self> {
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
            subscribers: gauges(r, "grpc_stream_subscribers_active", "Open watch streams", &["kind"])?,
            sent: counters(
                r,
                "grpc_stream_events_sent_total",
                "Events handed to connections that took them",
                &["kind"],
            )?,
            dropped: counters(
                r,
                "grpc_stream_events_dropped_total",
                "Events that slow streams lost",
                &["kind", "reason"],
            )?,
            catch_ups: counters(
                r,
                "hub_stream_catch_ups_total",
                "Slow streams that went to read history",
                &["kind"],
            )?,
            disconnects: counters(
                r,
                "hub_stream_disconnects_total",
                "Slow streams that were ended, as they asked",
                &["kind"],
            )?,
            conflations: counters(
                r,
                "hub_stream_conflations_total",
                "Slow streams that went to get only the newest event of each resource",
                &["kind"],
            )?,
            conflated: counters(
                r,
                "hub_stream_events_conflated_total",
                "Events for which a newer one of the same resource was sent",
                &["kind"],
            )?,
            filter_evaluations: counters(
                r,
                "hub_filter_evaluations_total",
                "Events that filters judged, once per distinct filter",
                &["kind"],
            )?,
            stream_duration: histograms(
                r,
                "grpc_stream_duration_seconds",
                "Lifetime of watch streams",
                LIFETIME,
                &["kind"],
            )?,
            sealed_to_sent: histogram(
                r,
                "hub_sealed_to_sent_seconds",
                "From seal to connection, per chunk of events",
                LATENCY,
            )?,
            window_events: gauges(r, "hub_log_window_events", "Events in memory", &["kind"])?,
            window_bytes: gauges(r, "hub_log_window_bytes", "Bytes of the events in memory", &["kind"])?,
            lag: gauges(
                r,
                "hub_subscriber_lag_events",
                "Events between the head and the slowest subscriber",
                &["kind"],
            )?,
            pool: gauges(r, "hub_db_pool_connections", "Connections of the pool", &["state"])?,
            controller_position: gauges(
                r,
                "hub_controller_position",
                "Revision up to which a controller is done",
                &["controller"],
            )?,
            controller_lag: gauges(
                r,
                "hub_controller_lag_events",
                "Events between a controller and the head",
                &["controller"],
            )?,
            controller_active: gauges(
                r,
                "hub_controller_active",
                "1 on the hub that takes a controller's turns",
                &["controller"],
            )?,
            controller_changes: counters(
                r,
                "hub_controller_changes_total",
                "Attempts of this hub to have a controller handle a change",
                &["controller", "outcome"],
            )?,
            controller_hold_ups: counters(
                r,
                "hub_controller_hold_ups_total",
                "Turns that this hub could not take to their end",
                &["controller"],
            )?,
            dead_letters: gauges(
                r,
                "hub_dead_letters",
                "Changes that a controller could not handle, and those that wait behind them",
                &["controller"],
            )?,
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
        let kind = &[kind];
        let dropped = |reason| self.dropped.with_label_values(&[kind[0], reason]);
        KindMetrics {
            subscribers: self.subscribers.with_label_values(kind),
            sent: self.sent.with_label_values(kind),
            dropped_by_buffer: dropped("buffer"),
            dropped_by_window: dropped("window"),
            catch_ups: self.catch_ups.with_label_values(kind),
            disconnects: self.disconnects.with_label_values(kind),
            conflations: self.conflations.with_label_values(kind),
            conflated: self.conflated.with_label_values(kind),
            filter_evaluations: self.filter_evaluations.with_label_values(kind),
            duration: self.stream_duration.with_label_values(kind),
            sealed_to_sent: self.sealed_to_sent.clone(),
            window_events: self.window_events.with_label_values(kind),
            window_bytes: self.window_bytes.with_label_values(kind),
            lag: self.lag.with_label_values(kind),
        }
    }

    /// The handle of bulk calls.
    pub fn bulk(&self) -> BulkMetrics {
        self.bulk.clone()
    }

    /// The handle of a controller.
    pub fn controller(&self, name: &str) -> ControllerMetrics {
        let changes = |outcome| self.controller_changes.with_label_values(&[name, outcome]);
        ControllerMetrics {
            position: self.controller_position.with_label_values(&[name]),
            lag: self.controller_lag.with_label_values(&[name]),
            active: self.controller_active.with_label_values(&[name]),
            handled: changes("handled"),
            failed: changes("failed"),
            hold_ups: self.controller_hold_ups.with_label_values(&[name]),
            letters: self.dead_letters.with_label_values(&[name]),
        }
    }

    /// A finished call; `duration` only for a unary one.
    pub fn request(&self, method: &str, code: &str, duration: Option<Duration>) {
        self.requests.with_label_values(&[method, code]).inc();
        if let Some(duration) = duration {
            self.request_duration.with_label_values(&[method]).observe(duration.as_secs_f64());
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

/// Why a stream lost events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was blocked, and further behind than its buffer.
    Buffer,
    /// The window passed it.
    Window,
}

/// The metrics of one kind's streams. Clones count together.
#[derive(Clone)]
pub struct KindMetrics {
    subscribers: IntGauge,
    sent: IntCounter,
    dropped_by_buffer: IntCounter,
    dropped_by_window: IntCounter,
    catch_ups: IntCounter,
    disconnects: IntCounter,
    conflations: IntCounter,
    conflated: IntCounter,
    filter_evaluations: IntCounter,
    duration: Histogram,
    sealed_to_sent: Histogram,
    window_events: IntGauge,
    window_bytes: IntGauge,
    lag: IntGauge,
}

impl KindMetrics {
    /// A stream began.
    pub fn subscribed(&self) {
        self.subscribers.inc();
    }

    /// A stream ended after this time.
    pub fn unsubscribed(&self, lived: Duration) {
        self.subscribers.dec();
        self.duration.observe(lived.as_secs_f64());
    }

    /// Events went out, the oldest so many microseconds after its seal; `None` for one that was sealed before the stream began.
    pub fn sent(&self, events: u64, waited: Option<u64>) {
        self.sent.inc_by(events);
        if let Some(micros) = waited {
            self.sealed_to_sent.observe(micros as f64 / 1e6);
        }
    }

    /// A stream lost events.
    pub fn dropped(&self, events: u64, reason: Reason) {
        match reason {
            Reason::Buffer => &self.dropped_by_buffer,
            Reason::Window => &self.dropped_by_window,
        }
        .inc_by(events);
    }

    /// A slow stream went to read what it missed from the history.
    pub fn caught_up(&self) {
        self.catch_ups.inc();
    }

    /// A slow stream was ended, as it asked to be.
    pub fn disconnected(&self) {
        self.disconnects.inc();
    }

    /// A slow stream gets only the newest event of each resource from now on.
    pub fn fell_to_conflation(&self) {
        self.conflations.inc();
    }

    /// So many events went out only as newer ones that stand for them.
    pub fn conflated(&self, events: u64) {
        self.conflated.inc_by(events);
    }

    /// A filter judged so many events.
    pub fn evaluated(&self, events: u64) {
        self.filter_evaluations.inc_by(events);
    }

    /// What the log holds.
    pub fn window(&self, size: Size) {
        self.window_events.set(size.events as i64);
        self.window_bytes.set(size.bytes as i64);
    }

    /// How far the slowest subscriber is behind.
    pub fn lag(&self, events: u64) {
        self.lag.set(events as i64);
    }
}

/// The metrics of one controller.
pub struct ControllerMetrics {
    position: IntGauge,
    lag: IntGauge,
    active: IntGauge,
    handled: IntCounter,
    failed: IntCounter,
    hold_ups: IntCounter,
    letters: IntGauge,
}

impl ControllerMetrics {
    /// Where it stands, and how many events are after that.
    pub fn stands(&self, position: Revision, lag: u64) {
        self.position.set(position.to_sql());
        self.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }

    /// Whether this hub takes its turns.
    pub fn active(&self, active: bool) {
        self.active.set(active.into());
    }

    /// So many changes were handled.
    pub fn handled(&self, changes: u64) {
        self.handled.inc_by(changes);
    }

    /// A change was not.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// A turn could not be taken to its end, for a reason that is not one change.
    pub fn held_up(&self) {
        self.hold_ups.inc();
    }

    /// How many dead letters it has.
    pub fn letters(&self, letters: u64) {
        self.letters.set(i64::try_from(letters).unwrap_or(i64::MAX));
    }
}

pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    registered(registry, IntCounter::new(name, help)?)
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    registered(registry, IntGauge::new(name, help)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn options(
    name: &str,
    help: &str,
    (start, factor, count): (f64, f64, usize),
) -> prometheus::Result<HistogramOpts> {
    Ok(HistogramOpts::new(name, help).buckets(prometheus::exponential_buckets(start, factor, count)?))
}

pub(super) fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: (f64, f64, usize),
) -> prometheus::Result<Histogram> {
    registered(registry, Histogram::with_opts(options(name, help, buckets)?)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: (f64, f64, usize),
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    registered(registry, HistogramVec::new(options(name, help, buckets)?, labels)?)
}
