//! The two formats, and what a line of each says.

use super::csv::{Field, Quoting};
use crate::proto::rh_trex::v1::ImportDinosaursItem;
use serde::Deserialize;
use std::path::Path;

/// Every column and field there is.
const KNOWN: &str = "species (required) and id";
/// An empty id belongs to a row that somebody else wrote: a new id would make it another row.
const EMPTY_ID: &str = "id: is there and empty; leave it out, and the database makes one";

/// How items are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// A JSON object a line
    Ndjson,
    /// Comma-separated, with a header
    Csv,
}

impl Format {
    /// As `--format` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// By the file's name, whatever it is compressed with; else by its first byte: a header cannot begin with
    /// a brace.
    pub(in crate::cli) fn guess(path: &Path, first: &[u8]) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        let name = [".gz", ".gzip", ".zst", ".zstd"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv") => Self::Csv,
            Some("ndjson" | "jsonl" | "json") => Self::Ndjson,
            _ if matches!(first.first(), None | Some(b'{')) => Self::Ndjson,
            _ => Self::Csv,
        }
    }
}

/// An item of an NDJSON file. An unknown field is an error: a misspelt one must not be lost.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    species: String,
    id: Option<String>,
}

/// The item in a line of NDJSON.
pub(super) fn object(line: &[u8]) -> Result<ImportDinosaursItem, String> {
    // An array would be taken for an object's values in their order.
    if line.trim_ascii_start().first() == Some(&b'[') {
        return Err("is an array, and no object with `species` and perhaps `id`".to_owned());
    }
    match serde_json::from_slice::<Object>(line) {
        Ok(Object { id: Some(id), .. }) if id.is_empty() => Err(EMPTY_ID.to_owned()),
        Ok(Object { id, species }) => Ok(ImportDinosaursItem { id: id.unwrap_or_default(), species }),
        // Every line is the parser's first.
        Err(error) => Err(error.to_string().replace(" at line 1 column ", " at column ")),
    }
}

/// Which column says what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    columns: usize,
    species: usize,
    id: Option<usize>,
    quoting: Quoting,
}

impl Header {
    /// Of the first record of a CSV file.
    pub(super) fn read(fields: &[Field<'_>], quoting: Quoting) -> Result<Self, String> {
        let (mut species, mut id) = (None, None);
        for (n, Field { bytes: name, .. }) in fields.iter().enumerate() {
            let place = match *name {
                b"species" => &mut species,
                b"id" => &mut id,
                _ => {
                    let name = String::from_utf8_lossy(name);
                    return Err(format!("there is no column {name:?}: the header names {KNOWN}"));
                }
            };
            if place.replace(n).is_some() {
                return Err(format!("column {:?} is there twice", String::from_utf8_lossy(name)));
            }
        }
        match species {
            Some(species) => Ok(Self { columns: fields.len(), species, id, quoting }),
            None => Err(format!("there is no column \"species\": the header names {KNOWN}")),
        }
    }

    /// The item in a record.
    pub(super) fn item(&self, fields: &[Field<'_>]) -> Result<ImportDinosaursItem, String> {
        if fields.len() != self.columns {
            return Err(format!("has {} fields, and the header {}", fields.len(), self.columns));
        }
        let text = |name, column: usize| {
            let bytes = fields.get(column).map(|field| field.bytes).unwrap_or_default();
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| format!("{name}: is not UTF-8"))
        };
        let id = self.id.and_then(|column| fields.get(column));
        // As databases write it: an empty field is no value, and an empty field in quotes is an empty value.
        if self.quoting == Quoting::Strict && id.is_some_and(|id| id.quoted && id.bytes.is_empty()) {
            return Err(EMPTY_ID.to_owned());
        }
        let id = self.id.map(|column| text("id", column)).transpose()?.unwrap_or_default();
        Ok(ImportDinosaursItem { id, species: text("species", self.species)? })
    }
}
