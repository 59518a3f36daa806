//! The audit trail: who changed what, in pages and as a stream.

use super::{Action, Inner, Means, UseCases, ended};
use crate::{
    backoff::Backoff,
    call::Call,
    controller::AuditTrail,
    error::Error,
    model::{Epoch, KindName, Revision},
    store::{AuditFilter, AuditPlace, AuditRecord},
};
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Records per page, if the request does not say, and at most.
const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;
/// A field that records are chosen by has at most this many bytes.
const LONGEST_FIELD: usize = 1024;
/// Records that a stream reads at a time.
const CHUNK: u32 = 200;
/// And revisions that it scans at a time: few records may be wanted.
const STRETCH: u64 = 20_000;
/// Streams at a time.
const STREAMS: usize = 256;
/// While the log has more than the trail, a stream looks again this soon. The pauses grow up to [`LATE`]
/// while the trail does not: perhaps no hub keeps it any more.
const SOON: Duration = Duration::from_millis(50);
/// The longest of these pauses.
const LATE: Duration = Duration::from_secs(1);
/// A stream that has everything checks this often whether the hub stops.
const STOPPED: Duration = Duration::from_millis(500);
/// And, after this many of these checks, whether the trail has a gap, which the log does not show.
const LOOK: u32 = 10;

/// Which page of which records.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// The records.
    pub filter: AuditFilter,
    /// Records on a page; 0: the hub's default.
    pub page_size: u32,
    /// The token of the page before; empty: the first page.
    pub page_token: String,
}

/// A page of records, newest first.
#[derive(Debug)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecord>,
    /// For the next page; empty: this is the last.
    pub next_page_token: String,
    /// Up to here the trail is complete.
    pub complete: Revision,
}

/// Room for streams.
pub(super) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

impl UseCases {
    /// A page of the trail.
    pub async fn list_audit(&self, call: &Call, query: AuditQuery) -> Result<AuditPage, Error> {
        let kind = query.filter.kind.as_deref().map(KindName::new);
        let means = &self.enter_whole(call, Action::Audit, kind.as_ref())?.means;
        let AuditQuery { filter, page_size, page_token } = query;
        check(&filter)?;
        let digest = digest(&filter);
        let size = match page_size {
            0 => DEFAULT_PAGE,
            size if size <= LARGEST_PAGE => size,
            _ => return Err(Error::invalid("page_size", format!("must be from 0 to {LARGEST_PAGE}"))),
        };
        let before = match page_token.as_str() {
            "" => None,
            token => Some(read_token(token, &digest)?),
        };
        // Before the page is read: what is complete by then is in it.
        let complete = means.audited(call).await?;
        let mut records = means.store.audit_list(&filter, before.as_ref(), size + 1).await?;
        let more = records.len() > size as usize;
        records.truncate(size as usize);
        let last = records.last().filter(|_| more);
        let next_page_token = last.map(|last| write_token(&last.place(), &digest)).unwrap_or_default();
        Ok(AuditPage { records, next_page_token, complete: complete.revision })
    }

    /// Follows the trail, from where it is complete now or after a revision. Returns the revision after which
    /// it delivers, too.
    pub async fn follow_audit(
        &self,
        call: &Call,
        filter: AuditFilter,
        after_revision: Option<Revision>,
    ) -> Result<(Revision, AuditStream), Error> {
        let kind = filter.kind.as_deref().map(KindName::new);
        let inner = self.enter_whole(call, Action::Audit, kind.as_ref())?.clone();
        let means = &inner.means;
        check(&filter)?;
        let permit = inner.audit.0.clone().try_acquire_owned();
        let permit = permit
            .map_err(|_| Error::TooMany { what: "the hub has as many audit streams as it may hold" })?;
        let complete = means.audited(call).await?;
        let from = match after_revision {
            None => complete.revision,
            Some(asked) => means.known(asked).await?,
        };
        let stream = AuditStream {
            filter,
            place: after(from),
            epoch: complete.epoch,
            read: VecDeque::new(),
            pace: Pace::default(),
            _permit: permit,
            call: call.clone(),
            inner,
        };
        Ok((from, stream))
    }
}

impl Means {
    /// Up to where the trail is complete. A trail that this hub keeps but has not begun yet is waited for.
    async fn audited(&self, call: &Call) -> Result<AuditPlace, Error> {
        if let Some(complete) = self.store.audited(AuditTrail::NAME).await? {
            return Ok(complete);
        }
        if !self.keeps_audit {
            return Err(Error::Unimplemented { what: "an audit trail, which a hub keeps with --audit," });
        }
        let beginning = async {
            let mut backoff = Backoff::default();
            loop {
                tokio::time::sleep(backoff.next_pause()).await;
                if let Some(complete) = self.store.audited(AuditTrail::NAME).await? {
                    return Ok(complete);
                }
            }
        };
        self.soon(call, "the audit trail has not begun yet", beginning).await?
    }

    /// Checks that the database has given this revision: events may yet come below one that it has not.
    async fn known(&self, asked: Revision) -> Result<Revision, Error> {
        let head = self.store.head().await?;
        if asked > head { Err(Error::RevisionUnknown { asked, head }) } else { Ok(asked) }
    }
}

/// The place after every epoch's record at a revision.
fn after(revision: Revision) -> AuditPlace {
    AuditPlace { revision: revision.next(), epoch: Epoch::new("") }
}

/// A stream of records. It reads at its client's pace, and holds nothing between its reads.
pub struct AuditStream {
    inner: Arc<Inner>,
    call: Call,
    filter: AuditFilter,
    /// The place of the last record that was read.
    place: AuditPlace,
    /// The epoch of the trail at the last look.
    epoch: Epoch,
    read: VecDeque<AuditRecord>,
    pace: Pace,
    _permit: OwnedSemaphorePermit,
}

impl AuditStream {
    /// The next record, as soon as there is one. An error is the last that comes.
    pub async fn next(&mut self) -> Result<AuditRecord, Error> {
        loop {
            if let Some(record) = self.read.pop_front() {
                return Ok(record);
            }
            if let Some(ending) = self.inner.means.broker.draining() {
                return Err(ended(ending));
            }
            // Both before the read: what arrives meanwhile is read at the next look.
            let head = self.inner.means.era(&self.call).await?.newest();
            let Some(complete) = self.inner.means.store.audited(AuditTrail::NAME).await? else {
                self.wait(Revision::default(), head).await?;
                continue;
            };
            if let Some(gap) = self.gone_back(&complete).await? {
                self.place = after(gap.place().revision);
                return Ok(gap);
            }
            let complete = complete.revision;
            let upto = complete.min(Revision::new(self.place.revision.get().saturating_add(STRETCH)));
            let read = self.inner.means.store.audit_after(&self.filter, &self.place, upto, CHUNK).await?;
            self.read = read.into();
            match self.read.back() {
                Some(last) => self.place = last.place(),
                // Records that this stream does not want are read once. A gap may still come at the same
                // revision.
                None if upto > self.place.revision => {
                    self.place = AuditPlace { revision: upto, epoch: Epoch::new("") };
                }
                None => self.wait(complete, head).await?,
            }
        }
    }

    /// After a new epoch the trail may go on from before this place. Then the stream does, too, with the gap
    /// that says so.
    async fn gone_back(&mut self, complete: &AuditPlace) -> Result<Option<AuditRecord>, Error> {
        if complete.epoch == self.epoch {
            return Ok(None);
        }
        let gap = self.inner.means.store.audit_gap(&complete.epoch).await?;
        self.epoch = complete.epoch.clone();
        Ok(gap.filter(|gap| gap.place() != self.place && gap.place().revision <= self.place.revision))
    }

    /// Waits until there may be more. Another hub may keep the trail, so the stream polls it, quickly while
    /// it lacks what the log has.
    async fn wait(&mut self, complete: Revision, head: Revision) -> Result<(), Error> {
        if complete < head {
            tokio::time::sleep(self.pace.pause(complete)).await;
            return Ok(());
        }
        self.pace = Pace::default();
        let era = self.inner.means.era(&self.call).await?;
        for _ in 0..LOOK {
            if tokio::time::timeout(STOPPED, era.passes(head)).await.is_ok() {
                tokio::time::sleep(SOON).await;
                break;
            }
            if self.inner.means.broker.draining().is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// How long a stream waits for a trail that lacks what the log has.
#[derive(Debug, Default)]
struct Pace {
    /// Up to where the trail was complete, and how long the stream waited then.
    last: Option<(Revision, Duration)>,
}

impl Pace {
    fn pause(&mut self, complete: Revision) -> Duration {
        let pause = match self.last {
            Some((before, pause)) if before == complete => (pause * 2).min(LATE),
            _ => SOON,
        };
        self.last = Some((complete, pause));
        pause
    }
}

fn check(filter: &AuditFilter) -> Result<(), Error> {
    let AuditFilter { kind, resource_id, actor, .. } = filter;
    let fields = [("kind", kind), ("resource_id", resource_id), ("actor", actor)];
    let is_bad = |value: &String| value.len() > LONGEST_FIELD || value.contains('\0');
    match fields.into_iter().find(|(_, value)| value.as_ref().is_some_and(is_bad)) {
        Some((field, _)) => {
            Err(Error::invalid(field, format!("must have at most {LONGEST_FIELD} bytes and no NUL")))
        }
        None => Ok(()),
    }
}

/// Names the request that a page token belongs to: with another request it would skip records.
fn digest(filter: &AuditFilter) -> String {
    let AuditFilter { kind, resource_id, actor, from, until } = filter;
    let since = |at: &Option<SystemTime>| at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let asked = format!("{:?}", (kind, resource_id, actor, since(from), since(until)));
    let digest = Sha256::digest(asked);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn write_token(place: &AuditPlace, digest: &str) -> String {
    format!("{}.{digest}.{}", place.revision, place.epoch)
}

fn read_token(token: &str, digest: &str) -> Result<AuditPlace, Error> {
    let parse = || {
        let mut parts = token.splitn(3, '.');
        let (revision, of, epoch) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let epoch = Some(epoch).filter(|epoch| epoch.chars().all(|c| c.is_ascii_alphanumeric()))?;
        (of == digest).then(|| AuditPlace { revision: Revision::new(revision), epoch: Epoch::new(epoch) })
    };
    parse().ok_or_else(|| Error::invalid("page_token", "is not of a response to this request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_request() {
        let filter = AuditFilter { kind: Some("Dinosaur".into()), ..AuditFilter::default() };
        let other = AuditFilter { actor: Some("a".into()), ..filter.clone() };
        let place = AuditPlace { revision: Revision::new(7), epoch: Epoch::new("e1") };
        let token = write_token(&place, &digest(&filter));
        assert_eq!(read_token(&token, &digest(&filter)).unwrap(), place);
        assert!(read_token(&token, &digest(&other)).is_err());
        for bad in ["", "x", "7", "7.", "-1.aa.e", "18446744073709551616.aa.e", "7.aa.e'", "\u{0}"] {
            assert!(read_token(bad, "aa").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trail_that_does_not_grow_is_looked_at_ever_later() {
        let mut pace = Pace::default();
        let pauses = [1, 1, 1, 1, 1, 1, 1, 2, 2].map(|complete| pace.pause(Revision::new(complete)));
        assert_eq!(pauses.map(|pause| pause.as_millis()), [50, 100, 200, 400, 800, 1000, 1000, 50, 100]);
    }
}
