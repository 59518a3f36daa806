//! Metrics and logs.

mod bulk;
mod controllers;
mod families;
mod logs;
mod metrics;
mod streams;

pub use bulk::BulkMetrics;
pub use controllers::ControllerMetrics;
pub use logs::{LogFormat, init as init_logs};
pub use metrics::Metrics;
pub use streams::{KindMetrics, Reason};
