//! The result of a run: counts, rates, and how long things took.

use super::load::{Received, Written};
use crate::cli::print::{Align, table};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};

/// The result of a run.
pub(super) struct Report {
    watchers: u32,
    took: Duration,
    failed: usize,
    missing: u64,
    repeated: u64,
    lines: Vec<Line>,
}

/// A kind of wait.
struct Line {
    name: &'static str,
    /// Sorted.
    waits: Vec<Duration>,
}

impl Line {
    fn new(name: &'static str, mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        Self { name, waits }
    }

    /// The wait that this share of all waits does not exceed.
    fn quantile(&self, share: f64) -> Duration {
        let place = (self.waits.len() as f64 * share).ceil() as usize;
        self.waits.get(place.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn figures(&self, took: Duration) -> (usize, f64, [f64; 3]) {
        let count = self.waits.len();
        let milliseconds = [0.5, 0.99, 1.0].map(|share| self.quantile(share).as_secs_f64() * 1e3);
        (count, count as f64 / took.as_secs_f64().max(1e-9), milliseconds)
    }
}

impl Report {
    pub(super) fn new(watchers: u32, written: &Written, received: Vec<Vec<Received>>) -> Self {
        let rows = || written.rows.iter().flatten();
        let calls = rows().filter_map(|row| Some(row.acknowledged? - row.sent)).collect();
        let (mut from_call, mut from_commit, mut repeated, mut missing) = (Vec::new(), Vec::new(), 0, 0);
        // A watcher that failed altogether has nothing.
        let absent = u64::from(watchers).saturating_sub(received.len() as u64);
        missing += absent * written.acknowledged();
        for stream in received {
            let mut seen = HashSet::new();
            for (writer, n, at) in stream {
                if !seen.insert((writer, n)) {
                    repeated += 1;
                    continue;
                }
                let Some(row) = written.rows.get(writer).and_then(|rows| rows.get(n)) else { continue };
                from_call.push(at.saturating_duration_since(row.sent));
                // The event can be here before the writer's answer is.
                from_commit
                    .extend(row.acknowledged.map(|acknowledged| at.saturating_duration_since(acknowledged)));
            }
            let acknowledged = written.rows.iter().enumerate().flat_map(|(writer, rows)| {
                let rows = rows.iter().enumerate().filter(|(_, row)| row.acknowledged.is_some());
                rows.map(move |(n, _)| (writer, n))
            });
            missing += acknowledged.filter(|row| !seen.contains(row)).count() as u64;
        }
        let lines = vec![
            Line::new("call", calls),
            Line::new("call → watch", from_call),
            Line::new("commit → watch", from_commit),
        ];
        let failed = rows().filter(|row| row.acknowledged.is_none()).count();
        Self { watchers, took: written.took, failed, missing, repeated, lines }
    }

    /// Events that a watcher did not get.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    pub(super) fn text(&self) -> String {
        let numbers = ["COUNT", "PER SECOND", "P50 MS", "P99 MS", "MAX MS"].map(|name| (name, Align::Right));
        let headings: Vec<_> = [("", Align::Left)].into_iter().chain(numbers).collect();
        let rows: Vec<_> = self
            .lines
            .iter()
            .map(|line| {
                let (count, rate, waits) = line.figures(self.took);
                let waits = waits.map(|wait| format!("{wait:.2}"));
                [line.name.to_owned(), count.to_string(), format!("{rate:.0}")]
                    .into_iter()
                    .chain(waits)
                    .collect()
            })
            .collect();
        let Self { watchers, failed, missing, repeated, .. } = self;
        let seconds = self.took.as_secs_f64();
        table(&headings, &rows)
            + &format!(
                "\n{watchers} watchers, {seconds:.1} s; calls that failed {failed}, events missing \
                 {missing}, repeated {repeated}\n"
            )
    }

    pub(super) fn json(&self) -> Value {
        let line = |line: &Line| {
            let (count, rate, [p50, p99, max]) = line.figures(self.took);
            json!({ "count": count, "per_second": rate, "p50_ms": p50, "p99_ms": p99, "max_ms": max })
        };
        json!({
            "watchers": self.watchers,
            "seconds": self.took.as_secs_f64(),
            "failed": self.failed,
            "missing": self.missing,
            "repeated": self.repeated,
            "call": self.lines.first().map(line),
            "call_to_watch": self.lines.get(1).map(line),
            "commit_to_watch": self.lines.get(2).map(line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::load::Row, *};
    use std::time::Instant;

    #[test]
    fn what_is_missing_and_what_comes_twice_is_counted() {
        let sent = Instant::now();
        let after = |ms| sent + Duration::from_millis(ms);
        let row = |ms: Option<u64>| Row { sent, acknowledged: ms.map(after) };
        let rows = vec![vec![row(Some(2)), row(None)], vec![row(Some(4))]];
        let written = Written { rows, took: Duration::from_secs(1) };
        let received =
            vec![vec![(0, 0, after(3)), (0, 0, after(5)), (1, 0, after(1))], vec![(0, 1, after(9))]];
        let report = Report::new(3, &written, received);
        // One watcher has both acknowledged rows, one has neither, and one failed altogether.
        assert_eq!((report.missing, report.repeated, report.failed), (4, 1, 1));
        let [_, from_call, from_commit] = &report.lines[..] else { panic!("three lines") };
        assert_eq!(from_call.waits, [1, 3, 9].map(Duration::from_millis));
        assert_eq!(from_commit.waits, [0, 1].map(Duration::from_millis));
    }

    #[test]
    fn quantiles_are_waits_that_were_seen() {
        let line = Line::new("x", (1..=200).map(Duration::from_millis).collect());
        assert_eq!([0.5, 0.99, 1.0].map(|share| line.quantile(share).as_millis()), [100, 198, 200]);
        assert_eq!(Line::new("x", Vec::new()).quantile(0.5), Duration::ZERO);
    }
}
