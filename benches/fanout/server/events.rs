//! Events of a fixed size.

use crate::client::EVENT;
use prost::Message;
use trex::proto::rh_trex::v1::{Dinosaur, DinosaurWatchEvent, EventType, ObjectReference};

/// The revision before the first event. From here on revisions take four bytes, for 266 million events.
pub(super) const BEGINNING: u64 = 1 << 21;

const ID: &str = "0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f";

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
}
