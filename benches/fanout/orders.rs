//! What one process of a measurement tells another, a line each.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a client is told to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Appends for this long, waiting each time until every stream has everything.
    InStep {
        /// Events per append.
        batch: u64,
        /// Appends in a row.
        appends: u64,
        /// For how long.
        time: Duration,
    },
    /// Appends at every tick, this many times; then waits until every stream has everything.
    Trickle {
        /// Events per append.
        batch: u64,
        /// How many appends.
        appends: u64,
        /// The tick.
        every: Duration,
    },
    /// Appends, and does not wait for anybody.
    Flood {
        /// Events per append.
        batch: u64,
        /// How many appends.
        appends: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Events published.
    pub(crate) events: u64,
    /// Events received, by all streams.
    pub(crate) deliveries: u64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

/// What whoever started this process tells it.
pub(crate) fn input_lines() -> anyhow::Result<mpsc::UnboundedReceiver<String>> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("input".into()).spawn(move || {
        let told = std::io::stdin().lines().map_while(Result::ok);
        told.for_each(|line| drop(sender.send(line)));
    })?;
    Ok(lines)
}
