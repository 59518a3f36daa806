//! What is shown while an import runs: a bar on a terminal, a line every few seconds elsewhere, or nothing.

use super::source::Meter;
use crate::cli::print::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

const BETWEEN_LINES: Duration = Duration::from_secs(5);
const BETWEEN_FRAMES: Duration = Duration::from_millis(100);

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Items that were created, in the whole import.
    pub(super) created: u64,
    /// Items that the hub refused, in the whole import.
    pub(super) failed: u64,
    /// Lines that cannot be read.
    pub(super) unreadable: u64,
    /// Items that the hub has decided since this process began.
    pub(super) decided_now: u64,
}

impl Tally {
    /// All items that were not imported.
    pub(super) fn rejected(&self) -> u64 {
        self.failed + self.unreadable
    }
}

/// What is shown.
pub(super) struct Progress {
    way: Way,
    /// When to show the progress again.
    next: Instant,
    meter: Meter,
    /// When the work of this process began, and how far the source was read then: what an earlier process did
    /// is skipped quickly.
    began: Instant,
    began_at: u64,
}

enum Way {
    Quiet,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// On standard error.
    pub(super) fn new(quiet: bool, meter: Meter, now: Instant) -> Self {
        let (way, next) = if quiet {
            (Way::Quiet, now)
        } else if io::stderr().is_terminal() {
            (Way::Bar(bar(&meter)), now)
        } else {
            (Way::Lines, now + BETWEEN_LINES)
        };
        Self { way, next, began_at: meter.read(), meter, began: now }
    }

    /// Shows how far it is now.
    pub(super) fn show(&mut self, tally: &Tally, now: Instant) {
        let read = self.meter.read();
        if tally.decided_now == 0 {
            (self.began, self.began_at) = (now, read);
        }
        if now < self.next {
            return;
        }
        let text = || describe(tally, now - self.began, self.remaining(now));
        match &self.way {
            Way::Quiet => {}
            Way::Bar(bar) => {
                bar.set_position(read);
                bar.set_message(text());
                self.next = now + BETWEEN_FRAMES;
            }
            Way::Lines => {
                say(format!("{}{}", self.percent(read), text()));
                self.next = now + BETWEEN_LINES;
            }
        }
    }

    /// Shows a message that must not be overlooked.
    pub(super) fn say(&self, text: &str) {
        match &self.way {
            Way::Quiet => {}
            Way::Bar(bar) => bar.suspend(|| say(text)),
            Way::Lines => say(text),
        }
    }

    /// Ends the display: the summary takes the bar's place.
    pub(super) fn end(&self) {
        if let Way::Bar(bar) = &self.way {
            bar.finish_and_clear();
        }
    }

    fn percent(&self, read: u64) -> String {
        match self.meter.size {
            Some(size) if size > 0 => {
                format!("{:>3} %  ", 100 * u128::from(read.min(size)) / u128::from(size))
            }
            _ => String::new(),
        }
    }

    /// The time that the rest of the file will take, if it goes on like this.
    fn remaining(&self, now: Instant) -> Option<Duration> {
        let (read, size) = (self.meter.read(), self.meter.size?);
        let done = read.saturating_sub(self.began_at);
        let rest = size.saturating_sub(read);
        (done > 0).then(|| (now - self.began).mul_f64(rest as f64 / done as f64))
    }
}

fn bar(meter: &Meter) -> ProgressBar {
    let (bar, template) = match meter.size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent:>3} %  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    // The template is ours; should the library refuse it, its default does.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn describe(tally: &Tally, elapsed: Duration, remaining: Option<Duration>) -> String {
    let mut text = format!("{} created", grouped(tally.created));
    if tally.rejected() > 0 {
        text += &format!(", {} rejected", grouped(tally.rejected()));
    }
    if tally.decided_now > 0 && !elapsed.is_zero() {
        let rate = tally.decided_now as f64 / elapsed.as_secs_f64();
        text += &format!(", {}/s", grouped(rate as u64));
        if let Some(remaining) = remaining {
            // Whole seconds, rounded up.
            let seconds = Duration::from_secs(remaining.as_secs_f64().ceil() as u64);
            text += &format!(", {} left", humantime::format_duration(seconds));
        }
    }
    text
}

/// 1234567 is 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 7, 999, 1_000, 12_345, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "123,456", "1,234,567"]);
    }

    #[test]
    fn a_line_says_rate_and_remaining_time() {
        let tally = Tally { created: 41_000, failed: 3, unreadable: 4, decided_now: 20_000 };
        let text = describe(&tally, Duration::from_secs(2), Some(Duration::from_millis(61_200)));
        assert_eq!(text, "41,000 created, 7 rejected, 10,000/s, 1m 2s left");
        assert_eq!(describe(&Tally::default(), Duration::ZERO, None), "0 created");
    }
}
