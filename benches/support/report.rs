//! Figures: a table for people, and in `target/bench/` JSON for programs and Markdown for the documentation.

use serde_json::{Value, json};
use std::{fs, path::Path};

/// A row: column and value.
pub type Row = Vec<(&'static str, Value)>;

/// What a load program found.
pub struct Report {
    name: &'static str,
    sections: Vec<Value>,
    markdown: String,
}

impl Report {
    /// Of the program of this name.
    pub fn new(name: &'static str) -> Self {
        Self { name, sections: Vec::new(), markdown: String::new() }
    }

    /// Prints a table and keeps it.
    pub fn table(&mut self, title: &str, rows: &[Row]) {
        println!("\n{title}\n");
        print(rows);
        self.markdown += &markdown(title, rows);
        let object = |row: &Row| -> Value {
            Value::Object(row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
        };
        self.sections.push(json!({ "title": title, "rows": rows.iter().map(object).collect::<Vec<_>>() }));
    }

    /// Writes `target/bench/<name>.json`, and the same as `.md`.
    pub fn write(self) -> anyhow::Result<()> {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = scratch.parent().unwrap_or(scratch).join("bench");
        fs::create_dir_all(&dir)?;
        let path = dir.join(self.name).with_extension("json");
        let report = json!({ "program": self.name, "machine": machine(), "tables": self.sections });
        fs::write(&path, serde_json::to_string_pretty(&report)?)?;
        fs::write(path.with_extension("md"), self.markdown)?;
        println!("\nwritten: {}", path.display());
        Ok(())
    }
}

fn machine() -> Value {
    let first_line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "model": first_line("/proc/cpuinfo", "model name"),
        "kernel": first_line("/proc/sys/kernel/osrelease", ""),
        "load_at_end": first_line("/proc/loadavg", ""),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn markdown(title: &str, rows: &[Row]) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>| {
        cells.fold(String::from("|"), |line, cell| format!("{line} {cell} |")) + "\n"
    };
    let Some(first) = rows.first() else { return String::new() };
    let head = line(&mut first.iter().map(|(name, _)| (*name).to_owned()));
    let rule = line(&mut first.iter().map(|_| "---".to_owned()));
    let body: String = rows.iter().map(|row| line(&mut row.iter().map(|(_, value)| show(value)))).collect();
    format!("{title}:\n\n{head}{rule}{body}\n")
}

fn print(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|(_, value)| show(value)).collect()).collect();
    let width = |column: usize, name: &str| {
        let widest = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        widest.chain([name.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> =
        first.iter().enumerate().map(|(column, (name, _))| width(column, name)).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        println!("  {}", padded.collect::<Vec<_>>().join("  "));
    };
    line(&mut first.iter().map(|(name, _)| *name));
    for row in &cells {
        line(&mut row.iter().map(String::as_str));
    }
}

/// Three figures are enough for a machine that is shared.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            let decimals = match number.abs() {
                size if size >= 100.0 => 0,
                size if size >= 10.0 => 1,
                size if size >= 0.1 => 2,
                _ => 4,
            };
            format!("{number:.decimals$}")
        }
        other => other.to_string(),
    }
}
