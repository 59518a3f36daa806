//! `hub.v1.AdminService`: what the hub is doing, for its operator.

use super::{answer, tables};
use crate::{
    broker::{self, Policy, SubscriptionStatus},
    error::Error,
    feed,
    model::{ChangeType, TypeSet},
    proto::{
        hub::v1::{
            self as pb, SubscriptionState,
            admin_service_server::{AdminService, AdminServiceServer},
        },
        rh_trex::v1::{BackpressurePolicy, EventType},
    },
    service::operate::{DoorbellStatus, HubStatus, Introspection, KindStatus, SubscriptionQuery},
    store::{AttachChoice, ControllerStatus, DatabaseStatus, OpenTransaction},
};
use std::time::Duration;
use tonic::{Request, Response, Status, codec::CompressionEncoding};

const DEFAULT_PAGE: usize = 100;
const LARGEST_PAGE: usize = 10_000;

/// The service.
pub(super) struct Admin(Introspection);

impl Admin {
    pub(super) fn service(introspection: Introspection) -> AdminServiceServer<Self> {
        // Lists of subscriptions may be long.
        AdminServiceServer::new(Self(introspection)).send_compressed(CompressionEncoding::Gzip)
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        answer(request, async |call, _| Ok(hub_status(self.0.status(&call).await?))).await
    }

    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> Result<Response<pb::ListSubscriptionsResponse>, Status> {
        answer(request, async |call, request| {
            let (found, total) = self.0.subscriptions(&call, &query(request)?).await?;
            Ok(pb::ListSubscriptionsResponse {
                subscriptions: found.iter().map(subscription).collect(),
                total_size: total as u64,
            })
        })
        .await
    }

    async fn attach_table(
        &self,
        request: Request<pb::AttachTableRequest>,
    ) -> Result<Response<pb::AttachTableResponse>, Status> {
        answer(request, async |call, request| {
            let pb::AttachTableRequest { table, columns, exclude, never_store } = request;
            let choice = AttachChoice { columns, exclude, never_store };
            let attached = self.0.attach(&call, &table, &choice).await?;
            Ok(pb::AttachTableResponse { table: Some(tables::table(&attached)) })
        })
        .await
    }

    async fn detach_table(
        &self,
        request: Request<pb::DetachTableRequest>,
    ) -> Result<Response<pb::DetachTableResponse>, Status> {
        answer(request, async |call, request| {
            self.0.detach(&call, &request.table, request.purge).await?;
            Ok(pb::DetachTableResponse {})
        })
        .await
    }

    async fn list_tables(
        &self,
        request: Request<pb::ListTablesRequest>,
    ) -> Result<Response<pb::ListTablesResponse>, Status> {
        answer(request, async |call, _| {
            let attached = self.0.tables(&call).await?;
            Ok(pb::ListTablesResponse { tables: attached.iter().map(|table| tables::table(table)).collect() })
        })
        .await
    }
}

fn query(request: pb::ListSubscriptionsRequest) -> Result<SubscriptionQuery, Error> {
    let limit = match request.page_size as usize {
        0 => DEFAULT_PAGE,
        asked if asked > LARGEST_PAGE => {
            return Err(Error::invalid("page_size", format!("must be at most {LARGEST_PAGE}")));
        }
        asked => asked,
    };
    let state = |&number: &i32| match SubscriptionState::try_from(number) {
        Ok(SubscriptionState::Initial) => Ok(broker::SubscriptionState::Initial),
        Ok(SubscriptionState::History) => Ok(broker::SubscriptionState::History),
        Ok(SubscriptionState::Live) => Ok(broker::SubscriptionState::Live),
        Ok(SubscriptionState::Blocked) => Ok(broker::SubscriptionState::Blocked),
        Ok(SubscriptionState::Ending) => Ok(broker::SubscriptionState::Ending),
        Ok(SubscriptionState::Unspecified) | Err(_) => {
            Err(Error::invalid("states", format!("{number} is no state")))
        }
    };
    Ok(SubscriptionQuery {
        kind: (!request.kind.is_empty()).then_some(request.kind),
        states: request.states.iter().map(state).collect::<Result<_, _>>()?,
        min_lag_events: request.min_lag_events,
        limit,
    })
}

fn subscription(open: &SubscriptionStatus) -> pb::Subscription {
    let (interest, call) = (open.interest(), open.call().cloned().unwrap_or_default());
    pb::Subscription {
        id: call.operation().to_owned(),
        peer: call.peer().map(|peer| peer.to_string()).unwrap_or_default(),
        principal: call.actor().unwrap_or_default().to_owned(),
        kind: open.kind.to_string(),
        types: interest.selector.types().map(types).unwrap_or_default(),
        resource_ids: interest
            .selector
            .resource_ids()
            .map_or(0, |ids| u32::try_from(ids).unwrap_or(u32::MAX)),
        filter: interest.filter.as_ref().map(|filter| filter.text().to_owned()).unwrap_or_default(),
        include_previous: interest.include_previous,
        backpressure: policy(interest.policy).into(),
        buffer: interest.buffer,
        state: subscription_state(open.state).into(),
        revision: open.revision.get(),
        lag_events: open.lag_events,
        lag: open.lag.and_then(duration),
        sent: open.sent,
        dropped: open.dropped,
        age: duration(open.age),
        blocked_for: open.blocked_for.and_then(duration),
    }
}

/// `None` only if protobuf's duration cannot represent it.
fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn types(wanted: TypeSet) -> Vec<i32> {
    let named = [
        (ChangeType::Created, EventType::Created),
        (ChangeType::Updated, EventType::Updated),
        (ChangeType::Deleted, EventType::Deleted),
    ];
    named.iter().filter(|(change, _)| wanted.contains(*change)).map(|(_, name)| (*name).into()).collect()
}

fn policy(policy: Policy) -> BackpressurePolicy {
    match policy {
        Policy::Drop => BackpressurePolicy::Drop,
        Policy::CatchUp => BackpressurePolicy::CatchUp,
        Policy::Disconnect => BackpressurePolicy::Disconnect,
        Policy::Latest => BackpressurePolicy::Latest,
    }
}

fn subscription_state(state: broker::SubscriptionState) -> SubscriptionState {
    match state {
        broker::SubscriptionState::Initial => SubscriptionState::Initial,
        broker::SubscriptionState::History => SubscriptionState::History,
        broker::SubscriptionState::Live => SubscriptionState::Live,
        broker::SubscriptionState::Blocked => SubscriptionState::Blocked,
        broker::SubscriptionState::Ending => SubscriptionState::Ending,
    }
}

fn doorbell_state(state: feed::DoorbellState) -> pb::DoorbellState {
    match state {
        feed::DoorbellState::Away => pb::DoorbellState::Away,
        feed::DoorbellState::Armed => pb::DoorbellState::Armed,
        feed::DoorbellState::Settling => pb::DoorbellState::Settling,
        feed::DoorbellState::Busy => pb::DoorbellState::Busy,
        feed::DoorbellState::Polling => pb::DoorbellState::Polling,
        feed::DoorbellState::Deaf => pb::DoorbellState::Deaf,
    }
}

fn hub_status(status: HubStatus) -> pb::GetStatusResponse {
    let DoorbellStatus { state, rings, skips, seals, sealed_events } = status.doorbell;
    let state = doorbell_state(state).into();
    let doorbell = pb::DoorbellStatus { state, rings, skips, seals, sealed_events };
    pb::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: duration(status.uptime),
        ready: status.reasons.is_empty(),
        reasons: status.reasons,
        epoch: status.epoch.map(|epoch| epoch.as_str().to_owned()).unwrap_or_default(),
        head_revision: status.head.get(),
        oldest_revision: status.oldest.get(),
        doorbell: Some(doorbell),
        kinds: status.kinds.iter().map(kind).collect(),
        database: status.database.map(database),
    }
}

fn kind(status: &KindStatus) -> pb::KindStatus {
    pb::KindStatus {
        kind: status.kind.to_string(),
        subscriptions: status.subscriptions,
        head_revision: status.head.get(),
        window_events: status.window_events,
        window_bytes: status.window_bytes,
    }
}

fn database((status, controllers): (DatabaseStatus, Vec<ControllerStatus>)) -> pb::DatabaseStatus {
    let transaction = |open: OpenTransaction| pb::OpenTransaction {
        pid: open.pid.unwrap_or_default(),
        age: open.age.and_then(duration),
        state: open.state.unwrap_or_default(),
        application_name: open.application_name.unwrap_or_default(),
        user: open.user.unwrap_or_default(),
    };
    pb::DatabaseStatus {
        sealed_revision: status.sealed.get(),
        compacted_revision: status.compacted.get(),
        listening_hubs: status.listening_hubs,
        open_writers: status.open_writers,
        oldest_writer: status.oldest_writer.map(transaction),
        controllers: controllers.into_iter().map(controller).collect(),
    }
}

fn controller(status: ControllerStatus) -> pb::ControllerStatus {
    pb::ControllerStatus {
        name: status.name,
        revision: status.position.get(),
        lag_events: status.lag,
        dead_letters: status.dead_letters,
        holder: status.holder.unwrap_or_default(),
        moved_at: Some(status.moved_at.into()),
    }
}
