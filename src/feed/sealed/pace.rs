//! When a bell per transaction is cheap, and when polling is better. Pure: time comes as an argument.

use std::time::{Duration, Instant};

/// The shortest time over which a rate is measured.
const WINDOW: Duration = Duration::from_millis(50);
/// How long a calm must last.
const CALM: Duration = Duration::from_millis(250);
/// The shortest interval between the seals of a busy hub.
const SHORTEST: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_millis(20);

/// What the load suggests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// A bell per transaction is cheap.
    Light,
    /// Seal at intervals, without bells.
    Heavy,
}

/// Follows the rate of captured transactions.
#[derive(Debug)]
pub(super) struct Pace {
    busy_above: f64,
    load: Load,
    since: Instant,
    transactions: u64,
}

impl Pace {
    /// A load of more than this many transactions a second is heavy.
    pub(super) fn new(busy_above: f64, now: Instant) -> Self {
        Self { busy_above, load: Load::Light, since: now, transactions: 0 }
    }

    /// Notes that a seal found this many transactions.
    pub(super) fn observe(&mut self, now: Instant, transactions: u64) -> Load {
        self.transactions += transactions;
        let elapsed = now.saturating_duration_since(self.since);
        let rate = self.transactions as f64 / elapsed.max(WINDOW).as_secs_f64();
        match self.load {
            Load::Light if rate > self.busy_above => self.turn(now, Load::Heavy),
            Load::Heavy if elapsed >= CALM && rate < self.busy_above / 2.0 => self.turn(now, Load::Light),
            Load::Light if elapsed >= WINDOW => self.turn(now, Load::Light),
            Load::Heavy if elapsed >= CALM => self.turn(now, Load::Heavy),
            _ => {}
        }
        self.load
    }

    /// How long a busy hub waits after a round that took this long: sealing takes at most a fifth of its
    /// time.
    pub(super) fn interval(round: Duration) -> Duration {
        (round * 4).clamp(SHORTEST, LONGEST)
    }

    fn turn(&mut self, now: Instant, load: Load) {
        *self = Self { load, since: now, transactions: 0, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `rate` transactions a second in rounds of 5 ms for `millis`, and returns the load at the end.
    fn feed(pace: &mut Pace, now: &mut Instant, rate: u64, millis: u64) -> Load {
        let mut load = Load::Light;
        let mut fed = 0;
        for at in (0..millis).step_by(5) {
            *now += Duration::from_millis(5);
            let due = rate * (at + 5) / 1000 - fed;
            fed += due;
            load = pace.observe(*now, due);
        }
        load
    }

    #[test]
    fn heavy_load_and_calm_are_told_apart() {
        let mut now = Instant::now();
        let mut pace = Pace::new(400.0, now);
        assert_eq!(feed(&mut pace, &mut now, 200, 1000), Load::Light);
        assert_eq!(feed(&mut pace, &mut now, 2000, 100), Load::Heavy);
        assert_eq!(feed(&mut pace, &mut now, 300, 1000), Load::Heavy, "between the bounds nothing changes");
        assert_eq!(feed(&mut pace, &mut now, 100, 600), Load::Light);
        assert_eq!(feed(&mut pace, &mut now, 300, 1000), Load::Light, "between the bounds nothing changes");
    }

    #[test]
    fn a_burst_at_once_is_heavy() {
        let now = Instant::now();
        assert_eq!(Pace::new(400.0, now).observe(now, 1), Load::Light);
        assert_eq!(Pace::new(400.0, now).observe(now, 100), Load::Heavy);
    }
}
