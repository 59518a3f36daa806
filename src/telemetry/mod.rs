//! Metrics and logs.

mod bulk;
mod logs;
mod metrics;

pub use bulk::BulkMetrics;
pub use logs::{LogFormat, init as init_logs};
pub use metrics::{ControllerMetrics, KindMetrics, Metrics, Reason};
