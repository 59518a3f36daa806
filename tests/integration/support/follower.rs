//! The client of this crate, used as its users use it.

use super::{Database, PATIENCE, TestHub};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tonic::Code;
use trex::{
    client::{Access, Hub, Notice, Watch, WatchOptions, WatchStart},
    proto::rh_trex::v1::BackpressurePolicy,
};

/// What a follower knows.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// Species by id: the state, if it began with one, and what came after it.
    pub rows: BTreeMap<String, String>,
    /// Of every event, in order.
    pub revisions: Vec<u64>,
    /// Up to which it knows everything, since it was connected last.
    pub complete: u64,
    pub epoch: String,
    /// How often it was connected, and how often with the state.
    pub connected: u32,
    pub states: u32,
    pub disconnected: u32,
    /// Why it ended.
    pub ended: Option<Code>,
}

/// A [`Watch`] at work. It panics when anything is delivered twice, or out of order.
pub struct Follower {
    known: watch::Receiver<Followed>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Returns when it is connected.
    pub async fn start(hub: &TestHub, start: WatchStart) -> Self {
        let address = hub.app().addresses().grpc.clone().expect("gRPC is served");
        let backpressure = BackpressurePolicy::CatchUp;
        let options =
            WatchOptions { types: vec![], resource_ids: vec![], filter: String::new(), start, backpressure };
        let watch = Watch::new(Hub::new(&address, &Access::default()).expect("a URL"), options);
        let (sender, known) = watch::channel(Followed::default());
        let follower = Self { known, task: tokio::spawn(follow(watch, sender)) };
        follower.until("the first connection", |followed| followed.connected > 0).await;
        follower
    }

    /// What it knows now.
    pub fn now(&self) -> Followed {
        self.known.borrow().clone()
    }

    pub async fn until(&self, what: &str, condition: impl FnMut(&Followed) -> bool) {
        let mut known = self.known.clone();
        let found = timeout(*PATIENCE, known.wait_for(condition)).await.map(|found| found.is_ok());
        assert!(matches!(found, Ok(true)), "{what}: {found:?}, of {:?}", self.now());
    }

    /// Waits until it knows exactly what the table has.
    pub async fn until_exact(&self, database: &Database) {
        let session = database.connect().await;
        let rows = session.query("SELECT id, species FROM dinosaurs", &[]).await.expect("the table");
        let table: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        self.until("the table", |followed| followed.rows == table).await;
        // And stays so.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(self.now().rows, table);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut watch: Watch, known: watch::Sender<Followed>) {
    loop {
        match watch.next().await {
            Ok(notice) => known.send_modify(|known| note(known, notice)),
            Err(status) => {
                known.send_modify(|known| known.ended = Some(status.code()));
                return;
            }
        }
    }
}

fn note(known: &mut Followed, notice: Notice) {
    match notice {
        Notice::Connected { revision, epoch, state } => {
            known.connected += 1;
            if state {
                known.states += 1;
                known.rows.clear();
            } else if known.connected > 1 {
                assert_eq!(revision.get(), known.complete, "it goes on where it was");
                assert_eq!(epoch, known.epoch, "in another history");
            }
            known.complete = revision.get();
            known.epoch = epoch;
        }
        Notice::Event(event) => {
            let revision = event.revision;
            if revision > 0 {
                assert!(revision > known.complete, "{revision} came after {}", known.complete);
                known.revisions.push(revision);
                known.complete = revision;
            }
            match event.dinosaur {
                Some(dinosaur) => known.rows.insert(event.resource_id, dinosaur.species),
                None => known.rows.remove(&event.resource_id),
            };
        }
        Notice::Complete { revision, dropped } => {
            assert_eq!(dropped, 0, "with CATCH_UP nothing is dropped");
            assert!(revision.get() >= known.complete);
            known.complete = revision.get();
        }
        Notice::Disconnected { .. } => known.disconnected += 1,
    }
}
