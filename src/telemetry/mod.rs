//! Metrics and logs.

mod logs;
mod metrics;

pub use logs::{LogFormat, init as init_logs};
pub use metrics::{ControllerMetrics, KindMetrics, Metrics, Reason};
