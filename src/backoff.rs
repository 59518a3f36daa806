//! Pauses between attempts.

use std::time::Duration;

/// Growing pauses between attempts, each with jitter, so that what failed together is not retried in step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with this pause, and doubles it up to the longest.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause: between half and all of it, and twice as long the next time.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = jittered(self.next.min(self.longest));
        self.next = self.next.saturating_mul(2).min(self.longest);
        pause
    }

    /// The pause after this number of failures, counted from 1, for a caller that counts its failures itself.
    pub(crate) fn after(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        jittered(self.first.saturating_mul(doubled).min(self.longest))
    }

    /// Notes a success: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// For what the hub asks of its database: from 50 ms to 2 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

/// Between half and all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_again() {
        let within = |pause: Duration, millis: u64| {
            let whole = Duration::from_millis(millis);
            assert!((whole / 2..=whole).contains(&pause), "{pause:?} of {whole:?}");
        };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        for millis in [100, 200, 400, 500, 500] {
            within(backoff.next_pause(), millis);
        }
        backoff.reset();
        within(backoff.next_pause(), 100);
        for (failures, millis) in [(1, 100), (2, 200), (4, 500), (u32::MAX, 500)] {
            within(backoff.after(failures), millis);
        }
    }
}
