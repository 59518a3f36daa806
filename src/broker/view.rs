//! What a subscriber sees of the events: which of them, and in which form.

use super::{
    Ending,
    filters::{Column, Source},
    interest::Interest,
    projection::Composer,
};
use crate::{
    log::{self, Log, Segment},
    model::{
        Change, ChangeType, Revision, SchemaChange, Writer,
        filter::{Malformed, ValueType, Verdict},
    },
    wire::{Context, Rendition, Seen},
};
use std::{ops::Range, sync::Arc};

/// What is told of a table to those who may see a part of it.
const TOLD: &str = r#"{"state_changed": null, "key_changed": false, "table": null}"#;
/// The same where rows are others than their events say.
const TOLD_ANEW: &str = r#"{"state_changed": "", "key_changed": false, "table": null}"#;

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
        self.column.is_none() && self.interest.sight.is_whole() && self.interest.selector.is_all()
    }

    /// Whether this subscriber gets the shared bytes of its rendition, unchanged.
    pub(super) fn is_plain(&self) -> bool {
        let Interest { include_previous, composer, sight, .. } = &self.interest;
        !include_previous && composer.is_none() && sight.is_whole() && self.is_whole()
    }

    /// The filter's verdicts on some events of a segment.
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
        if verdict == Verdict::Unwanted {
            return None;
        }
        let seen_as = seen_as(verdict, segment.entries().get(event)?.change);
        self.interest.selector.matches(seen_as, segment.resource_id(event)).then_some(verdict)
    }

    /// How many events in a range of ordinals are seen. The log must keep all of them.
    pub(super) fn count(&self, log: &Log, ordinals: Range<u64>) -> Result<u64, Malformed> {
        let mut count = 0;
        let mut at = ordinals.start;
        while at < ordinals.end
            && let log::Place::In(segment, index) = log.locate(at)
        {
            if segment.schema_change().is_some() {
                count += u64::from(self.interest.schema.events);
                at += 1;
                continue;
            }
            let end = segment.len().min(index + (ordinals.end - at) as usize);
            let verdicts = self.judge(Source::Log, &segment, index..end)?;
            count +=
                (index..end).filter(|&event| self.seen(&segment, event, &verdicts).is_some()).count() as u64;
            at += (end - index) as u64;
        }
        Ok(count)
    }

    /// Why a stream that comes to a segment that tells of the table ends there, if it does.
    pub(super) fn end_at(&self, segment: &Segment) -> Option<Ending> {
        let (told, kind) = (segment.schema_change()?, || segment.kind().clone());
        if told.key_changed {
            return Some(Ending::KeyChanged { kind: kind(), revision: segment.last_revision() });
        }
        if !self.interest.schema.events && told.state_changed.is_some() {
            return state_changed(segment);
        }
        // What its owner may see was said of columns by their names.
        let is_plain = told.gone.is_empty() && told.retyped.is_empty();
        if !(self.interest.sight.is_whole() || is_plain) {
            let why = "columns were renamed, dropped or changed".to_owned();
            return Some(Ending::StateChanged { kind: kind(), revision: segment.last_revision(), why });
        }
        // Only what was altered here: a stream that reads history names columns as they are called now.
        let table = told.table.as_ref()?;
        self.interest.schema.needs.iter().find_map(|(name, taken_for)| {
            let found = table.columns.iter().find(|column| column.name == *name);
            let fits = |value: &ValueType| found.is_some_and(|column| column.is_value(value));
            if told.gone.contains(name) || found.is_some_and(|column| !column.visible) {
                return Some(Ending::ColumnGone { kind: kind(), column: name.clone() });
            }
            let is_other = told.retyped.contains(name) && !taken_for.as_ref().is_none_or(fits);
            is_other.then(|| Ending::ColumnChanged { kind: kind(), column: name.clone() })
        })
    }

    /// Why a stream ends that loses what a segment tells of the table, if it does.
    pub(super) fn end_if_lost(&self, segment: &Segment) -> Option<Ending> {
        self.end_at(segment).or_else(|| state_changed(segment))
    }

    /// The one event of a segment that tells of the table, and says how many events were lost before it.
    pub(super) fn schema_change(&self, segment: &Segment, dropped_before: u64) -> Vec<u8> {
        let (rendition, change) = (self.interest.rendition, segment.change(0));
        if !self.interest.sight.is_whole() {
            // Without the table, of which its owner may see a part.
            let begins_anew = segment.schema_change().is_some_and(SchemaChange::begins_anew);
            let told = if begins_anew { TOLD_ANEW } else { TOLD };
            let change = Change { after: Some(told), ..change };
            let (mut spelt, mut out) = (Vec::new(), Vec::new());
            // What is told of no row fits every kind.
            let _ = rendition.spelling().event(&change, segment.context(), &mut spelt);
            let seen = Seen { change: change.change, previous: &[], dropped_before };
            rendition.spelling().seen(&spelt, &change, segment.context(), seen, &mut out);
            return out;
        }
        let spelt = segment.spelt(rendition, 0);
        if dropped_before == 0 {
            return spelt.to_vec();
        }
        let (mut out, seen) = (Vec::new(), Seen { change: change.change, previous: &[], dropped_before });
        rendition.spelling().seen(spelt, &change, segment.context(), seen, &mut out);
        out
    }

    /// Appends an event that is seen, with the number of events that were lost before it.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        (segment, event): (&Segment, usize),
        verdict: Verdict,
        dropped_before: u64,
    ) -> Result<(), Malformed> {
        let change = segment.change(event);
        let shows_previous = match verdict {
            // The last event of this row that the subscriber sees.
            Verdict::Leaves => true,
            // Before, the subscriber did not see the row.
            Verdict::Enters => false,
            Verdict::Same | Verdict::Unwanted => self.interest.include_previous,
        };
        let change = Change { before: change.before.filter(|_| shows_previous), ..change };
        let sees_all = self.interest.sight.is_whole();
        let change = match sees_all {
            true => change,
            // Who wrote, and where a transaction ends, tells of rows that are not seen.
            false => Change { writer: Writer::default(), transaction_end: Revision::ZERO, ..change },
        };
        let (rendition, context) = (self.interest.rendition, segment.context());
        let mut write = |spelt: &[u8], previous: &[u8]| {
            let seen = Seen { change: seen_as(verdict, change.change), previous, dropped_before };
            if seen.change == change.change && previous.is_empty() && dropped_before == 0 {
                out.extend_from_slice(spelt);
            } else {
                rendition.spelling().seen(spelt, &change, context, seen, out);
            }
        };
        match self.interest.composer.as_deref() {
            // What all share says too much.
            None if sees_all => {
                let previous = if shows_previous { segment.previous(rendition, event) } else { &[] };
                write(segment.spelt(rendition, event), previous);
            }
            composer => {
                let (spelt, previous) = composed(composer, &change, rendition, context)?;
                write(&spelt, &previous);
            }
        }
        Ok(())
    }
}

fn state_changed(segment: &Segment) -> Option<Ending> {
    let why = segment.schema_change()?.state_changed.clone()?;
    Some(Ending::StateChanged { kind: segment.kind().clone(), revision: segment.last_revision(), why })
}

/// An event with its rows as this subscriber wants them, and the encoded row before.
fn composed(
    composer: Option<&Composer>,
    change: &Change<'_>,
    rendition: Rendition,
    context: Context<'_>,
) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
    let row = |is_before, row: Option<&str>| {
        row.map(|row| match composer {
            Some(composer) => composer.row(change.revision, is_before, row),
            None => Ok(row.into()),
        })
        .transpose()
    };
    let (after, before) = (row(false, change.after)?, row(true, change.before)?);
    let change = Change { after: after.as_deref(), before: before.as_deref(), ..*change };
    let (mut spelt, mut previous) = (Vec::new(), Vec::new());
    let spelling = rendition.spelling();
    let written = spelling.event(&change, context, &mut spelt);
    if let Err(error) = written.and(spelling.previous(&change, context, &mut previous)) {
        tracing::error!(kind = change.kind, revision = %change.revision, %error, "a row does not fit its \
            kind");
    }
    Ok((spelt, previous))
}

/// As what an event is seen that is.
fn seen_as(verdict: Verdict, change: ChangeType) -> ChangeType {
    match verdict {
        Verdict::Same | Verdict::Unwanted => change,
        Verdict::Enters => ChangeType::Created,
        Verdict::Leaves => ChangeType::Deleted,
    }
}
