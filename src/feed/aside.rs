//! Reads a large transaction aside, so that it holds up only the kinds that it touches.
//!
//! The tailer reads all kinds in the order of their revisions. A transaction of a million rows takes it
//! seconds, and whatever other kinds did after it would wait. So its kinds leave the tailer's way at such a
//! transaction and get a reader of their own, which goes on in *legs*, each up to where the tailer stood when
//! it began. When a leg ends close behind the tailer, the tailer waits for the rest and takes the kinds back.
//! Each kind is published by one reader at any time, in the order of its revisions.

use super::Pipeline;
use crate::{
    broker::Era,
    model::{KindName, Revision},
    store::{LogPosition, PageBound, SealError, Span},
};
use parking_lot::Mutex;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// A transaction of this many events is large: reading it takes about 0.1 s.
const LARGE: u64 = 10_000;
/// A transaction of this many events is too large to ask for its kinds: that might take longer than a
/// statement may. The tailer reads it itself.
const HUGE: u64 = 20_000_000;
/// A leg that ends this close behind the tailer, in events, is the last.
const NEAR: u64 = 2_000;

/// Whether a transaction is worth a reader of its own.
pub(super) fn is_large(transaction: Span) -> bool {
    (LARGE..HUGE).contains(&transaction.events())
}

/// The readers at work.
pub(super) struct Asides {
    pipeline: Pipeline,
    asides: Vec<Aside>,
}

struct Aside {
    kinds: Vec<KindName>,
    /// Up to here these kinds are published.
    position: Arc<Mutex<LogPosition>>,
    /// `None`: it has ended, and its result is about to be handled.
    leg: Option<Leg>,
}

/// A task that reads up to a revision.
type Leg = AbortOnDropHandle<Result<(), SealError>>;

/// A leg that has ended.
pub(super) struct Ended {
    index: usize,
    outcome: Result<Result<(), SealError>, JoinError>,
}

impl Asides {
    pub(super) fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, asides: Vec::new() }
    }

    /// The kinds that the tailer publishes itself.
    pub(super) fn others(&self, era: &Era) -> Vec<KindName> {
        let is_aside = |kind: &KindName| self.asides.iter().any(|aside| aside.kinds.contains(kind));
        era.kinds().names().filter(|kind| !is_aside(kind)).cloned().collect()
    }

    /// The oldest revision that one of them stands at.
    pub(super) fn oldest(&self) -> Option<Revision> {
        self.asides.iter().map(|aside| aside.position.lock().revision).min()
    }

    /// Begins to read these kinds aside, from a position up to a revision.
    pub(super) fn add(&mut self, era: &Arc<Era>, kinds: Vec<KindName>, from: LogPosition, upto: Revision) {
        tracing::debug!(?kinds, from = %from.revision, %upto, "reading aside");
        self.asides.push(Aside { kinds, position: Arc::new(Mutex::new(from)), leg: None });
        self.set_out(self.asides.len() - 1, era, upto);
    }

    /// Forgets kinds that were removed, while all are halted.
    pub(super) fn forget(&mut self, gone: &[KindName]) {
        self.asides.iter_mut().for_each(|aside| aside.kinds.retain(|kind| !gone.contains(kind)));
        self.asides.retain(|aside| !aside.kinds.is_empty());
    }

    /// Forgets them all: the history that they read has ended.
    pub(super) fn clear(&mut self) {
        self.asides.clear();
    }

    /// Stops all of them. When it returns, each stands where its events end.
    pub(super) async fn halt(&mut self) {
        for aside in &mut self.asides {
            if let Some(leg) = aside.leg.take() {
                leg.abort();
                // It was cut off, or had ended; either is fine.
                let _ = leg.await;
            }
        }
    }

    /// Goes on after a halt.
    pub(super) fn resume(&mut self, era: &Arc<Era>, upto: Revision) {
        (0..self.asides.len()).for_each(|index| self.set_out(index, era, upto));
    }

    /// Waits for a leg to end; for ever if there is none. Cancel safe.
    pub(super) async fn ended(&mut self) -> Ended {
        poll_fn(|cx| {
            for (index, aside) in self.asides.iter_mut().enumerate() {
                if let Some(leg) = &mut aside.leg
                    && let Poll::Ready(outcome) = Pin::new(leg).poll(cx)
                {
                    aside.leg = None;
                    return Poll::Ready(Ended { index, outcome });
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Goes on where a leg has ended, or gives its kinds back to the tailer, which stands at `head` and does
    /// not move meanwhile.
    pub(super) async fn go_on(
        &mut self,
        Ended { index, outcome }: Ended,
        era: &Arc<Era>,
        head: Revision,
    ) -> Result<(), SealError> {
        returned(outcome)?;
        let Some(aside) = self.asides.get(index) else { return Ok(()) };
        let behind = head.get().saturating_sub(aside.position.lock().revision.get());
        self.set_out(index, era, head);
        if behind <= NEAR
            && let Some(last) = self.asides.get_mut(index).and_then(|aside| aside.leg.take())
        {
            returned(last.await)?;
            self.asides.swap_remove(index);
        }
        Ok(())
    }

    fn set_out(&mut self, index: usize, era: &Arc<Era>, upto: Revision) {
        let Some(aside) = self.asides.get_mut(index) else { return };
        let (pipeline, era) = (self.pipeline.clone(), era.clone());
        let (kinds, position) = (aside.kinds.clone(), aside.position.clone());
        let leg = async move { read(&pipeline, &era, &kinds, &position, upto).await };
        aside.leg = Some(AbortOnDropHandle::new(tokio::spawn(leg)));
    }
}

fn returned(outcome: Result<Result<(), SealError>, JoinError>) -> Result<(), SealError> {
    outcome.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is shutting down, and the tailer with it.
        Err(_) => Err(SealError::Silent),
    })
}

async fn read(
    pipeline: &Pipeline,
    era: &Era,
    kinds: &[KindName],
    position: &Mutex<LogPosition>,
    upto: Revision,
) -> Result<(), SealError> {
    loop {
        let mut at = *position.lock();
        if at.revision >= upto {
            return Ok(());
        }
        // Not beyond the tailer, which would publish the same again when it takes the kinds back.
        let rows = pipeline.feed.replay().page(&mut at, &era.epoch, upto, PageBound::HUB, None).await?;
        // No await between the two: after a cancellation the position is where the events end.
        pipeline.publish(era, kinds, &rows)?;
        *position.lock() = at;
        tokio::task::yield_now().await;
    }
}
