//! The hub without its database: its log, broker, metrics, limits and server.

use super::{
    Feed,
    events::{BEGINNING, Events},
};
use crate::support::broker::{Broker, KIND};
use anyhow::Context;
use std::{sync::Arc, time::Duration};
use trex::{
    auth::PolicyCell,
    catalog::Catalog,
    faces::Registry,
    faces::grpc::Grpc,
    feed::{self, Feed as _, SealedFeed, reader::LogReader, snapshot::Snapshots},
    log::Batch,
    model::Revision,
    service::{
        Door, Means, UseCases,
        import::{self, Bulk},
    },
    store::{Store, Target},
    telemetry::Metrics,
    wire::Renderer,
};

/// As in the hub.
const SWEEP: Duration = Duration::from_millis(250);
/// Nobody in this bench asks for what is in a database.
const NO_DATABASE: &str = "postgresql://nobody@127.0.0.1:1/nothing";

/// Serves the program's kinds.
pub(super) fn serve(grpc: &mut Grpc, metrics: &Arc<Metrics>) -> anyhow::Result<Box<dyn Feed>> {
    let registry = Registry::of_this_program();
    let target = Target::parse(NO_DATABASE)?;
    let broker = Broker::at(Revision::new(BEGINNING), metrics)?;
    let store = Store::new(&target, 1)?;
    let capture = feed::Settings::default();
    let feed = Arc::new(SealedFeed::new(target, capture, metrics.clone(), Default::default()));
    let catalog = Catalog::new(registry.kinds());
    let door = Door::new(PolicyCell::default(), catalog.clone());
    let means = Means {
        bulk: Bulk::new(store.clone(), 1, import::Limits::default(), metrics),
        store,
        broker: broker.broker.clone(),
        snapshots: Snapshots::new(feed.clone(), catalog.clone(), u64::MAX),
        reader: LogReader::new(feed.replay().clone()),
        catalog,
        metrics: metrics.clone(),
        keeps_audit: false,
    };
    let cases = UseCases::new(means, door);
    registry.serve(&cases, grpc);
    let sweeping = broker.broker.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            sweeping.sweep();
        }
    });
    let events = Events::new()?;
    Ok(Box::new(LogFeed { broker, renderer: events.renderer(), events }))
}

struct LogFeed {
    broker: Broker,
    /// One for all: what it writes grows together.
    renderer: Arc<dyn Renderer>,
    events: Events,
}

impl Feed for LogFeed {
    fn append(&mut self, events: u64) -> anyhow::Result<()> {
        let mut batch = Batch::new(KIND.into(), self.renderer.clone());
        let sealed_at = self.broker.broker.clock().now();
        let mut head = None;
        for _ in 0..events {
            let change = self.events.next_change();
            batch.push(&change, sealed_at);
            head = Some(change.revision.get());
        }
        self.broker.publish(batch, head.context("no events")?);
        Ok(())
    }
}
