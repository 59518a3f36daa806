//! What the listener has heard, and which of it is a reason to look.

use crate::model::Revision;

/// What has been heard so far; newer news replaces older.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Whether bells can be heard at all.
    pub(super) connected: bool,
    /// How many times listening began: this shows what came and went within one round.
    connections: u64,
    bells: u64,
    /// The revision that some hub has announced last.
    sealed: Revision,
}

impl Heard {
    pub(super) fn connect(&mut self) {
        self.connected = true;
        self.connections += 1;
    }

    pub(super) fn disconnect(&mut self) {
        self.connected = false;
    }

    pub(super) fn ring(&mut self) {
        self.bells += 1;
    }

    /// Notes an announcement, which anybody may have made. One that does not go up counts as a bell: the
    /// database was rolled back, or somebody made one up, now or the last time. So the last one hides none
    /// before it.
    pub(super) fn announce(&mut self, revision: Revision) {
        if revision <= self.sealed {
            self.ring();
        }
        self.sealed = revision;
    }

    /// Whether there is a reason to look, for a follower at `position` that knew `seen` when it last looked:
    /// what was announced by then it has found, or it never existed. The echo of the hub's own seals is no
    /// reason.
    pub(super) fn is_news(&self, seen: &Self, position: Revision) -> bool {
        self.bells != seen.bells
            || self.connected != seen.connected
            || self.connections != seen.connections
            || (self.sealed != seen.sealed && self.sealed > position)
    }

    /// Whether bells are heard again after a pause, in which writers rang none.
    pub(super) fn is_back_since(&self, seen: &Self) -> bool {
        self.connected && self.connections != seen.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(mut heard: Heard, revisions: &[u64]) -> Heard {
        revisions.iter().for_each(|revision| heard.announce(Revision::new(*revision)));
        heard
    }

    fn is_news(now: &Heard, seen: &Heard, position: u64) -> bool {
        now.is_news(seen, Revision::new(position))
    }

    #[test]
    fn a_seal_of_another_hub_is_news_once() {
        let seen = announced(Heard::default(), &[10]);
        let now = announced(seen, &[11, 12]);
        assert!(is_news(&now, &seen, 10));
        assert!(!is_news(&now, &now, 10), "it was looked for");
        assert!(!is_news(&now, &seen, 12), "its own echo");
    }

    #[test]
    fn an_announcement_that_does_not_come_true_is_news_once() {
        let seen = announced(Heard::default(), &[10]);
        let lie = announced(seen, &[999_999_999]);
        assert!(is_news(&lie, &seen, 10));
        assert!(!is_news(&lie, &lie, 10), "nor is what was announced before a rollback");
        let next = announced(lie, &[11]);
        assert!(is_news(&next, &lie, 10), "what comes after it is not lost");
        assert!(!is_news(&next, &next, 11));
    }

    #[test]
    fn no_announcement_hides_another() {
        let seen = announced(Heard::default(), &[20]);
        for heard in [&[21, 5][..], &[21, 20], &[15, 20], &[0], &[20]] {
            assert!(is_news(&announced(seen, heard), &seen, 10), "{heard:?}");
        }
    }

    #[test]
    fn a_listener_that_went_and_came_back_unseen_is_back() {
        let mut seen = Heard::default();
        assert!(!seen.is_back_since(&Heard::default()));
        seen.connect();
        assert!(seen.is_back_since(&Heard::default()));
        let mut now = seen;
        assert!(!now.is_back_since(&seen));
        now.disconnect();
        assert!(is_news(&now, &seen, 0) && !now.is_back_since(&seen));
        now.connect();
        assert!(is_news(&now, &seen, 0) && now.is_back_since(&seen));
    }
}
