//! HTTP for everybody without a gRPC stack: curl, browsers, proxies, and the clients of the upstream service.

mod body;
mod conditional;
mod face;
mod gate;
mod gzip;
mod problem;
mod query;
mod routes;
mod sse;
mod stream;
mod tables;
mod upstream;
mod watch;
mod web;

pub use body::{HttpBody, json, json_text, with_status};
pub use face::HttpFace;
pub use gate::Gate;
pub use problem::Problem;
pub use query::{Query, wrong};
pub use routes::{Answered, Exchange, Route};

use crate::{faces::grpc::GrpcFace, service::UseCases, telemetry::Metrics};
use routes::Routes;
use std::sync::Arc;

/// The routes of a listener.
#[derive(Default)]
pub struct Http {
    routes: Vec<Route>,
}

impl Http {
    /// Adds a route.
    pub fn add(&mut self, route: Route) {
        self.routes.push(route);
    }

    /// Adds the routes that every hub has, whatever it watches.
    pub fn serve(&mut self, cases: &UseCases) {
        let all = [upstream::routes().into(), tables::routes(cases), stream::routes(cases)];
        all.into_iter().flatten().for_each(|route| self.add(route));
    }

    /// Closes the list. The services of `grpc` are served as gRPC-Web. Bodies of requests may have this many
    /// bytes.
    ///
    /// # Errors
    ///
    /// Two routes claim the same paths.
    pub fn finish(
        self,
        gate: Gate,
        grpc: GrpcFace,
        max_body: usize,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<HttpFace> {
        let mut routes = Routes::default();
        for route in self.routes {
            routes.add(route)?;
        }
        Ok(HttpFace::new(routes, (gate, grpc), max_body, metrics))
    }
}
