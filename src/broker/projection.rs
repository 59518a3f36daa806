//! Rows as watches may ask for them: some of the columns, numbers as strings. A row is composed once for all
//! watches that ask for the same.

use crate::{
    model::{KindId, Revision, filter::Malformed},
    wire::rows::Projection,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Weak},
};

/// Distinct projections at a time, of all kinds.
const MOST: usize = 1000;
/// Bytes of rows that each of them keeps for later watches.
const KEPT: usize = 1 << 20;

/// The projections that watches have, by kind.
#[derive(Default)]
pub struct Projections(Mutex<HashMap<(KindId, Projection), Weak<Composer>>>);

impl Projections {
    /// The composer of a projection; `None`: there are too many others.
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

/// Composes rows for the watches that ask for the same. It is dropped with its last watch.
pub struct Composer {
    projection: Projection,
    /// Locked for a look and for an insertion, never while a row is composed.
    composed: Mutex<Composed>,
}

/// Rows by the revision of their event, and whether they are the row before it.
#[derive(Default)]
struct Composed {
    rows: BTreeMap<(Revision, bool), Arc<str>>,
    bytes: usize,
}

impl Composer {
    /// A row of the event of a revision, or its row before, composed for the first watch that asks.
    pub(super) fn row(&self, revision: Revision, is_before: bool, row: &str) -> Result<Arc<str>, Malformed> {
        let key = (revision, is_before);
        let known = self.composed.lock().rows.get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let composed: Arc<str> = self.compose(row)?.into();
        self.composed.lock().keep(key, &composed);
        Ok(composed)
    }

    /// A row, composed for a single watch.
    pub fn compose(&self, row: &str) -> Result<String, Malformed> {
        let mut composed = Vec::with_capacity(row.len());
        self.projection.write(row, &mut composed)?;
        String::from_utf8(composed).map_err(|_| Malformed)
    }
}

impl fmt::Debug for Composer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composer").field("projection", &self.projection).finish_non_exhaustive()
    }
}

impl Composed {
    fn keep(&mut self, key: (Revision, bool), row: &Arc<str>) {
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

    #[test]
    fn a_row_is_composed_once_for_all_who_want_it_so() {
        let kind = KindId { name: "#1".into(), version: 0 };
        let projections = Projections::default();
        let projection = Projection::new(Some(["id", "n"]), ["n"]);
        let composer = projections.composer(&kind, projection.clone()).unwrap();
        assert!(Arc::ptr_eq(&composer, &projections.composer(&kind, projection).unwrap()));
        let row = |is_before, n| {
            let row = format!(r#"{{"id":1,"n":{n},"t":"x"}}"#);
            composer.row(Revision::new(7), is_before, &row).unwrap()
        };
        let (after, before) = (row(false, 2), row(true, 1));
        assert_eq!((&*after, &*before), (r#"{"id":1,"n":"2"}"#, r#"{"id":1,"n":"1"}"#));
        assert!(Arc::ptr_eq(&after, &row(false, 2)) && Arc::ptr_eq(&before, &row(true, 1)));
        assert!(composer.row(Revision::new(8), false, "[").is_err());
        let large = format!(r#"{{"id":"{}"}}"#, "x".repeat(KEPT));
        composer.row(Revision::new(9), false, &large).unwrap();
        assert!(composer.composed.lock().rows.is_empty(), "more than may be kept");
    }
}
