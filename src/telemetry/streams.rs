//! The metrics of watch streams, by kind.

use super::families::{LATENCY, counters, gauges, histogram, histograms};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::time::Duration;

/// 1 s to 3 days.
const LIFETIME: (f64, f64, usize) = (1.0, 4.0, 10);

/// The metrics of every kind's streams.
pub(super) struct StreamFamilies {
    subscribers: IntGaugeVec,
    sent: IntCounterVec,
    dropped: IntCounterVec,
    catch_ups: IntCounterVec,
    disconnects: IntCounterVec,
    conflations: IntCounterVec,
    conflated: IntCounterVec,
    filter_evaluations: IntCounterVec,
    duration: HistogramVec,
    sealed_to_sent: Histogram,
    window_events: IntGaugeVec,
    window_bytes: IntGaugeVec,
    lag: IntGaugeVec,
}

impl StreamFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            subscribers: gauges(r, "grpc_stream_subscribers_active", "Open watch streams", &["kind"])?,
            sent: counters(
                r,
                "grpc_stream_events_sent_total",
                "Events handed to connections, each of which may still hold the last",
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
                "Slow streams that were ended",
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
            duration: histograms(
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
        })
    }

    /// Removes a kind's series. Existing handles still count, without effect.
    pub(super) fn forget(&self, kind: &str) {
        for gauges in [&self.subscribers, &self.window_events, &self.window_bytes, &self.lag] {
            let _ = gauges.remove_label_values(&[kind]);
        }
        for counters in [
            &self.sent,
            &self.catch_ups,
            &self.disconnects,
            &self.conflations,
            &self.conflated,
            &self.filter_evaluations,
        ] {
            let _ = counters.remove_label_values(&[kind]);
        }
        for reason in ["buffer", "window"] {
            let _ = self.dropped.remove_label_values(&[kind, reason]);
        }
        let _ = self.duration.remove_label_values(&[kind]);
    }

    pub(super) fn of(&self, kind: &str) -> KindMetrics {
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
            duration: self.duration.with_label_values(kind),
            sealed_to_sent: self.sealed_to_sent.clone(),
            window_events: self.window_events.with_label_values(kind),
            window_bytes: self.window_bytes.with_label_values(kind),
            lag: self.lag.with_label_values(kind),
        }
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

    /// Events went out; `None` for events that were sealed before the stream began, else the microseconds
    /// since the seal of the oldest.
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

    /// A slow stream began to read what it missed from the history.
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

    /// This many events were replaced by newer ones of their resource.
    pub fn conflated(&self, events: u64) {
        self.conflated.inc_by(events);
    }

    /// A filter judged this many events.
    pub fn evaluated(&self, events: u64) {
        self.filter_evaluations.inc_by(events);
    }

    /// What the log holds: events, and their bytes.
    pub fn window(&self, events: u64, bytes: usize) {
        self.window_events.set(events as i64);
        self.window_bytes.set(bytes as i64);
    }

    /// How far the slowest subscriber is behind.
    pub fn lag(&self, events: u64) {
        self.lag.set(events as i64);
    }
}
