//! A broker without a database: what is published is all there is.

use anyhow::Context;
use std::{collections::HashMap, sync::Arc};
use trex::{
    broker::{
        Compacted, Era, EventBroker, Fetch, History, Interest, Limits, Page, Policy, SchemaInterest, Topic,
    },
    catalog::Catalog,
    faces::Registry,
    log::{Batch, Parts},
    model::{Epoch, KindId, Revision, Selector},
    telemetry::Metrics,
    wire::Rendition,
};

/// The one kind.
pub const KIND: &str = "Dinosaur";

/// No stream of a bench falls this far behind.
struct NoHistory;

impl History for NoHistory {
    fn cached(&self, _: &KindId, _: Revision, _: Revision) -> Option<Arc<Page>> {
        None
    }

    fn fetch(&self, _: &KindId, after: Revision, _: Revision, _: Parts) -> Fetch {
        Box::pin(std::future::ready(Err(Compacted { oldest: after.next() })))
    }

    fn oldest(&self) -> Revision {
        Revision::ZERO
    }
}

/// A broker in its only era, at revision 0.
pub struct Broker {
    /// As a hub has it.
    pub broker: Arc<EventBroker>,
    era: Arc<Era>,
    /// The kind's topic.
    pub topic: Arc<Topic>,
}

impl Broker {
    /// An empty one.
    pub fn new() -> anyhow::Result<Self> {
        Self::at(Revision::ZERO, &Arc::new(Metrics::new([KIND])?))
    }

    /// An empty one whose head is this.
    pub fn at(head: Revision, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let broker = Arc::new(EventBroker::new(
            Catalog::new(Registry::of_this_program().kinds()),
            Limits::default(),
            metrics.clone(),
        ));
        let history: Arc<dyn History> = Arc::new(NoHistory);
        let era = broker.begin(Epoch::new("bench"), head, &history);
        let topic = era.topic(KIND).context("the topic")?;
        Ok(Self { broker, era, topic })
    }

    /// Publishes events up to a revision.
    pub fn publish(&self, batch: Batch, head: u64) {
        self.broker.publish(
            &self.era,
            &[KIND.into()],
            HashMap::from([(KIND.into(), batch)]),
            Revision::new(head),
        );
    }
}

/// What a watch with this selector asks for.
pub fn interest(selector: Selector, include_previous: bool) -> Interest {
    Interest {
        selector,
        filter: None,
        sight: trex::model::filter::Sight::Whole,
        rendition: Rendition::Grpc,
        composer: None,
        schema: SchemaInterest::NONE,
        include_previous,
        buffer: 8192,
        policy: Policy::Drop,
    }
}
