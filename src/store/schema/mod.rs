//! The hub's own schema: tables in numbered files, which never change once they are released, and functions,
//! each in a file of its own that is run again when its text changes.

mod apply;
mod migration;

pub(super) use apply::{apply, is_current};
pub(super) use migration::{CONNECT_LIMIT, STEP_LIMIT, missing, note};
pub use migration::{MigrateError, Migration, Scope};

use super::lock::HubLock;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The scope of these files in `hub.migration`.
pub(super) const SCOPE: &str = "hub";

macro_rules! tables {
    ($($version:literal $file:literal),* $(,)?) => {
        &[$(Migration { version: $version, name: $file, sql: include_str!(concat!("tables/", $file, ".sql")) }),*]
    };
}

/// Tables and indexes.
pub(super) const TABLES: &[Migration] = tables![
    1 "0001_log",
    2 "0002_watched",
    3 "0003_imports",
    4 "0004_controllers",
    5 "0005_attached",
    6 "0006_access",
    7 "0007_structure",
];

macro_rules! functions {
    ($($name:literal),* $(,)?) => {
        &[$(Function { name: $name, text: include_str!(concat!("functions/", $name, ".sql")) }),*]
    };
}

/// A function of schema `hub`.
pub(super) struct Function {
    /// Its name, and its file's.
    name: &'static str,
    text: &'static str,
}

impl Function {
    /// Its statement.
    fn sql(&self) -> String {
        // The number stands once, where the locks are taken.
        self.text.replace("LOCK_CLASS", &HubLock::CLASS.to_string())
    }
}

/// In the order of their names: bodies are looked at when they are run.
const FUNCTIONS: &[Function] = functions![
    "after_ddl",
    "attach",
    "attach_fault",
    "attached_columns",
    "begin_epoch",
    "begin_history",
    "bell_expression",
    "capture_digest",
    "capture_events",
    "capture_faults",
    "capture_function",
    "capture_mode",
    "capture_settings",
    "capture_shape",
    "capture_source",
    "capture_statement",
    "capture_template",
    "capture_was_interrupted",
    "captured_columns",
    "cascades_to",
    "column_names",
    "column_numbers",
    "delete_below_floor",
    "description",
    "description_digest",
    "detach",
    "disturbed_query",
    "equal_key",
    "expire_imports",
    "fill",
    "finished_between",
    "follow_ddl",
    "history_fault",
    "install",
    "key_columns",
    "key_expression",
    "large_row",
    "lock_class",
    "look_after_tables",
    "mend",
    "misplaced_triggers",
    "names_are",
    "names_hold",
    "new_epoch",
    "note_nesting",
    "parts",
    "put_in_order",
    "raise_floor",
    "refuse_unseen",
    "ring_tables",
    "row_expression",
    "rows_differ",
    "same_key",
    "seal",
    "shield",
    "state_query",
    "strangers",
    "structure",
    "timeline",
    "trigger_fault",
    "trigger_name",
    "trigger_states",
    "truncated_unseen",
    "wanted_triggers",
    "watch",
    "writes_instants",
];

/// A text's SHA-256, in hexadecimal.
pub(super) fn digest(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn files(folder: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/schema").join(folder);
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_is_listed() {
        let functions: Vec<_> = FUNCTIONS.iter().map(|function| format!("{}.sql", function.name)).collect();
        assert_eq!(files("functions"), functions);
        let tables: Vec<_> = TABLES.iter().map(|table| format!("{}.sql", table.name)).collect();
        assert_eq!(files("tables"), tables);
    }

    #[test]
    fn a_file_makes_the_function_of_its_name_and_no_other() {
        for Function { name, text } in FUNCTIONS {
            let begun = text.lines().filter(|line| line.starts_with("CREATE OR REPLACE FUNCTION"));
            assert_eq!(begun.count(), 1, "{name}");
            assert!(text.contains(&format!("CREATE OR REPLACE FUNCTION hub.{name}(")), "{name}");
        }
    }

    #[test]
    fn no_setting_changes_what_a_literal_means() {
        for Function { name, text } in FUNCTIONS {
            assert!(!text.contains('\\'), "{name}: a backslash depends on standard_conforming_strings");
        }
    }
}
