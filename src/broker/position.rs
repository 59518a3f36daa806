//! A subscriber's cursor, and what becomes of the events it passes. No clock, no I/O: time comes as an argument.
//!
//! ```text
//!             falls behind, CATCH_UP; passed by the window, LATEST
//!   ┌──────┐ ───────────────────────► ┌─────────┐
//!   │ Live │                          │ History │ ◄── starts before the window
//!   └──────┘ ◄─────────────────────── └─────────┘
//!     │  ▲     the window reaches it
//!     │  ├── falls behind, DROP: half a buffer before the head
//!     │  └── falls behind, LATEST: where it was
//!     └───── falls behind, DISCONNECT: Lost
//! ```
//!
//! A stream that fell behind with LATEST conflates what it passes, live or from history, until it reaches the head.

use super::{chunk::Chunk, conflation::Conflation, filters::Source, interest::Policy, view::View};
use crate::{
    log::{self, Log, Segment},
    model::{Revision, filter::Malformed},
    telemetry::Reason,
    wire::Rendition,
};
use std::{collections::VecDeque, ops::Range};

/// Where the next event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From the window: every event before this ordinal was passed.
    Live { ordinal: u64 },
    /// From the retained history, after [`Position::revision`].
    History,
    /// From nowhere: the stream was too slow, and its client wants to know that rather than anything else.
    Lost,
    /// From nowhere: its filter cannot be evaluated.
    Failed,
}

/// Events that a stream has passed without a look: those of them that it wanted are lost, and somebody has to find out how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) ordinals: Range<u64>,
    /// The revision of the last.
    upto: Revision,
    reason: Reason,
}

/// Where a subscriber stands. Every event up to `revision` was delivered, dropped, not wanted, or is in the conflation.
pub(super) struct Position {
    pub(super) place: Place,
    pub(super) revision: Revision,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    /// The part of `dropped` that the next event is to tell.
    untold: u64,
    /// What lies between `revision` and `place`: until it is counted nothing is sent, for the next event has to tell.
    uncounted: VecDeque<Passed>,
    /// There is one while the stream is behind, with policy LATEST.
    conflation: Option<Box<Conflation>>,
    /// When the connection last asked for bytes, or, if it had been waiting for the hub, was first seen to leave events.
    pub(super) polled_at: u64,
    /// What it has been waiting for since it last asked, if it is the hub that lets it wait.
    pub(super) wait: Wait,
}

/// Why a stream is sent no events although its connection may take bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is not.
    No,
    /// It has taken all there was.
    ForEvents,
    /// Its initial state comes first.
    ForState,
    /// A page of history is on its way.
    ForPage,
    /// What it lost is being counted.
    ForCount,
}

/// What falling behind did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fall {
    /// So many wanted events are lost.
    Dropped(u64, Reason),
    /// The stream goes on from the history.
    ToHistory,
    /// From now on it gets only the newest event of each resource.
    Conflates,
    /// Nothing new.
    Nothing,
    /// The stream ends.
    Lost,
    /// The stream ends, for its filter cannot be evaluated.
    Failed,
}

impl Position {
    pub(super) fn new(place: Place, revision: Revision, now: u64) -> Self {
        Self {
            place,
            revision,
            delivered: 0,
            dropped: 0,
            untold: 0,
            uncounted: VecDeque::new(),
            conflation: None,
            polled_at: now,
            wait: Wait::No,
        }
    }

    /// Passes the rest of a segment, from the event at `index`, before which this position stands. Nothing wanted there: nothing is
    /// returned.
    pub(super) fn take(
        &mut self,
        source: Source,
        (segment, index): (&Segment, usize),
        view: &View,
    ) -> Result<Option<Chunk>, Malformed> {
        if self.conflation.is_some() {
            return self.conflate(source, (segment, index), view);
        }
        if self.untold == 0 && view.is_plain() {
            let Some(first) = segment.entries().get(index) else { return Ok(None) };
            let chunk = Chunk {
                frames: segment.frames(view.interest.rendition, index..segment.len()),
                events: (segment.len() - index) as u64,
                conflated: 0,
                sealed_at: first.sealed_at,
            };
            self.pass(segment, segment.len(), chunk.events);
            return Ok(Some(chunk));
        }
        self.compose(source, (segment, index), view)
    }

    /// As `take`, for a stream whose bytes are not the log's: some events left out, or additions to them. A plain stream that has a
    /// drop to tell gets one event so, and slices of the log from then on.
    fn compose(
        &mut self,
        source: Source,
        (segment, index): (&Segment, usize),
        view: &View,
    ) -> Result<Option<Chunk>, Malformed> {
        let verdicts = view.judge(source, segment, index..segment.len())?;
        let mut frames = Vec::new();
        let mut events = 0;
        let mut sealed_at = None;
        let mut at = index;
        while at < segment.len() && !(view.is_plain() && events > 0) {
            if let Some(verdict) = view.seen(segment, at, &verdicts) {
                view.write(&mut frames, (segment, at), verdict, self.tell())?;
                events += 1;
                sealed_at = sealed_at.or_else(|| Some(segment.entries().get(at)?.sealed_at));
            }
            at += 1;
        }
        self.pass(segment, at, events);
        Ok(sealed_at.map(|sealed_at| Chunk { frames: frames.into(), events, conflated: 0, sealed_at }))
    }

    /// As `take`, for a stream that is behind with policy LATEST: what is wanted is kept until the head is reached, or there is a portion.
    fn conflate(
        &mut self,
        source: Source,
        (segment, index): (&Segment, usize),
        view: &View,
    ) -> Result<Option<Chunk>, Malformed> {
        let verdicts = view.judge(source, segment, index..segment.len())?;
        if let Some(conflation) = &mut self.conflation {
            for (at, entry) in segment.entries().iter().enumerate().skip(index) {
                if let Some(verdict) = view.seen(segment, at, &verdicts) {
                    let mut frame = Vec::new();
                    view.write(&mut frame, (segment, at), verdict, 0)?;
                    conflation.absorb(segment.resource_id(at), entry.revision, entry.sealed_at, frame);
                }
            }
        }
        self.pass(segment, segment.len(), 0);
        if !self.conflation.as_ref().is_some_and(|conflation| conflation.is_full()) {
            return Ok(None);
        }
        let portion = self.release(view.interest.rendition);
        self.conflation = Some(Box::new(Conflation::new(self.revision)));
        Ok(portion)
    }

    /// What was conflated; the stream is not behind any more.
    pub(super) fn release(&mut self, rendition: Rendition) -> Option<Chunk> {
        let chunk = self.conflation.take()?.into_chunk(rendition)?;
        self.delivered += chunk.events;
        Some(chunk)
    }

    /// Everything wanted up to here was delivered or dropped.
    pub(super) fn complete_up_to(&self) -> Revision {
        self.conflation.as_ref().map_or(self.revision, |conflation| conflation.since)
    }

    /// Whether the stream conflates.
    pub(super) fn is_behind(&self) -> bool {
        self.conflation.is_some()
    }

    /// How many were dropped since that was last told: to be told now.
    pub(super) fn tell(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// Sees that events wait. A stream that waited for the hub could take nothing before: whether it is blocked is seen from now on.
    pub(super) fn notice_events(&mut self, now: u64) {
        if self.wait == Wait::ForEvents || (self.wait == Wait::ForCount && self.uncounted.is_empty()) {
            self.wait = Wait::No;
            self.polled_at = now;
        }
    }

    /// How many events the head is ahead; a stream that reads history is not counted.
    pub(super) fn lag(&self, next: u64) -> Option<u64> {
        match self.place {
            Place::Live { ordinal } => Some(next.saturating_sub(ordinal)),
            Place::History | Place::Lost | Place::Failed => None,
        }
    }

    /// Does as the policy says to a live stream that is further behind than it may be, or that stands before `floor`, which the window
    /// is about to leave. Looks at no event: what filters have to judge is counted later, and nobody waits for that but the stream.
    pub(super) fn fall_behind(&mut self, log: &Log, floor: u64, view: &View, reason: Reason) -> Fall {
        let Place::Live { ordinal } = self.place else { return Fall::Nothing };
        match view.interest.policy {
            Policy::CatchUp => {
                self.leave_for_history(log, ordinal);
                return Fall::ToHistory;
            }
            Policy::Latest => {
                let news = if self.is_behind() { Fall::Nothing } else { Fall::Conflates };
                self.conflation.get_or_insert_with(|| Box::new(Conflation::new(self.revision)));
                if ordinal < floor {
                    self.leave_for_history(log, ordinal);
                }
                return news;
            }
            Policy::Disconnect => {
                return self.give_up();
            }
            Policy::Drop => {}
        }
        // At least one event stays ahead, so that something follows that tells.
        let target = log.next().saturating_sub((view.interest.buffer / 2).max(1)).max(floor).max(ordinal);
        let mut upto = self.revision;
        if let Some(log::Place::In(segment, index)) = target.checked_sub(1).map(|last| log.locate(last))
            && let Some(entry) = segment.entries().get(index)
        {
            upto = upto.max(entry.revision);
        }
        self.place = Place::Live { ordinal: target };
        let passed = Passed { ordinals: ordinal..target, upto, reason };
        if view.is_whole() {
            return self.lose(&passed, target - ordinal);
        }
        self.uncounted.push_back(passed);
        Fall::Nothing
    }

    /// What was passed first of all that is not counted yet.
    pub(super) fn uncounted(&self) -> Option<&Passed> {
        self.uncounted.front()
    }

    /// Notes how many of the events passed were wanted.
    pub(super) fn count(&mut self, passed: &Passed, missed: Result<u64, Malformed>) -> Fall {
        // The stream may have been given up meanwhile.
        if self.uncounted.pop_front_if(|first| first == passed).is_none() {
            return Fall::Nothing;
        }
        match missed {
            Ok(missed) => self.lose(passed, missed),
            Err(Malformed) => {
                self.uncounted.clear();
                self.place = Place::Failed;
                Fall::Failed
            }
        }
    }

    fn lose(&mut self, passed: &Passed, missed: u64) -> Fall {
        self.revision = self.revision.max(passed.upto);
        self.dropped += missed;
        self.untold += missed;
        Fall::Dropped(missed, passed.reason)
    }

    /// Ends the stream where it was before it passed what is not counted.
    pub(super) fn give_up(&mut self) -> Fall {
        self.uncounted.clear();
        self.place = Place::Lost;
        Fall::Lost
    }

    fn leave_for_history(&mut self, log: &Log, ordinal: u64) {
        // Nothing of this kind lies between here and the next event: the history need not reach further back.
        if let log::Place::In(segment, index) = log.locate(ordinal)
            && let Some(entry) = segment.entries().get(index)
        {
            self.revision = self.revision.max(entry.revision.previous());
        }
        self.place = Place::History;
    }

    fn pass(&mut self, segment: &Segment, end: usize, delivered: u64) {
        if let Place::Live { ordinal } = &mut self.place {
            *ordinal = segment.first_ordinal + end as u64;
        }
        self.delivered += delivered;
        if let Some(entry) = end.checked_sub(1).and_then(|last| segment.entries().get(last)) {
            self.revision = entry.revision;
        }
    }
}
