//! One run of an import: what was read and not decided yet, what the hub said of it, and the list of rejects.

use super::{
    progress::Tally,
    records::Entry,
    rejects::{Reject, Rejects},
};
use crate::{
    client::{Decided, Import},
    faces::dinosaurs,
    proto::rh_trex::v1::Error,
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

/// Bounds on what waits here: unreadable lines wait for the items before them, so that the list is in order.
const MOST_WAITING: usize = 32 * 1024;
const MOST_BYTES: usize = 16 << 20;
/// The code for a line that is no item.
pub(super) const UNREADABLE: &str = "UNREADABLE";

/// A line that waits for its turn in the list.
struct Waiting {
    line: u64,
    raw: Vec<u8>,
    what: What,
}

enum What {
    /// An item. If the rules of the API refuse it, why: the hub lists a bounded number of failures, and these
    /// can be listed without it.
    Item { index: u64, broken: Option<String> },
    /// No item, and why.
    Unreadable(String),
}

/// The state of a run.
pub(super) struct Session {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// What the hub said of items that are still in `waiting`.
    errors: BTreeMap<u64, Error>,
    /// Where the hub left failures out.
    untold: VecDeque<Range<u64>>,
    rejects: Rejects,
    decided: Option<Decided>,
    /// Where the import stood when the hub first answered.
    began_at: u64,
    /// Items so far: the index of the next one. A line that is no item has no index.
    items: u64,
    unreadable: u64,
    last_line: u64,
}

impl Session {
    /// Nothing was read yet.
    pub(super) fn new(rejects: Rejects) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            errors: BTreeMap::new(),
            untold: VecDeque::new(),
            rejects,
            decided: None,
            began_at: 0,
            items: 0,
            unreadable: 0,
            last_line: 0,
        }
    }

    /// Whether more lines may be taken now.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING && self.bytes < MOST_BYTES
    }

    /// Takes lines from the source, and offers the items in them.
    pub(super) fn take(&mut self, entries: Vec<Entry>, import: &mut Import) -> anyhow::Result<()> {
        for Entry { line, raw, item } in entries {
            let what = match item {
                Ok(item) => {
                    let broken = dinosaurs::check_new(&item.id, &item.species).err();
                    let index = self.items;
                    self.items += 1;
                    import.offer(item);
                    What::Item { index, broken: broken.map(|error| error.to_string()) }
                }
                Err(why) => {
                    self.unreadable += 1;
                    What::Unreadable(why)
                }
            };
            self.bytes += raw.len();
            self.waiting.push_back(Waiting { line, raw, what });
        }
        self.settle()
    }

    /// Takes what the hub says. Returns whether more is decided than before.
    pub(super) fn decided(&mut self, mut decided: Decided) -> anyhow::Result<bool> {
        if self.decided.is_none() {
            self.began_at = decided.next_index;
        }
        let moved = self.decided.as_ref().is_none_or(|before| before.next_index < decided.next_index);
        let mut told = 0;
        for error in std::mem::take(&mut decided.errors) {
            let Some(index) = error.index.and_then(|index| u64::try_from(index).ok()) else { continue };
            told = told.max(index + 1);
            self.errors.insert(index, error);
        }
        if decided.errors_omitted > 0 {
            self.untold.push_back(told..decided.next_index);
        }
        self.decided = Some(decided);
        self.settle()?;
        Ok(moved)
    }

    /// Lists what is rejected among the lines whose turn it is.
    fn settle(&mut self) -> anyhow::Result<()> {
        let next_index = self.decided.as_ref().map_or(0, |decided| decided.next_index);
        while let Some(first) = self.waiting.front() {
            if matches!(first.what, What::Item { index, .. } if index >= next_index) {
                break;
            }
            let Some(Waiting { line, raw, what }) = self.waiting.pop_front() else { break };
            self.bytes -= raw.len();
            self.last_line = line;
            match what {
                What::Unreadable(reason) => {
                    let code = UNREADABLE;
                    self.rejects.add(&Reject { line, index: None, code, reason: &reason, raw: &raw })?;
                }
                What::Item { index, broken } => {
                    if let Some((code, reason)) = self.verdict(index, broken) {
                        let (code, reason) = (&*code, &*reason);
                        self.rejects.add(&Reject { line, index: Some(index), code, reason, raw: &raw })?;
                    }
                }
            }
        }
        self.rejects.flush()
    }

    /// Why a decided item was not created; none: it was, or the hub did not say.
    fn verdict(&mut self, index: u64, broken: Option<String>) -> Option<(String, String)> {
        while self.untold.front().is_some_and(|range| range.end <= index) {
            self.untold.pop_front();
        }
        match self.errors.remove(&index) {
            Some(error) => Some((error.id, error.reason)),
            None if self.untold.front()?.contains(&index) => Some(("INVALID_FIELD".to_owned(), broken?)),
            None => None,
        }
    }

    /// How far it has come.
    pub(super) fn tally(&self) -> Tally {
        let decided = self.decided.as_ref();
        let of = |what: fn(&Decided) -> u64| decided.map_or(0, what);
        Tally {
            created: of(|decided| decided.created),
            failed: of(|decided| decided.failed),
            unreadable: self.unreadable,
            decided_now: of(|decided| decided.next_index) - self.began_at,
        }
    }

    /// Whether the hub has answered: before that, nothing is known of what an earlier run may have done.
    pub(super) fn is_known(&self) -> bool {
        self.decided.is_some()
    }

    /// The list.
    pub(super) fn rejects(&self) -> &Rejects {
        &self.rejects
    }

    /// Whether everything was decided before this process came.
    pub(super) fn found_all_done(&self) -> bool {
        self.items > 0 && self.began_at == self.items
    }

    /// Up to this line everything is decided.
    pub(super) fn last_line(&self) -> u64 {
        self.last_line
    }
}
