//! A subscriber's cursor: its state, every transition between states, and what happens to the events that it
//! passes. No clock, no I/O: time comes as an argument.
//!
//! ```text
//!   starts in the window            starts before it
//!            │                             │
//!            ▼      falls behind, CATCH_UP ▼
//!   ┌───────────────────┐ ────────► ┌────────────────────┐
//!   │ Following(Window) │           │ Following(History) │
//!   └───────────────────┘ ◄──────── └────────────────────┘
//!      │        window reaches it
//!      │
//!      ├─ falls behind, LATEST ──────► Conflating ──── head reached ──► Following(Window)
//!      ├─ falls behind, DROP ────────► Counting ────── all counted ───► Following(Window)
//!      │                                  ├─ not counted in time ─────► Lost
//!      │                                  └─ its filter fails ────────► Failed
//!      └─ falls behind, DISCONNECT ──► Lost
//! ```
//!
//! Where the table was altered a stream may be over, whatever its state.
//! A conflating stream that the window passes goes on from the history, and returns as any other. With DROP,
//! the loss of a stream that wants every event is counted at once, and the stream stays in its state.

use super::{Ending, chunk::Chunk, conflation::Conflation, filters::Source, interest::Policy, view::View};
use crate::{
    log::{self, Log, Segment},
    model::{Revision, filter::Malformed},
    telemetry::Reason,
    wire::Rendition,
};
use std::{collections::VecDeque, mem, ops::Range};

/// Where the next event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// From the window: every event before this ordinal was passed.
    Window(u64),
    /// From the retained history, after [`Position::revision`].
    History,
}

/// What a subscriber is doing.
enum State {
    /// It gets every event that it wants.
    Following(At),
    /// It goes on from this ordinal once it is known how many of the events that it passed it wanted: the
    /// next event reports them.
    Counting {
        ordinal: u64,
        /// Not empty.
        passed: VecDeque<Passed>,
    },
    /// It keeps the newest event of each resource until it reaches the head.
    Conflating { at: At, newest: Box<Conflation> },
    /// It was too slow, and its client asked to be disconnected then.
    Lost,
    /// Its filter cannot be evaluated.
    Failed,
    /// It has come to where the table was altered, and ends there.
    Over(Ending),
}

/// What a subscriber needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Events of the window, from this ordinal.
    Events(u64),
    /// A page of the history.
    Page,
    /// The count of what it has lost.
    Count,
    /// The report that it was too slow.
    Lost,
    /// The report that its filter failed.
    Failed,
    /// To be told why it is over.
    Over,
}

/// Events that a stream has passed without examining them: those that it wanted are lost, and have yet to be
/// counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) ordinals: Range<u64>,
    /// The revision of the last.
    upto: Revision,
    reason: Reason,
}

/// A subscriber's position. Every event up to `revision` was delivered, dropped, not wanted, or is in the
/// conflation.
pub(super) struct Position {
    state: State,
    pub(super) revision: Revision,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    /// The part of `dropped` that the next event will report.
    untold: u64,
    /// When the connection last asked for bytes, or, if it had been waiting for the hub, was first seen to
    /// leave events.
    pub(super) polled_at: u64,
    /// What it has been waiting for since it last asked, if it waits for the hub.
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
    /// A page of history is being read.
    ForPage,
    /// What it lost is being counted.
    ForCount,
}

/// The effect of falling behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fall {
    /// This many wanted events are lost.
    Dropped(u64, Reason),
    /// The stream goes on from the history.
    ToHistory,
    /// From now on it gets only the newest event of each resource.
    Conflates,
    /// Nothing new.
    Nothing,
    /// The stream ends.
    Lost,
    /// The stream ends, because its filter cannot be evaluated.
    Failed,
    /// The stream ends, for the table was altered.
    Over,
}

impl Position {
    pub(super) fn new(at: At, revision: Revision, now: u64) -> Self {
        Self {
            state: State::Following(at),
            revision,
            delivered: 0,
            dropped: 0,
            untold: 0,
            polled_at: now,
            wait: Wait::No,
        }
    }

    /// What it needs next.
    pub(super) fn next(&self) -> Next {
        match &self.state {
            State::Following(at) | State::Conflating { at, .. } => match at {
                At::Window(ordinal) => Next::Events(*ordinal),
                At::History => Next::Page,
            },
            State::Counting { .. } => Next::Count,
            State::Lost => Next::Lost,
            State::Failed => Next::Failed,
            State::Over(_) => Next::Over,
        }
    }

    /// Why it is over, if it is.
    pub(super) fn over(&self) -> Option<&Ending> {
        match &self.state {
            State::Over(ending) => Some(ending),
            _ => None,
        }
    }

    /// The ordinal of the window before which it has passed all events; `None`: it is not in the window.
    pub(super) fn ordinal(&self) -> Option<u64> {
        match &self.state {
            State::Following(At::Window(ordinal))
            | State::Conflating { at: At::Window(ordinal), .. }
            | State::Counting { ordinal, .. } => Some(*ordinal),
            _ => None,
        }
    }

    /// Goes on from the window, where its next event has this ordinal.
    pub(super) fn enter_window(&mut self, ordinal: u64) {
        if let State::Following(at) | State::Conflating { at, .. } = &mut self.state {
            *at = At::Window(ordinal);
        }
    }

    /// Passes the rest of a segment, from the event at `index`, which is the next one. Returns nothing if
    /// nothing there is wanted.
    pub(super) fn take(
        &mut self,
        source: Source,
        (segment, index): (&Segment, usize),
        view: &View,
    ) -> Result<Option<Chunk>, Malformed> {
        if segment.schema_change().is_some() {
            return Ok(self.take_schema_change(segment, view));
        }
        if self.conflates() {
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

    /// As `take`, for a segment that tells of the table: the stream may end there.
    fn take_schema_change(&mut self, segment: &Segment, view: &View) -> Option<Chunk> {
        // What is conflated comes first.
        if let Some(chunk) = self.release(view.interest.rendition) {
            return Some(chunk);
        }
        if let Some(ending) = view.end_at(segment) {
            self.revision = self.revision.max(segment.last_revision().previous());
            self.state = State::Over(ending);
            return None;
        }
        let chunk = view.interest.schema.events.then(|| Chunk {
            frames: view.schema_change(segment, self.tell()).into(),
            events: 1,
            conflated: 0,
            sealed_at: segment.entries().first().map_or(0, |entry| entry.sealed_at),
        });
        self.pass(segment, segment.len(), u64::from(chunk.is_some()));
        if let State::Conflating { newest, .. } = &mut self.state {
            **newest = Conflation::new(self.revision);
        }
        chunk
    }

    /// As `take`, for a stream whose bytes are not the log's: some events left out, or additions to them. A
    /// plain stream with a drop to report gets one event this way, and slices of the log from then on.
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

    /// As `take`, for a stream that is behind with policy LATEST: what is wanted is kept until the head is
    /// reached, or a portion is full.
    fn conflate(
        &mut self,
        source: Source,
        (segment, index): (&Segment, usize),
        view: &View,
    ) -> Result<Option<Chunk>, Malformed> {
        let verdicts = view.judge(source, segment, index..segment.len())?;
        let mut is_full = false;
        if let State::Conflating { newest, .. } = &mut self.state {
            for (at, entry) in segment.entries().iter().enumerate().skip(index) {
                if let Some(verdict) = view.seen(segment, at, &verdicts) {
                    let mut frame = Vec::new();
                    view.write(&mut frame, (segment, at), verdict, 0)?;
                    newest.absorb(segment.resource_id(at), entry.revision, entry.sealed_at, frame);
                }
            }
            is_full = newest.is_full();
        }
        self.pass(segment, segment.len(), 0);
        Ok(if is_full { self.release(view.interest.rendition) } else { None })
    }

    /// What was conflated so far.
    fn release(&mut self, rendition: Rendition) -> Option<Chunk> {
        let State::Conflating { newest, .. } = &mut self.state else { return None };
        let released = mem::replace(&mut **newest, Conflation::new(self.revision));
        let chunk = released.into_chunk(rendition)?;
        self.delivered += chunk.events;
        Some(chunk)
    }

    /// The head is reached: what was conflated is due, and the stream is not behind any more.
    pub(super) fn reach_head(&mut self, rendition: Rendition) -> Option<Chunk> {
        let chunk = self.release(rendition);
        if let State::Conflating { at, .. } = self.state {
            self.state = State::Following(at);
        }
        chunk
    }

    /// Everything wanted up to here was delivered or dropped.
    pub(super) fn complete_up_to(&self) -> Revision {
        match &self.state {
            State::Conflating { newest, .. } => newest.since,
            _ => self.revision,
        }
    }

    /// Whether the stream conflates.
    pub(super) fn conflates(&self) -> bool {
        matches!(self.state, State::Conflating { .. })
    }

    /// How many were dropped since the last report: to be reported now.
    pub(super) fn tell(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// Notes that events wait. A stream that waited for the hub could take nothing before: it may count as
    /// blocked only from now on.
    pub(super) fn notice_events(&mut self, now: u64) {
        let is_counted = !matches!(self.state, State::Counting { .. });
        if self.wait == Wait::ForEvents || (self.wait == Wait::ForCount && is_counted) {
            self.wait = Wait::No;
            self.polled_at = now;
        }
    }

    /// How many events the head is ahead; a stream that reads history is not counted.
    pub(super) fn lag(&self, next: u64) -> Option<u64> {
        self.ordinal().map(|ordinal| next.saturating_sub(ordinal))
    }

    /// Does as the policy says to a live stream that is further behind than it may be, or that stands before
    /// `floor`, which the window is about to leave. Looks at no event: what filters have to judge is counted
    /// later, and nobody waits for that but the stream.
    pub(super) fn fall_behind(&mut self, log: &Log, floor: u64, view: &View, reason: Reason) -> Fall {
        let Some(ordinal) = self.ordinal() else { return Fall::Nothing };
        match view.interest.policy {
            Policy::CatchUp => {
                self.leave_window(log, ordinal);
                Fall::ToHistory
            }
            Policy::Latest => {
                let at = At::Window(ordinal);
                let news = if self.conflates() { Fall::Nothing } else { Fall::Conflates };
                if news == Fall::Conflates {
                    let newest = Box::new(Conflation::new(self.revision));
                    self.state = State::Conflating { at, newest };
                }
                if ordinal < floor {
                    self.leave_window(log, ordinal);
                }
                news
            }
            Policy::Disconnect => self.give_up(),
            Policy::Drop => self.skip(log, (ordinal, floor), view, reason),
        }
    }

    /// Passes events without a look, up to half a buffer before the head.
    fn skip(&mut self, log: &Log, (ordinal, floor): (u64, u64), view: &View, reason: Reason) -> Fall {
        // At least one event stays ahead, so that something follows that tells.
        let target = log.next().saturating_sub((view.interest.buffer / 2).max(1)).max(floor).max(ordinal);
        let of_table = log.of_table(&(ordinal..target));
        if let Some(ending) = of_table.iter().find_map(|told| view.end_if_lost(told)) {
            self.state = State::Over(ending);
            return Fall::Over;
        }
        let mut upto = self.revision;
        if let Some(log::Place::In(segment, index)) = target.checked_sub(1).map(|last| log.locate(last))
            && let Some(entry) = segment.entries().get(index)
        {
            upto = upto.max(entry.revision);
        }
        let skipped = Passed { ordinals: ordinal..target, upto, reason };
        if view.is_whole() {
            self.state = State::Following(At::Window(target));
            let unseen = if view.interest.schema.events { 0 } else { of_table.len() as u64 };
            return self.lose(&skipped, target - ordinal - unseen);
        }
        let mut passed = match mem::replace(&mut self.state, State::Lost) {
            State::Counting { passed, .. } => passed,
            _ => VecDeque::new(),
        };
        passed.push_back(skipped);
        self.state = State::Counting { ordinal: target, passed };
        Fall::Nothing
    }

    /// What was passed first of all that is not counted yet.
    pub(super) fn uncounted(&self) -> Option<&Passed> {
        match &self.state {
            State::Counting { passed, .. } => passed.front(),
            _ => None,
        }
    }

    /// Notes how many of the events passed were wanted.
    pub(super) fn count(&mut self, passed: &Passed, missed: Result<u64, Malformed>) -> Fall {
        // The stream may have been given up meanwhile.
        let State::Counting { ordinal, passed: rest } = &mut self.state else { return Fall::Nothing };
        if rest.pop_front_if(|first| first == passed).is_none() {
            return Fall::Nothing;
        }
        let Ok(missed) = missed else {
            self.state = State::Failed;
            return Fall::Failed;
        };
        if rest.is_empty() {
            self.state = State::Following(At::Window(*ordinal));
        }
        self.lose(passed, missed)
    }

    fn lose(&mut self, passed: &Passed, missed: u64) -> Fall {
        self.revision = self.revision.max(passed.upto);
        self.dropped += missed;
        self.untold += missed;
        Fall::Dropped(missed, passed.reason)
    }

    /// Ends the stream where it was before it passed what is not counted.
    pub(super) fn give_up(&mut self) -> Fall {
        self.state = State::Lost;
        Fall::Lost
    }

    fn leave_window(&mut self, log: &Log, ordinal: u64) {
        // Nothing of this kind lies between here and the next event: the history need not reach further back.
        if let log::Place::In(segment, index) = log.locate(ordinal)
            && let Some(entry) = segment.entries().get(index)
        {
            self.revision = self.revision.max(entry.revision.previous());
        }
        match &mut self.state {
            State::Conflating { at, .. } => *at = At::History,
            state => *state = State::Following(At::History),
        }
    }

    fn pass(&mut self, segment: &Segment, end: usize, delivered: u64) {
        if let State::Following(At::Window(ordinal)) | State::Conflating { at: At::Window(ordinal), .. } =
            &mut self.state
        {
            *ordinal = segment.first_ordinal + end as u64;
        }
        self.delivered += delivered;
        if let Some(entry) = end.checked_sub(1).and_then(|last| segment.entries().get(last)) {
            self.revision = entry.revision;
        }
    }
}
