//! Commits batches, and knows what is decided.

use super::{Acknowledgement, Failures, RETRY_AFTER, Shared, not_the_callers};
use crate::{
    call::Call,
    error::Error,
    store::{Batch, BulkTable, Failure, Import, NotWritten, Written},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A batch that loses to another transaction is tried this many times in all, each after a random pause up to
/// [`LONGEST_PAUSE`].
const ATTEMPTS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Writes the batches of one stream, in order.
pub(super) struct Writer {
    shared: Arc<Shared>,
    table: BulkTable,
    call: Call,
    import: Option<Import>,
    next_index: u64,
    created: u64,
    failed: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, call: Call, table: BulkTable, import: Option<Import>) -> Self {
        let (next_index, created, failed) =
            import.map_or((0, 0, 0), |import| (import.next_index, import.created, import.failed));
        Self { shared, call, table, import, next_index, created, failed }
    }

    /// Every item below is decided.
    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// What is decided by now, with the failures since the last time.
    pub(super) fn acknowledgement(&self, failures: Failures) -> Acknowledgement {
        let Self { next_index, created, failed, .. } = *self;
        Acknowledgement { next_index, created, failed, failures }
    }

    /// An error that ends the stream, with what is decided by now.
    pub(super) fn interrupted(&self, cause: Error, uncertain: u64) -> Error {
        let Self { next_index, created, failed, .. } = *self;
        Error::Interrupted { cause: Box::new(cause), next_index, created, failed, uncertain }
    }

    /// Commits a batch: in one transaction, unless the database refuses some of its rows, on writing or at
    /// the commit, or they take too long together. Then it is halved until they are found, and each part is
    /// its own transaction.
    pub(super) async fn commit(&mut self, batch: Batch) -> Result<Acknowledgement, Error> {
        let mut failures = Failures::default();
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.write(&part).await {
                Ok(written) => self.decided(part, &written, &mut failures),
                // No row of it can be at fault.
                Err(NotWritten::Refused(error)) if part.rows.is_empty() => {
                    return Err(self.interrupted(error, 0));
                }
                Err(NotWritten::TooSlow) if part.rows.len() > 1 => {
                    let (first, second) = halved(part);
                    parts.extend([second, first]);
                }
                Err(NotWritten::TooSlow) => {
                    return Err(self.interrupted(not_the_callers(Error::DeadlineExceeded), 0));
                }
                Err(NotWritten::Refused(error)) => match halves(part, &error) {
                    (first, Some(second)) => parts.extend([second, first]),
                    (known, None) => parts.push(known),
                },
                Err(NotWritten::TakenOver) => return Err(self.interrupted(Error::ImportTakenOver, 0)),
                Err(NotWritten::Conflict | NotWritten::NoArbiter) => {
                    let why = "the batch lost to other transactions again and again";
                    let cause = Error::Unavailable { why, retry_after: RETRY_AFTER };
                    return Err(self.interrupted(cause, 0));
                }
                Err(NotWritten::Failed { error, uncertain }) => {
                    let uncertain = if uncertain { part.end - part.start } else { 0 };
                    return Err(self.interrupted(not_the_callers(error), uncertain));
                }
            }
        }
        Ok(self.acknowledgement(failures))
    }

    /// Writes in one transaction. A single row that was left out is tried again: another transaction may have
    /// brought its key meanwhile.
    async fn write(&mut self, batch: &Batch) -> Result<Written, NotWritten> {
        if batch.rows.is_empty() && self.import.is_none() {
            return Ok(Written { created: 0, taken: Vec::new() });
        }
        let mut again = batch.rows.len() == 1;
        for _ in 1..ATTEMPTS {
            match self.attempt(batch).await {
                Err(NotWritten::Conflict) => {}
                Err(NotWritten::NoArbiter) => {
                    self.table.arbiter = false;
                    continue;
                }
                Err(NotWritten::Refused(Error::LeftOut)) if std::mem::take(&mut again) => continue,
                result => return result,
            }
            // Transactions that conflicted must not meet again.
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64())).await;
        }
        self.attempt(batch).await
    }

    async fn attempt(&self, batch: &Batch) -> Result<Written, NotWritten> {
        // Never closed.
        let _permit = self.shared.transactions.acquire().await.ok();
        let started = Instant::now();
        let Self { shared, call, table, import, .. } = self;
        let result = shared.store.write_batch(call, table, import.as_ref(), batch, &self.taken(0)).await;
        self.shared.metrics.batch(batch.rows.len(), started.elapsed());
        result
    }

    fn taken(&self, index: u64) -> Failure {
        failure(index, &Error::AlreadyExists { kind: self.table.table.kind.clone() })
    }

    /// Notes that a part was committed.
    fn decided(&mut self, part: Batch, written: &Written, failures: &mut Failures) {
        let mut failed = part.failures;
        failed.extend(written.taken.iter().map(|&index| self.taken(index)));
        failed.sort_unstable_by_key(|failure| failure.index);
        self.next_index = part.end;
        self.created += written.created;
        self.failed += failed.len() as u64;
        self.shared.metrics.created(written.created);
        for failure in failed {
            self.shared.metrics.failed(&failure.reason);
            failures.push(failure);
        }
    }
}

/// An item's failure, with its message cut to a bounded length.
pub(super) fn failure(index: u64, error: &Error) -> Failure {
    const LONGEST_MESSAGE: usize = 300;
    let mut message = error.to_string();
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    let row = error.row();
    Failure { index, code: row.code.number(), reason: row.reason.into(), message }
}

/// A refused batch in two parts, or, if it has one row only, the batch with that row failed.
fn halves(mut batch: Batch, error: &Error) -> (Batch, Option<Batch>) {
    if let [(index, _)] = &*batch.rows {
        batch.failures.push(failure(*index, error));
        batch.failures.sort_unstable_by_key(|failure| failure.index);
        batch.rows.clear();
        return (batch, None);
    }
    let (first, second) = halved(batch);
    (first, Some(second))
}

/// A batch of several rows in two parts.
fn halved(mut batch: Batch) -> (Batch, Batch) {
    let rows = batch.rows.split_off(batch.rows.len() / 2);
    let start = rows.first().map_or(batch.end, |(index, _)| *index);
    let first_failure = batch.failures.partition_point(|failure| failure.index < start);
    let failures = batch.failures.split_off(first_failure);
    let second = Batch { start, end: batch.end, rows, failures };
    batch.end = start;
    (batch, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewRow;

    fn row(index: u64) -> (u64, NewRow) {
        (index, NewRow { key: None, values: Vec::new() })
    }

    #[test]
    fn a_refused_batch_is_halved_until_the_row_is_alone() {
        let error =
            Error::Refused { sqlstate: "23514".into(), constraint: None, message: "no dragons".into() };
        let failures = vec![failure(11, &error), failure(13, &error)];
        let batch = Batch { start: 10, end: 15, rows: [10, 12, 14].map(row).into(), failures };
        let (first, second) = halves(batch, &error);
        let second = second.unwrap();
        assert_eq!((first.start, first.end, second.start, second.end), (10, 12, 12, 15));
        assert_eq!((first.rows.len(), first.failures[0].index), (1, 11));
        assert_eq!((second.rows.len(), second.failures[0].index), (2, 13));
        let (alone, none) = halves(first, &error);
        assert!(none.is_none() && alone.rows.is_empty());
        assert_eq!(alone.failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), [10, 11]);
    }

    #[test]
    fn messages_are_cut_at_a_character() {
        let error = Error::Undecodable("é".repeat(1000));
        assert!((297..=300).contains(&failure(0, &error).message.len()));
    }
}
