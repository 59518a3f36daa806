//! `hub.v1.AuditService`.

use super::{Grpc, Hub, answer, call_of, status};
use crate::{
    call::Call,
    controller::AuditTrail,
    error::Error,
    model::{AttributedChange, ChangeType, Epoch, Revision},
    proto::hub::v1::{
        self as pb,
        audit_service_server::{AuditService, AuditServiceServer},
    },
    store::{AuditFilter, AuditPlace, AuditRecord},
};
use futures_util::stream;
use prost_types::Timestamp;
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

/// Records per page, if the request does not say, and at most.
const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;
/// A field that records are chosen by is at most so long, in bytes.
const LONGEST_FIELD: usize = 1024;
/// Records that a stream reads at a time.
const CHUNK: u32 = 200;
/// And revisions that it looks through at a time: few records may be wanted.
const STRETCH: u64 = 20_000;
/// Streams at a time.
const STREAMS: usize = 256;
/// While the log has more than the trail, a stream looks again so soon,
const SOON: Duration = Duration::from_millis(50);
/// and ever later, up to this, while the trail does not grow: it may be that nobody keeps it any more.
const LATE: Duration = Duration::from_secs(1);
/// One that has everything looks so often whether the hub stops,
const STOPPED: Duration = Duration::from_millis(500);
/// and so often, in times of that, whether the trail has something that the log does not tell: a gap.
const LOOK: u32 = 10;

/// Adds the service.
pub(crate) fn serve(hub: &Hub, grpc: &mut Grpc) {
    let service = Service { hub: hub.clone(), streams: Arc::new(Semaphore::new(STREAMS)) };
    grpc.add(AuditServiceServer::new(service));
}

struct Service {
    hub: Hub,
    streams: Arc<Semaphore>,
}

impl Service {
    async fn complete(&self) -> Result<AuditPlace, Error> {
        let complete = self.hub.store.audited(AuditTrail::NAME).await?;
        complete.ok_or(Error::Unimplemented { what: "an audit trail, which a hub keeps with --audit," })
    }

    /// A revision that the database has given. What comes after one that it has not may begin below it.
    async fn known(&self, asked: Revision) -> Result<Revision, Error> {
        let head = self.hub.store.head().await?;
        if asked > head { Err(Error::RevisionUnknown { asked, head }) } else { Ok(asked) }
    }
}

impl Service {
    async fn list(
        &self,
        request: pb::ListAuditRecordsRequest,
    ) -> Result<pb::ListAuditRecordsResponse, Error> {
        let digest = digest(&request);
        let filter = AuditFilter {
            from: request.start_time.map(|at| time("start_time", at)).transpose()?,
            until: request.end_time.map(|at| time("end_time", at)).transpose()?,
            ..filter(request.kind, request.resource_id, request.actor)?
        };
        let size = match u32::try_from(request.page_size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= LARGEST_PAGE => size,
            _ => {
                return Err(Error::invalid("page_size", format!("must be from 0 to {LARGEST_PAGE}")));
            }
        };
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(read_token(token, &digest)?),
        };
        // Before the page is read: what is complete by then is in it.
        let complete = self.complete().await?;
        let mut records = self.hub.store.audit_list(&filter, before.as_ref(), size + 1).await?;
        let more = records.len() > size as usize;
        records.truncate(size as usize);
        let last = records.last().filter(|_| more);
        let next_page_token = last.map(|last| write_token(&last.place(), &digest)).unwrap_or_default();
        Ok(pb::ListAuditRecordsResponse {
            records: records.into_iter().map(message).collect(),
            next_page_token,
            complete_revision: complete.revision.get(),
        })
    }

    async fn watch(
        &self,
        call: &Call,
        request: pb::WatchAuditRecordsRequest,
    ) -> Result<Response<Records>, Error> {
        let filter = filter(request.kind, request.resource_id, request.actor)?;
        let permit = self.streams.clone().try_acquire_owned();
        let permit = permit
            .map_err(|_| Error::TooMany { what: "the hub has as many audit streams as it may hold" })?;
        let complete = self.complete().await?;
        let from = match request.after_revision.map(Revision::new) {
            None => complete.revision,
            Some(asked) => self.known(asked).await?,
        };
        let follow = Follow {
            hub: self.hub.clone(),
            filter,
            place: after(from),
            epoch: complete.epoch,
            read: VecDeque::new(),
            pace: Pace::default(),
            _permit: permit,
        };
        let records = stream::try_unfold((follow, call.clone()), |(mut follow, call)| async move {
            let record = follow.next().await.map_err(|error| status(&error, &call))?;
            Ok(Some((pb::WatchAuditRecordsResponse { record: Some(message(record)) }, (follow, call))))
        });
        let mut response = Response::new(Box::pin(records) as Records);
        response.metadata_mut().insert("hub-revision", from.get().into());
        Ok(response)
    }
}

/// The stream of a watch.
type Records =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::WatchAuditRecordsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AuditService for Service {
    async fn list_audit_records(
        &self,
        request: Request<pb::ListAuditRecordsRequest>,
    ) -> Result<Response<pb::ListAuditRecordsResponse>, Status> {
        answer(request, async |_, request| self.list(request).await).await
    }

    type WatchAuditRecordsStream = Records;

    async fn watch_audit_records(
        &self,
        request: Request<pb::WatchAuditRecordsRequest>,
    ) -> Result<Response<Self::WatchAuditRecordsStream>, Status> {
        let call = call_of(&request);
        self.watch(&call, request.into_inner()).await.map_err(|error| status(&error, &call))
    }
}

/// The place after every epoch's record at a revision.
fn after(revision: Revision) -> AuditPlace {
    AuditPlace { revision: revision.next(), epoch: Epoch::new("") }
}

/// A stream of records: it reads at its client's pace, and holds nothing between its reads.
struct Follow {
    hub: Hub,
    filter: AuditFilter,
    /// Of the last record that was read.
    place: AuditPlace,
    /// The history that the trail was of when it was last looked at.
    epoch: Epoch,
    read: VecDeque<AuditRecord>,
    pace: Pace,
    /// Kept for its end.
    _permit: OwnedSemaphorePermit,
}

impl Follow {
    async fn next(&mut self) -> Result<AuditRecord, Error> {
        loop {
            if let Some(record) = self.read.pop_front() {
                return Ok(record);
            }
            if self.hub.broker.draining().is_some() {
                return Err(Error::Unavailable {
                    why: "the hub is shutting down",
                    retry_after: Duration::from_secs(1),
                });
            }
            // Both before the read: what comes meanwhile is looked for again.
            let head = self.hub.era()?.newest();
            let Some(complete) = self.hub.store.audited(AuditTrail::NAME).await? else {
                self.wait(Revision::default(), head).await?;
                continue;
            };
            if let Some(gap) = self.gone_back(&complete).await? {
                self.place = after(gap.place().revision);
                return Ok(gap);
            }
            let complete = complete.revision;
            let upto = complete.min(Revision::new(self.place.revision.get().saturating_add(STRETCH)));
            let read = self.hub.store.audit_after(&self.filter, &self.place, upto, CHUNK).await?;
            self.read = read.into();
            match self.read.back() {
                Some(last) => self.place = last.place(),
                // Records that nobody here wants are read once. A gap may come yet at the same revision.
                None if upto > self.place.revision => {
                    self.place = AuditPlace { revision: upto, epoch: Epoch::new("") };
                }
                None => self.wait(complete, head).await?,
            }
        }
    }

    /// After a new epoch the trail may go on from before this place. Then the stream does, too, with the gap that tells of it.
    async fn gone_back(&mut self, complete: &AuditPlace) -> Result<Option<AuditRecord>, Error> {
        if complete.epoch == self.epoch {
            return Ok(None);
        }
        let gap = self.hub.store.audit_gap(&complete.epoch).await?;
        self.epoch = complete.epoch.clone();
        Ok(gap.filter(|gap| gap.place() != self.place && gap.place().revision <= self.place.revision))
    }

    /// Until there may be more. Another hub may keep the trail, so it is looked at; soon, while it lacks what the log has.
    async fn wait(&mut self, complete: Revision, head: Revision) -> Result<(), Error> {
        if complete < head {
            tokio::time::sleep(self.pace.pause(complete)).await;
            return Ok(());
        }
        self.pace = Pace::default();
        let era = self.hub.era()?;
        for _ in 0..LOOK {
            if tokio::time::timeout(STOPPED, era.passes(head)).await.is_ok() {
                tokio::time::sleep(SOON).await;
                break;
            }
            if self.hub.broker.draining().is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// How long a stream waits for a trail that lacks what the log has.
#[derive(Debug, Default)]
struct Pace {
    /// Up to where the trail was complete, and how long was waited then.
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

fn filter(kind: String, resource_id: String, actor: String) -> Result<AuditFilter, Error> {
    let field = |name, value: String| match value {
        value if value.len() > LONGEST_FIELD || value.contains('\0') => {
            Err(Error::invalid(name, format!("must have at most {LONGEST_FIELD} bytes and no NUL")))
        }
        value => Ok((!value.is_empty()).then_some(value)),
    };
    Ok(AuditFilter {
        kind: field("kind", kind)?,
        resource_id: field("resource_id", resource_id)?,
        actor: field("actor", actor)?,
        ..AuditFilter::default()
    })
}

/// Years that Postgres and people know; what is outside has no records anyway.
fn time(field: &'static str, at: Timestamp) -> Result<SystemTime, Error> {
    let years = 0..=253_402_300_799;
    let known = (years.contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos)).then_some(at);
    known
        .and_then(|at| SystemTime::try_from(at).ok())
        .ok_or_else(|| Error::invalid(field, "must be a time from 1970 to 9999"))
}

/// Names what a page token was given for: with another request it would leave records out.
fn digest(request: &pb::ListAuditRecordsRequest) -> String {
    let asked = pb::ListAuditRecordsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let digest = Sha256::digest(prost::Message::encode_to_vec(&asked));
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

fn message(record: AuditRecord) -> pb::AuditRecord {
    match record {
        AuditRecord::Change(change) => changed(change),
        AuditRecord::Gap { epoch, revision, found_at } => pb::AuditRecord {
            revision: revision.get(),
            epoch: epoch.to_string(),
            r#type: pb::AuditRecordType::Gap.into(),
            occurred_at: Some(found_at.into()),
            ..Default::default()
        },
    }
}

fn changed(change: AttributedChange) -> pb::AuditRecord {
    let kind = match change.change {
        ChangeType::Created => pb::AuditRecordType::Created,
        ChangeType::Updated => pb::AuditRecordType::Updated,
        ChangeType::Deleted => pb::AuditRecordType::Deleted,
        ChangeType::Snapshot => pb::AuditRecordType::Unspecified,
    };
    pb::AuditRecord {
        revision: change.revision.get(),
        epoch: change.epoch.to_string(),
        r#type: kind.into(),
        kind: change.kind,
        resource_id: change.resource_id,
        actor: change.actor.unwrap_or_default(),
        origin: change.origin.unwrap_or_default(),
        trace: change.trace.unwrap_or_default(),
        occurred_at: change.captured_at.map(Into::into),
        before_json: change.before.unwrap_or_default(),
        after_json: change.after.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_request() {
        let request = pb::ListAuditRecordsRequest { kind: "Dinosaur".into(), ..Default::default() };
        let other = pb::ListAuditRecordsRequest { actor: "a".into(), ..request.clone() };
        let longer = pb::ListAuditRecordsRequest { page_size: 7, ..request.clone() };
        let place = AuditPlace { revision: Revision::new(7), epoch: Epoch::new("e1") };
        let token = write_token(&place, &digest(&request));
        assert_eq!(read_token(&token, &digest(&longer)).unwrap(), place);
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

    #[test]
    fn times_are_bounded() {
        let time = |seconds, nanos| time("start_time", Timestamp { seconds, nanos });
        assert!(time(0, 0).is_ok() && time(253_402_300_799, 999_999_999).is_ok());
        assert!(time(-1, 0).is_err() && time(i64::MAX, 0).is_err() && time(0, -1).is_err());
    }
}
