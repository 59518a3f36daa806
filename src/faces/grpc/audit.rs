//! `hub.v1.AuditService`.

use super::{answer, call_of, status};
use crate::{
    call::Call,
    error::Error,
    model::{AttributedChange, ChangeType, Revision},
    proto::hub::v1::{
        self as pb,
        audit_service_server::{AuditService, AuditServiceServer},
    },
    service::{AuditQuery, UseCases},
    store::{AuditFilter, AuditRecord},
};
use futures_util::stream;
use prost_types::Timestamp;
use std::{pin::Pin, time::SystemTime};
use tonic::{Request, Response, Status};

/// The service.
pub(super) struct Audit(UseCases);

/// The stream of a watch.
type Records =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::WatchAuditRecordsResponse, Status>> + Send>>;

impl Audit {
    pub(super) fn service(cases: &UseCases) -> AuditServiceServer<Self> {
        AuditServiceServer::new(Self(cases.clone()))
    }

    async fn watch(
        &self,
        call: &Call,
        request: pb::WatchAuditRecordsRequest,
    ) -> Result<Response<Records>, Error> {
        let filter = filter(request.kind, request.resource_id, request.actor);
        let (from, records) =
            self.0.follow_audit(call, filter, request.after_revision.map(Revision::new)).await?;
        let records = stream::try_unfold((records, call.clone()), |(mut records, call)| async move {
            let record = records.next().await.map_err(|error| status(&error, &call))?;
            Ok(Some((pb::WatchAuditRecordsResponse { record: Some(message(record)) }, (records, call))))
        });
        let mut response = Response::new(Box::pin(records) as Records);
        response.metadata_mut().insert("hub-revision", from.get().into());
        Ok(response)
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_records(
        &self,
        request: Request<pb::ListAuditRecordsRequest>,
    ) -> Result<Response<pb::ListAuditRecordsResponse>, Status> {
        answer(request, async |call, request| {
            let filter = AuditFilter {
                from: request.start_time.map(|at| time("start_time", at)).transpose()?,
                until: request.end_time.map(|at| time("end_time", at)).transpose()?,
                ..filter(request.kind, request.resource_id, request.actor)
            };
            // A negative size is as wrong as one that is too large.
            let page_size = u32::try_from(request.page_size).unwrap_or(u32::MAX);
            let query = AuditQuery { filter, page_size, page_token: request.page_token };
            let page = self.0.list_audit(&call, query).await?;
            Ok(pb::ListAuditRecordsResponse {
                records: page.records.into_iter().map(message).collect(),
                next_page_token: page.next_page_token,
                complete_revision: page.complete.get(),
            })
        })
        .await
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

fn filter(kind: String, resource_id: String, actor: String) -> AuditFilter {
    let field = |value: String| (!value.is_empty()).then_some(value);
    AuditFilter {
        kind: field(kind),
        resource_id: field(resource_id),
        actor: field(actor),
        ..AuditFilter::default()
    }
}

/// The years that are accepted; there are no records outside of them.
fn time(field: &'static str, at: Timestamp) -> Result<SystemTime, Error> {
    let years = 0..=253_402_300_799;
    let known = (years.contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos)).then_some(at);
    known
        .and_then(|at| SystemTime::try_from(at).ok())
        .ok_or_else(|| Error::invalid(field, "must be a time from 1970 to 9999"))
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
        // Of this table: what became of its rows stands in no record.
        ChangeType::Schema => pb::AuditRecordType::Gap,
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
    fn times_are_bounded() {
        let time = |seconds, nanos| time("start_time", Timestamp { seconds, nanos });
        assert!(time(0, 0).is_ok() && time(253_402_300_799, 999_999_999).is_ok());
        assert!(time(-1, 0).is_err() && time(i64::MAX, 0).is_err() && time(0, -1).is_err());
    }
}
