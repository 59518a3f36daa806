//! Rows as some watches want them: some of the columns, numbers as strings. A row is composed once for all watches that want it so.

use crate::{
    log::{find_revision, write_with},
    model::{KindId, Revision, filter::Malformed},
    wire::{envelope, frame, rows::Projection},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

/// Distinct projections at a time, of all kinds.
const MOST: usize = 1000;
/// Bytes of rows that each of them keeps for the watches that come later.
const KEPT: usize = 1 << 20;

/// The projections that watches have, by kind.
#[derive(Default)]
pub struct Projections(Mutex<HashMap<(KindId, Projection), Weak<Composer>>>);

impl Projections {
    /// The composer of a projection; `None`: there are as many others as there may be.
    pub fn composer(&self, kind: &KindId, projection: Projection) -> Option<Arc<Composer>> {
        let mut known = self.0.lock();
        let key = (kind.clone(), projection);
        if let Some(composer) = known.get(&key).and_then(Weak::upgrade) {
            return Some(composer);
        }
        known.retain(|_, composer| composer.strong_count() > 0);
        if known.len() >= MOST {
            return None;
        }
        let composer = Arc::new(Composer { projection: key.1.clone(), composed: Mutex::default() });
        known.insert(key, Arc::downgrade(&composer));
        Some(composer)
    }
}

/// Composes rows for the watches that want the same of them. It goes with its last watch.
pub struct Composer {
    projection: Projection,
    /// Locked for a look and for an insertion, never while a row is composed.
    composed: Mutex<Composed>,
}

/// Rows by the revision of their event, and whether they are the row before it.
#[derive(Default)]
struct Composed {
    rows: BTreeMap<(Revision, bool), Arc<[u8]>>,
    bytes: usize,
}

impl Composer {
    /// The same frames, with their rows as they are wanted.
    pub fn compose(&self, frames: &[u8]) -> Result<Bytes, Malformed> {
        let (mut out, mut rest) = (Vec::with_capacity(frames.len()), frames);
        while let Some((message, next)) = frame::split(rest) {
            let revision = find_revision(message)?;
            frame::write(&mut out, |out| {
                write_with(out, message, |number, text, out| self.field((revision, number), text, out))
            })?;
            rest = next;
        }
        Ok(out.into())
    }

    fn field(
        &self,
        (revision, number): (Revision, u32),
        row: &str,
        out: &mut Vec<u8>,
    ) -> Result<bool, Malformed> {
        let field = match u8::try_from(number) {
            Ok(field @ (envelope::ROW | envelope::PREVIOUS)) => field,
            _ => return Ok(false),
        };
        // A row of a state has no revision, and is composed for its one watch.
        let key = (revision, field == envelope::PREVIOUS);
        let known = self.composed.lock().rows.get(&key).filter(|_| revision > Revision::ZERO).cloned();
        let composed: Arc<[u8]> = match known {
            Some(composed) => composed,
            None => {
                let mut composed = Vec::with_capacity(row.len());
                self.projection.write(row, &mut composed)?;
                let composed: Arc<[u8]> = composed.into();
                if revision > Revision::ZERO {
                    self.composed.lock().keep(key, &composed);
                }
                composed
            }
        };
        envelope::bytes(field, &composed, out);
        Ok(true)
    }
}

impl Composed {
    fn keep(&mut self, key: (Revision, bool), row: &Arc<[u8]>) {
        self.bytes += row.len();
        if let Some(before) = self.rows.insert(key, row.clone()) {
            self.bytes -= before.len();
        }
        while self.bytes > KEPT
            && let Some((_, oldest)) = self.rows.pop_first()
        {
            self.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Change, ChangeType, Writer},
        proto::hub::v1::WatchEvent,
        wire::rows::JsonRows,
    };
    use prost::Message;

    #[test]
    fn frames_have_the_rows_that_are_wanted() {
        let rows = JsonRows::new(4, None::<[&str; 0]>);
        let mut frames = Vec::new();
        for revision in [7, 8] {
            let change = Change {
                revision: Revision::new(revision),
                kind: "#1",
                resource_id: "1",
                change: ChangeType::Updated,
                after: Some(r#"{"id":1,"n":2,"t":"x"}"#),
                before: Some(r#"{"id":1,"n":1,"t":"x"}"#),
                captured_at: None,
                transaction_end: Revision::new(8),
                writer: Writer { actor: Some("ann"), origin: None, trace: None },
            };
            frame::write(&mut frames, |out| {
                let mut previous = Vec::new();
                envelope::write(&change, &rows, out, &mut previous).unwrap();
                out.extend(previous);
            });
        }
        let kind = KindId { name: "#1".into(), version: 0 };
        let projections = Projections::default();
        let projection = Projection::new(Some(["id", "n"]), ["n"]);
        let composer = projections.composer(&kind, projection.clone()).unwrap();
        assert!(Arc::ptr_eq(&composer, &projections.composer(&kind, projection).unwrap()));
        for _ in 0..2 {
            let composed = composer.compose(&frames).unwrap();
            let (first, rest) = frame::split(&composed).unwrap();
            let event = WatchEvent::decode(first).unwrap();
            assert_eq!((&*event.row, &*event.previous), (r#"{"id":1,"n":"2"}"#, r#"{"id":1,"n":"1"}"#));
            assert_eq!((event.revision, event.schema_version, event.transaction_end), (7, 4, 8));
            assert_eq!((&*event.actor, &*event.resource_id), ("ann", "1"));
            assert_eq!(WatchEvent::decode(frame::split(rest).unwrap().0).unwrap().revision, 8);
        }
        assert_eq!(composer.composed.lock().rows.len(), 4);
    }
}
