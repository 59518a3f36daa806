//! Capture by triggers: the listener hears writers, the tailer seals what they left and publishes it.

mod aside;
mod doorbell;
mod drain;
mod heard;
mod listener;
mod pace;
mod publish;
mod tailer;

pub use doorbell::{Doorbell, DoorbellState};

use super::{HistorySlot, Parts, Settings, Wakeups};
use heard::Heard;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Starts the listener, if there is one, and the tailer.
pub(super) fn spawn(
    parts: &Parts,
    settings: Settings,
    history: HistorySlot,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let (heard, hears) = watch::channel(Heard::default());
    if settings.wakeups == Wakeups::Listen {
        let told = (heard, parts.tables.clone());
        tasks.spawn(listener::run(parts.target.clone(), parts.metrics.clone(), told, stop.clone()));
    }
    tasks.spawn(tailer::Tailer::new(parts.clone(), settings, hears, history).run(stop.clone()));
}
