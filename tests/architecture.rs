//! The rules of the floor plan that a program can check: who may name whom, and what is said where.
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
fn log_and_broker_know_neither_tonic_nor_sql() {
    forbid(
        "no transport, no database",
        |source| source.is_under(&["log", "broker"]),
        |line| {
            ["tonic", "tokio_postgres", "deadpool", "prost"].iter().any(|word| has_word(line, word))
                || is_sql(line)
        },
    );
}

#[test]
fn use_cases_and_errors_know_neither_transport_nor_sql() {
    forbid(
        "the transport brings requests and takes answers",
        |source| source.is_under(&["service", "error", "call"]),
        |line| {
            ["tonic", "prost", "hyper", "http_body", "tokio_postgres", "deadpool_postgres"]
                .iter()
                .any(|word| has_word(line, word))
                || line.contains("http::")
        },
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
fn sql_that_is_sent_is_ascii() {
    // A database may have an encoding that lacks any other sign, in comments and in literals.
    forbid("every encoding has it", |source| source.is_under(&["store"]), |line| !line.is_ascii());
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "sql", &mut found);
    let odd: Vec<_> = found.iter().filter(|path| !fs::read_to_string(path).unwrap().is_ascii()).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn tonic_stays_at_the_edge() {
    let edge = ["faces", "proto", "client", "cli"];
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

/// The rooms of HOUSE.md from top to bottom, each with those below it that it may name. What is not here is
/// not allowed.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "client",
            "embedded",
            "faces",
            "server",
            "service",
            "controller",
            "feed",
            "broker",
            "store",
            "telemetry",
            "proto",
            "tls",
            "error",
            "auth",
            "model",
        ],
    ),
    (
        "app",
        &[
            "faces",
            "server",
            "service",
            "controller",
            "upkeep",
            "feed",
            "broker",
            "catalog",
            "store",
            "telemetry",
            "health",
            "tls",
            "error",
            "auth",
            "model",
        ],
    ),
    ("client", &["proto", "tls", "error", "backoff", "model"]),
    ("embedded", &["store"]),
    (
        "faces",
        &[
            "server",
            "service",
            "feed",
            "broker",
            "catalog",
            "store",
            "wire",
            "telemetry",
            "health",
            "proto",
            "error",
            "call",
            "auth",
            "model",
        ],
    ),
    ("server", &["tls", "error", "call", "auth"]),
    (
        "service",
        &[
            "controller",
            "feed",
            "broker",
            "catalog",
            "store",
            "wire",
            "telemetry",
            "health",
            "tls",
            "error",
            "call",
            "auth",
            "backoff",
            "model",
        ],
    ),
    ("controller", &["feed", "broker", "store", "telemetry", "error", "backoff", "model"]),
    (
        "upkeep",
        &["feed", "catalog", "store", "telemetry", "health", "tls", "error", "auth", "backoff", "model"],
    ),
    (
        "feed",
        &["broker", "catalog", "log", "store", "wire", "telemetry", "health", "error", "backoff", "model"],
    ),
    ("broker", &["catalog", "log", "wire", "telemetry", "call", "model"]),
    ("catalog", &["log", "store", "wire", "telemetry", "model"]),
    ("log", &["wire", "model"]),
    ("store", &["tls", "error", "call", "backoff", "model"]),
    ("wire", &["model"]),
    ("telemetry", &[]),
    ("health", &["error", "model"]),
    ("proto", &[]),
    ("error", &["model"]),
    ("call", &["auth"]),
    ("auth", &["model"]),
    ("tls", &[]),
    ("backoff", &[]),
    ("model", &[]),
];

/// Below every room, or above: the roof.
const ROOF: &str = "lib";

impl Source {
    /// The room that it is in.
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// The rooms that its code names, as `crate::room` or within `crate::{…}`, and in which line.
    fn names(&self) -> Vec<(usize, String)> {
        let mut named = Vec::new();
        let word =
            |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
        // How deep the code is within a `crate::{`: rooms stand at depth 1, at the beginning of an item.
        let mut depth = 0_u32;
        for (n, line) in self.code() {
            let mut rest = line;
            let mut begins = true;
            while !rest.is_empty() {
                if depth == 0 {
                    let Some(at) = rest.find("crate::") else { break };
                    rest = &rest[at + "crate::".len()..];
                    match rest.strip_prefix('{') {
                        Some(inner) => (depth, begins, rest) = (1, true, inner),
                        None => named.push((n, word(rest))),
                    }
                    continue;
                }
                let first = rest.chars().next().unwrap();
                if depth == 1 && begins && first.is_alphabetic() {
                    let name = word(rest);
                    rest = &rest[name.len()..];
                    named.push((n, name));
                    begins = false;
                    continue;
                }
                match first {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => begins = true,
                    _ => {}
                }
                rest = &rest[first.len_utf8()..];
            }
        }
        named
    }
}

#[test]
fn rooms_name_only_what_the_table_allows() {
    let place = |room: &str| ROOMS.iter().position(|(name, _)| *name == room);
    for (at, (room, below)) in ROOMS.iter().enumerate() {
        for other in *below {
            assert!(place(other).is_some_and(|place| place > at), "{room} → {other} points upwards");
        }
    }
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for source in sources().iter().filter(|source| source.room() != ROOF) {
        let Some(at) = place(source.room()) else {
            wrong.push(format!("src/{} is in no room of the table", source.path));
            continue;
        };
        let (room, allowed) = ROOMS[at];
        for (n, named) in source.names() {
            // A macro or an item of the crate itself is no room.
            let is_room = place(&named).is_some() || named == ROOF;
            arrows += usize::from(is_room && named != room);
            if is_room && named != room && !allowed.contains(&named.as_str()) {
                wrong.push(format!("src/{}:{n}: {room} → {named}", source.path));
            }
        }
    }
    assert!(arrows > 100, "the arrows are spelt in another way: {arrows}");
    assert!(wrong.is_empty(), "these arrows are not in the table:\n{}", wrong.join("\n"));
}

#[test]
fn arrows_are_found_however_they_are_spelt() {
    let text = "use crate::{\n    call::Call,\n    feed::{self, reader::LogReader}, // \
                model::No\n    store,\n};\nuse crate::error::Error;\nfn f(a: crate::log::Size) -> \
                Vec<crate::model::Epoch> {}\n";
    let source = Source { path: "service/mod.rs".to_owned(), text: text.to_owned() };
    let named = source.names();
    let named: Vec<_> = named.iter().map(|(n, name)| (*n, name.as_str())).collect();
    assert_eq!(named, [(2, "call"), (3, "feed"), (4, "store"), (6, "error"), (7, "log"), (7, "model")]);
}
