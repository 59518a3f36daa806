//! How long to keep trying a hub that does not let an import go on.

use std::time::{Duration, Instant};

/// A connection that has lasted this long is a good one, even if nothing was decided on it: a pipe may be
/// quiet.
const GOOD: Duration = Duration::from_secs(10);

/// Since when there has been no progress.
#[derive(Debug, Default)]
pub(super) struct Patience {
    lost_since: Option<Instant>,
    connected_since: Option<Instant>,
    why: String,
}

impl Patience {
    /// The hub has answered; `moved`: it has decided more than before.
    pub(super) fn answered(&mut self, moved: bool, now: Instant) {
        self.connected_since.get_or_insert(now);
        if moved {
            self.lost_since = None;
        }
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self, why: String, now: Instant) {
        if self.connected_since.take().is_some_and(|since| now - since >= GOOD) {
            self.lost_since = None;
        }
        self.lost_since.get_or_insert(now);
        self.why = why;
    }

    /// Why the connection was lost the last time, if there has been no good one for this long.
    pub(super) fn is_over(&self, limit: Duration, now: Instant) -> Option<&str> {
        let since = self.lost_since.filter(|_| self.connected_since.is_none())?;
        (now - since > limit).then_some(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn ends_when_nothing_goes_on_for_too_long() {
        let (mut patience, began) = (Patience::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(patience.is_over(LIMIT, at(1000)), None);
        patience.lost("one".into(), at(1000));
        assert_eq!(patience.is_over(LIMIT, at(1060)), None);
        // Answers that lead to nothing do not count.
        patience.answered(false, at(1050));
        assert_eq!(patience.is_over(LIMIT, at(1061)), None, "connected");
        patience.lost("two".into(), at(1055));
        assert_eq!(patience.is_over(LIMIT, at(1061)), Some("two"));
        patience.answered(true, at(1062));
        patience.lost("three".into(), at(1063));
        assert_eq!(patience.is_over(LIMIT, at(1123)), None);
    }

    #[test]
    fn a_connection_that_held_while_nothing_was_to_do_was_a_good_one() {
        let (mut patience, began) = (Patience::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        patience.lost("one".into(), at(0));
        patience.answered(false, at(1));
        assert_eq!(patience.is_over(LIMIT, at(1000)), None);
        patience.lost("two".into(), at(1000));
        assert_eq!(patience.is_over(LIMIT, at(1001)), None);
    }
}
