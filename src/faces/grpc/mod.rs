//! gRPC: what a kind needs to serve its own service, and the body of a watch.

mod admin;
mod audit;
mod bulk;
mod events;
mod face;
mod keys;
mod methods;
mod services;
mod status;
mod tables;
mod watch;
mod web;

pub use bulk::{acknowledgements, checked_import_id, failed_items, import_id, items};
pub use face::{GrpcBody, GrpcFace};
pub use keys::api_key;
pub use services::Bounded;
pub use status::{status, unreadable};
pub(crate) use watch::watch_request;
pub use watch::{WatchBody, answer_watch, bookmark_interval, change_types, policy};
pub use web::{WebBody, is_web};

use crate::{
    call::Call,
    error::Error,
    health::Health,
    proto,
    service::{UseCases, keys::Keys, operate::Introspection},
    telemetry::Metrics,
};
use std::{convert::Infallible, marker::PhantomData, pin::Pin, sync::Arc, task::Poll};
use tonic::{Request, Response, Status, body::Body, server::NamedService, service::RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service;

/// The call that a request belongs to.
pub fn call_of<T>(request: &Request<T>) -> Call {
    request.extensions().get().cloned().unwrap_or_default()
}

/// Answers a request with what `work` makes of its message, or with the status of its error.
pub async fn answer<T, R, F>(
    request: Request<T>,
    work: impl FnOnce(Call, T) -> F,
) -> Result<Response<R>, Status>
where
    F: Future<Output = Result<R, Error>>,
{
    respond(request, async |call, request| work(call, request).await.map(Response::new)).await
}

/// The same where `work` makes the whole response, its headers too.
pub async fn respond<T, R, F>(
    request: Request<T>,
    work: impl FnOnce(Call, T) -> F,
) -> Result<Response<R>, Status>
where
    F: Future<Output = Result<Response<R>, Error>>,
{
    let call = call_of(&request);
    work(call.clone(), request.into_inner()).await.map_err(|error| status(&error, &call))
}

/// The type of a stream whose messages travel as ready-made bytes beside it ([`WatchBody`]): it yields
/// nothing itself.
pub struct EventStream<T>(PhantomData<fn() -> T>);

impl<T> Default for EventStream<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> tokio_stream::Stream for EventStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

/// The services of a hub.
pub struct Grpc {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    max_message_bytes: usize,
}

impl Grpc {
    /// No services yet; each will take messages of at most this many bytes.
    pub fn new(max_message_bytes: usize) -> Self {
        Self { routes: RoutesBuilder::default(), names: Vec::new(), max_message_bytes }
    }

    /// Adds a service.
    pub fn add<S>(&mut self, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Bounded
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service.bounded(self.max_message_bytes));
    }

    /// Adds the services that every hub has, whatever it watches.
    pub fn serve(&mut self, cases: &UseCases) {
        self.add(events::Events::service(cases));
        self.add(audit::Audit::service(cases));
        self.add(tables::Tables::watches(cases));
        self.add(tables::Tables::rows(cases));
    }

    /// Adds the operator's services.
    pub fn serve_admin(&mut self, introspection: Introspection, keys: Keys) {
        self.add(admin::Admin::service(introspection));
        self.add(keys::ApiKeys::service(keys));
    }

    /// Adds health and reflection, and closes the list. Health is what [`Health`] says, and follows it while
    /// the returned future runs.
    pub async fn finish(
        mut self,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(GrpcFace, impl Future<Output = ()> + Send + use<>)> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        // Before anybody asks: tonic reports SERVING until it is told otherwise.
        tell(&reporter, &self.names, &health).await;
        self.routes.add_service(health_service);
        let descriptors = [
            proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            // So that clients can show the details of an error.
            tonic_types::pb::FILE_DESCRIPTOR_SET,
        ];
        let names = self.names;
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure().include_reflection_service(false);
            // Lists what is served here, and not what another listener serves.
            let builder = names
                .iter()
                .chain(&INFRASTRUCTURE)
                .fold(builder, |builder, name| builder.with_service_name(*name));
            descriptors
                .into_iter()
                .fold(builder, |builder, set| builder.register_encoded_file_descriptor_set(set))
        };
        self.routes.add_service(reflection().build_v1()?);
        self.routes.add_service(reflection().build_v1alpha()?);
        let face = GrpcFace::new(self.routes.routes(), metrics)?;
        Ok((face, report(reporter, names, health)))
    }
}

/// The services that every listener has.
const INFRASTRUCTURE: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Keeps the health of every service, and of the server as a whole, equal to that of the hub.
async fn report(reporter: HealthReporter, names: Vec<&'static str>, health: Arc<Health>) {
    let mut notices = health.notices();
    loop {
        tell(&reporter, &names, &health).await;
        // Overflow skips what is no longer true; a closed channel means that the hub is gone.
        if let Err(async_broadcast::RecvError::Closed) = notices.recv().await {
            return;
        }
    }
}

/// Says how every service is, and the server as a whole, which has the empty name.
async fn tell(reporter: &HealthReporter, names: &[&'static str], health: &Health) {
    let ready = health.reasons().is_empty();
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names.iter().chain(&[""]) {
        reporter.set_service_status(*name, status).await;
    }
}
