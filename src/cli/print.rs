//! Standard output: a table for people, JSON for programs, and never an error because a reader such as `head`
//! has had enough. Standard error: single lines.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// For programs: JSON
    Json,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// It is there.
    Reads,
    /// It has had enough.
    Left,
}

/// Writes it all at once.
pub(super) fn print(text: &str) -> io::Result<Reader> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Left),
        Err(error) => Err(error),
    }
}

/// The result of a command that writes as it goes: a reader such as `head` that has had enough is no error.
pub(super) fn unless_left(written: anyhow::Result<()>) -> anyhow::Result<()> {
    let left = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match written {
        Err(error) if error.downcast_ref().is_some_and(left) => Ok(()),
        written => written,
    }
}

/// Writes a line on standard error; that nobody can read it is no reason to stop.
pub(super) fn say(line: impl Display) {
    let _ = io::stderr().write_all(format!("{}\n", shown(&line.to_string())).as_bytes());
}

/// Writes over what a terminal shows, as much as it has room for; one after the other anywhere else.
pub(super) fn refresh(text: &str) -> io::Result<Reader> {
    if !io::stdout().is_terminal() {
        return print(text);
    }
    let size = terminal_size::terminal_size();
    let (columns, rows) =
        size.map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
    print(&frame(text, columns, rows))
}

/// The first lines, and the beginning of each: a line that wrapped would push the first out of sight.
fn frame(text: &str, columns: usize, rows: usize) -> String {
    // Home; each line and, at the end, the rest of the screen is cleared before it is written: behind a full
    // line the cursor stands on its last character.
    let lines = text.lines().take(rows.saturating_sub(1));
    let lines = lines.map(|line| format!("\x1b[2K{}\n", line.chars().take(columns).collect::<String>()));
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
}

/// Text from elsewhere, such as a client's name, must not control a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A span, with two units at most: `3d 4h`, `1m 5s`, `2.5s`, `12ms`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The same for a field that a message may leave out.
pub(super) fn optional_span(wire: Option<prost_types::Duration>) -> Option<Duration> {
    wire.and_then(|wire| wire.try_into().ok())
}

/// Columns under their headings, two spaces apart; numbers to the right. Trailing spaces are left out.
pub(super) fn table(headings: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = headings.iter().map(|(heading, _)| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(headings).zip(&widths).map(|((cell, (_, align)), &width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headings.iter().map(|(heading, _)| *heading));
    text.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    text
}

/// On which side a column begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let shown = [12, 2500, 65_000, 3_700_000, 273_600_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(shown, ["12ms", "2.5s", "1m 5s", "1h 1m", "3d 4h"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["é".to_owned(), "1000".to_owned()], vec!["abc".to_owned(), "1".to_owned()]];
        let text = table(&[("NAME", Align::Left), ("N", Align::Right)], &rows);
        assert_eq!(text, "NAME     N\né     1000\nabc      1\n");
    }

    #[test]
    fn a_frame_has_no_more_than_the_terminal() {
        let text = "PEER  WANTS\né     a filter that is long\nb     all\n";
        assert_eq!(frame(text, 9, 3), "\x1b[H\x1b[2KPEER  WAN\n\x1b[2Ké     a f\n\x1b[J");
        assert_eq!(frame("short\n", 80, 24), "\x1b[H\x1b[2Kshort\n\x1b[J");
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        assert_eq!(shown("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
