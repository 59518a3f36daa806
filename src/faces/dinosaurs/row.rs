//! A row of `public.dinosaurs`, and the message made of it.

use crate::{
    catalog::{Unreadable, timestamp},
    proto::rh_trex::v1::{Dinosaur, ObjectReference},
};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Deserialize)]
struct Row<'a> {
    id: String,
    #[serde(borrow)]
    species: Cow<'a, str>,
    #[serde(deserialize_with = "timestamp")]
    created_at: Option<Timestamp>,
    #[serde(deserialize_with = "timestamp")]
    updated_at: Option<Timestamp>,
}

/// Reads a row as the database writes it in JSON.
pub(super) fn read(json: &str) -> Result<Dinosaur, Unreadable> {
    let Row { id, species, created_at, updated_at } = serde_json::from_str(json)?;
    let href = format!("/api/rh-trex/v1/dinosaurs/{id}");
    let metadata = ObjectReference { id, created_at, updated_at, kind: super::KIND.into(), href };
    Ok(Dinosaur { metadata: Some(metadata), species: species.into_owned() })
}

/// A dinosaur as REST and JSON streams show it.
#[derive(Serialize)]
pub(super) struct Flat {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) href: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) updated_at: Option<String>,
    pub(super) species: String,
}

impl From<Dinosaur> for Flat {
    fn from(Dinosaur { metadata, species }: Dinosaur) -> Self {
        let metadata = metadata.unwrap_or_default();
        Self {
            id: metadata.id,
            kind: metadata.kind,
            href: metadata.href,
            created_at: metadata.created_at.and_then(time),
            updated_at: metadata.updated_at.and_then(time),
            species,
        }
    }
}

/// As RFC 3339 writes it.
fn time(Timestamp { seconds, nanos }: Timestamp) -> Option<String> {
    jiff::Timestamp::new(seconds, nanos).ok().map(|at| at.to_string())
}

/// Reads a row as the database writes it in JSON.
pub(super) fn flat(row: &str) -> Result<Flat, Unreadable> {
    read(row).map(Flat::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postgres_writes() {
        let json = r#"{"id":"a/1","species":"T \"Rex\" é","updated_at":"infinity","more":[1],
            "created_at":"2026-11-20T05:45:41.574626+00:00"}"#;
        let dinosaur = read(json).unwrap();
        let metadata = dinosaur.metadata.unwrap();
        assert_eq!(dinosaur.species, "T \"Rex\" é");
        assert_eq!(metadata.href, "/api/rh-trex/v1/dinosaurs/a/1");
        assert_eq!(metadata.created_at, Some(Timestamp { seconds: 1_795_153_541, nanos: 574_626_000 }));
        assert_eq!(metadata.updated_at, None);
        assert!(read("{}").is_err());
    }
}
