//! The metrics of controllers.

use super::families::{counters, gauges};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

/// The metrics of all controllers.
pub(super) struct ControllerFamilies {
    position: IntGaugeVec,
    lag: IntGaugeVec,
    active: IntGaugeVec,
    changes: IntCounterVec,
    hold_ups: IntCounterVec,
    letters: IntGaugeVec,
}

impl ControllerFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            position: gauges(
                r,
                "hub_controller_position",
                "Revision up to which a controller is done",
                &["controller"],
            )?,
            lag: gauges(
                r,
                "hub_controller_lag_events",
                "Events between a controller and the head",
                &["controller"],
            )?,
            active: gauges(
                r,
                "hub_controller_active",
                "1 on the hub that takes a controller's turns",
                &["controller"],
            )?,
            changes: counters(
                r,
                "hub_controller_changes_total",
                "Attempts of this hub to have a controller handle a change",
                &["controller", "outcome"],
            )?,
            hold_ups: counters(
                r,
                "hub_controller_hold_ups_total",
                "Turns that this hub could not take to their end",
                &["controller"],
            )?,
            letters: gauges(
                r,
                "hub_dead_letters",
                "Changes that a controller could not handle, and those that wait behind them",
                &["controller"],
            )?,
        })
    }

    pub(super) fn of(&self, name: &str) -> ControllerMetrics {
        let changes = |outcome| self.changes.with_label_values(&[name, outcome]);
        ControllerMetrics {
            position: self.position.with_label_values(&[name]),
            lag: self.lag.with_label_values(&[name]),
            active: self.active.with_label_values(&[name]),
            handled: changes("handled"),
            failed: changes("failed"),
            hold_ups: self.hold_ups.with_label_values(&[name]),
            letters: self.letters.with_label_values(&[name]),
        }
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
    /// Its revision, and how many events come after that.
    pub fn stands(&self, revision: u64, lag: u64) {
        self.position.set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }

    /// Whether this hub takes its turns.
    pub fn active(&self, active: bool) {
        self.active.set(active.into());
    }

    /// This many changes were handled.
    pub fn handled(&self, changes: u64) {
        self.handled.inc_by(changes);
    }

    /// A change failed.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// A turn could not be completed, for a reason other than one change.
    pub fn held_up(&self) {
        self.hold_ups.inc();
    }

    /// How many dead letters it has.
    pub fn letters(&self, letters: u64) {
        self.letters.set(i64::try_from(letters).unwrap_or(i64::MAX));
    }
}
