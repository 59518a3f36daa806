//! The directions of DESIGN section 6 that a program can check.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

struct Source {
    /// From `src/`.
    path: String,
    text: String,
}

impl Source {
    fn is_under(&self, places: &[&str]) -> bool {
        places
            .iter()
            .any(|place| self.path == format!("{place}.rs") || self.path.starts_with(&format!("{place}/")))
    }

    /// Numbered lines without tests, which stand at a file's end, and without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests_alone = self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path == "embedded/testing.rs";
        let lines = self.text.lines().take_while(move |line| !tests_alone && *line != "mod tests {");
        lines.enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or(line)))
    }
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, "rs", &mut found);
    assert!(found.len() > 50, "the sources are elsewhere");
    let source = |path: PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    found.into_iter().map(source).collect()
}

/// Fails with every line of these sources in which `is_wrong` finds something.
fn forbid(rule: &str, which: impl Fn(&Source) -> bool, is_wrong: impl Fn(&str) -> bool) {
    let sources = sources();
    let wrong: Vec<_> = sources
        .iter()
        .filter(|source| which(source))
        .flat_map(|source| source.code().map(move |(n, line)| (source, n, line)))
        .filter(|(_, _, line)| is_wrong(line))
        .map(|(source, n, line)| format!("src/{}:{n}: {}", source.path, line.trim()))
        .collect();
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

/// Whether a word stands in a line by itself.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// A statement, not a mere word of English: at least two words that only SQL puts side by side.
fn is_sql(line: &str) -> bool {
    const PHRASES: [&str; 14] = [
        "SELECT ",
        "INSERT INTO ",
        "DELETE FROM ",
        "UPDATE hub.",
        "CREATE TABLE ",
        "CREATE FUNCTION ",
        "ALTER TABLE ",
        "ORDER BY ",
        "LISTEN hub",
        "pg_notify",
        "pg_advisory",
        "SET statement_timeout",
        "TRUNCATE ",
        "hub.seal(",
    ];
    // The line that the start prints for people to try is no statement of ours.
    !line.contains("psql ") && PHRASES.iter().any(|phrase| line.contains(phrase))
}

#[test]
fn model_imports_nothing_of_ours() {
    forbid(
        "pure values",
        |source| source.is_under(&["model"]),
        |line| line.contains("crate::") || line.contains("super::super"),
    );
}

#[test]
fn log_and_broker_know_neither_tonic_nor_sql() {
    forbid(
        "no transport, no database",
        |source| source.is_under(&["log", "broker"]),
        |line| {
            ["tonic", "tokio_postgres", "deadpool", "prost", "crate::store", "crate::faces"]
                .iter()
                .any(|word| has_word(line, word))
                || is_sql(line)
        },
    );
}

#[test]
fn bulk_knows_no_transport() {
    forbid(
        "the transport brings items and takes acknowledgements",
        |source| source.is_under(&["service/import"]),
        |line| {
            ["prost", "crate::proto", "crate::faces", "tokio_postgres"]
                .iter()
                .any(|word| has_word(line, word))
        },
    );
}

#[test]
fn controllers_know_no_transport_and_no_kind() {
    forbid(
        "what acts on changes is served by nobody",
        |source| source.is_under(&["controller"]),
        |line| ["crate::faces", "crate::server"].iter().any(|part| line.contains(part)),
    );
}

#[test]
fn log_has_neither_async_nor_clock() {
    forbid(
        "driven step by step",
        |source| source.is_under(&["log"]),
        |line| ["async", "await", "Instant", "SystemTime", "tokio"].iter().any(|word| has_word(line, word)),
    );
}

#[test]
fn sql_text_lives_under_store() {
    // The supervisor makes databases on its own cluster, before there is a store.
    forbid("SQL is said by the store", |source| !source.is_under(&["store", "embedded"]), is_sql);
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    files(&root, "sql", &mut found);
    let is_at_home = |path: &PathBuf| {
        let path = path.strip_prefix(&root).unwrap();
        path.starts_with("store") || path.starts_with("faces")
    };
    assert!(found.iter().all(is_at_home), "{found:?}");
}

#[test]
fn tonic_stays_at_the_edge() {
    let edge = ["faces", "error", "proto", "server", "client", "cli"];
    forbid(
        "gRPC is an edge",
        |source| !source.is_under(&edge),
        |line| {
            ["tonic", "tonic_types", "tonic_health", "tonic_reflection"]
                .iter()
                .any(|word| has_word(line, word))
        },
    );
}

#[test]
fn nothing_outside_its_folder_knows_the_dinosaur() {
    // The program's own list of kinds, and the clients of the published API.
    let allowed = ["faces", "client", "cli", "proto"];
    forbid(
        "one place per kind",
        |source| !source.is_under(&allowed),
        |line| line.to_lowercase().contains("dinosaur"),
    );
}

#[test]
fn nothing_panics_on_purpose() {
    let forbidden = [".unwrap()", ".expect(", "todo!(", "unimplemented!(", "panic!(", "unreachable!("];
    forbid(
        "errors are values",
        |_| true,
        |line| forbidden.iter().any(|call| line.contains(call)) || has_word(line, "unsafe"),
    );
}

#[test]
fn files_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples"].map(|folder| root.join(folder)) {
        if folder.exists() {
            ["rs", "sql"].iter().for_each(|extension| files(&folder, extension, &mut found));
        }
    }
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> = found.into_iter().filter(|path| lines(path) >= 500).collect();
    assert!(long.is_empty(), "{long:?}");
}
