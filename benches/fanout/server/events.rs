//! Events of a fixed size.

use crate::{client::EVENT, support::broker::KIND};
use prost::Message;
use std::{sync::Arc, time::SystemTime};
use trex::{
    model::{Change, ChangeType, Revision, Writer},
    proto::rh_trex::v1::{Dinosaur, DinosaurWatchEvent, EventType, ObjectReference},
    wire::{Renderer, Unreadable},
};

/// The revision before the first event. From here on revisions take four bytes, for 266 million events.
pub(super) const BEGINNING: u64 = 1 << 21;

const ID: &str = "0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f";

const ROW: &str = concat!(
    r#"{"id":"0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f","species":"Tyrannosaurus","#,
    r#""created_at":"2026-11-20T05:45:41.574626+00:00","updated_at":"2026-11-20T05:45:41.574626+00:00"}"#
);

/// Writes a row of which the fan-out needs no more than its size: what the database says need not be read
/// again for that.
struct Row(Dinosaur);

impl Renderer for Row {
    fn message(&self, _: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        // Appending to a Vec cannot fail.
        let _ = self.0.encode(out);
        Ok(())
    }
}

/// Makes events, each with the next revision.
pub(super) struct Events {
    event: DinosaurWatchEvent,
}

impl Events {
    /// From the beginning, of `EVENT` bytes each.
    pub(super) fn new() -> anyhow::Result<Self> {
        let time = Some(prost_types::Timestamp { seconds: 1_795_153_541, nanos: 574_626_000 });
        let reference =
            ObjectReference { id: ID.to_owned(), created_at: time, updated_at: time, ..Default::default() };
        let mut event = DinosaurWatchEvent {
            r#type: EventType::Created.into(),
            dinosaur: Some(Dinosaur { metadata: Some(reference), species: String::new() }),
            resource_id: ID.to_owned(),
            revision: BEGINNING,
            occurred_at: time,
            ..Default::default()
        };
        while event.encoded_len() < EVENT
            && let Some(dinosaur) = &mut event.dinosaur
        {
            dinosaur.species.push('T');
        }
        anyhow::ensure!(event.encoded_len() == EVENT, "an event has {} bytes", event.encoded_len());
        Ok(Self { event })
    }

    /// The next one.
    pub(super) fn next(&mut self) -> &DinosaurWatchEvent {
        self.event.revision += 1;
        &self.event
    }

    /// What writes the row of each of them.
    pub(super) fn renderer(&self) -> Arc<dyn Renderer> {
        Arc::new(Row(self.event.dinosaur.clone().unwrap_or_default()))
    }

    /// The next one, as the database tells of it.
    pub(super) fn next_change(&mut self) -> Change<'_> {
        let event = self.next();
        let revision = Revision::new(event.revision);
        Change {
            revision,
            kind: KIND,
            resource_id: &event.resource_id,
            change: ChangeType::Created,
            after: Some(ROW),
            before: None,
            captured_at: event.occurred_at.and_then(|at| SystemTime::try_from(at).ok()),
            writer: Writer { actor: Some("postgres"), ..Writer::default() },
            transaction_end: revision,
        }
    }
}
