//! What a subscriber sees of the events: which of them, and in which form.

use super::{
    filters::{Column, Source},
    interest::Interest,
};
use crate::{
    log::{self, Log, Segment},
    model::{
        ChangeType,
        filter::{Malformed, Verdict},
    },
    wire::{envelope, frame},
};
use std::{ops::Range, sync::Arc};

/// An interest, and the verdicts of its filter.
pub(super) struct View {
    pub(super) interest: Interest,
    column: Option<Arc<Column>>,
}

/// The verdicts on a run of events.
pub(super) struct Verdicts {
    from: usize,
    /// `None`: there is no filter.
    known: Option<Vec<Verdict>>,
}

impl Verdicts {
    fn get(&self, event: usize) -> Verdict {
        match &self.known {
            None => Verdict::Same,
            Some(known) => known.get(event - self.from).copied().unwrap_or(Verdict::Unwanted),
        }
    }
}

impl View {
    pub(super) fn new(interest: Interest, column: Option<Arc<Column>>) -> Self {
        Self { interest, column }
    }

    /// Whether every event is seen.
    pub(super) fn is_whole(&self) -> bool {
        self.column.is_none() && self.interest.selector.is_all()
    }

    /// Whether the log's own bytes are what this subscriber gets.
    pub(super) fn is_plain(&self) -> bool {
        !self.interest.include_previous && self.is_whole()
    }

    /// What the filter says of some events of a segment.
    pub(super) fn judge(
        &self,
        source: Source,
        segment: &Segment,
        events: Range<usize>,
    ) -> Result<Verdicts, Malformed> {
        let from = events.start;
        let known = self.column.as_ref().map(|column| column.judge(source, segment, events)).transpose()?;
        Ok(Verdicts { from, known })
    }

    /// How an event is seen, if it is: the types of the request are those that the subscriber sees.
    pub(super) fn seen(&self, segment: &Segment, event: usize, verdicts: &Verdicts) -> Option<Verdict> {
        let verdict = verdicts.get(event);
        let seen_as = match verdict {
            Verdict::Unwanted => return None,
            Verdict::Same => segment.entries().get(event)?.change,
            Verdict::Enters => ChangeType::Created,
            Verdict::Leaves => ChangeType::Deleted,
        };
        self.interest.selector.matches(seen_as, segment.resource_id(event)).then_some(verdict)
    }

    /// How many events in a range of ordinals are seen. The log must keep all of them.
    pub(super) fn count(&self, log: &Log, ordinals: Range<u64>) -> Result<u64, Malformed> {
        let mut count = 0;
        let mut at = ordinals.start;
        while at < ordinals.end
            && let log::Place::In(segment, index) = log.locate(at)
        {
            let end = segment.len().min(index + (ordinals.end - at) as usize);
            let verdicts = self.judge(Source::Log, &segment, index..end)?;
            count +=
                (index..end).filter(|&event| self.seen(&segment, event, &verdicts).is_some()).count() as u64;
            at += (end - index) as u64;
        }
        Ok(count)
    }

    /// Appends the frame of an event that is seen, with these fields added to its message.
    ///
    /// Protobuf merges what is concatenated, and the last of a scalar counts: another type is said by saying it again.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        (segment, event): (&Segment, usize),
        verdict: Verdict,
        addition: &[u8],
    ) -> Result<(), Malformed> {
        let framed = segment.frames(event..event + 1);
        match (verdict, &self.column) {
            (Verdict::Enters, _) => {
                frame::write_extended(out, &framed, &[&envelope::typed(ChangeType::Created), addition]);
            }
            // Without the row, which is none of this subscriber's, and with the last that was.
            (Verdict::Leaves, Some(column)) => frame::write(out, |out| {
                log::write_without(out, segment.message(event), column.filter.schema().row)?;
                [segment.previous(event), &envelope::typed(ChangeType::Deleted), addition]
                    .iter()
                    .for_each(|part| out.extend_from_slice(part));
                Ok(())
            })?,
            _ => {
                let previous = if self.interest.include_previous { segment.previous(event) } else { &[] };
                if addition.is_empty() && previous.is_empty() {
                    out.extend_from_slice(&framed);
                } else {
                    frame::write_extended(out, &framed, &[addition, previous]);
                }
            }
        }
        Ok(())
    }
}
