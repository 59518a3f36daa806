//! How families of series are declared.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// 100 µs to 52 s.
pub(super) const LATENCY: (f64, f64, usize) = (0.0001, 2.0, 20);

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

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    registered(registry, IntGauge::new(name, help)?)
}

pub(super) fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
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

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: (f64, f64, usize),
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    registered(registry, HistogramVec::new(options(name, help, buckets)?, labels)?)
}
