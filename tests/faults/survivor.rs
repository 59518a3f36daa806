//! A hub that dies, freezes or is out of reach, whatever it held, delays what the other hub delivers by less
//! than a second.

use crate::{
    ONE_AT_A_TIME,
    load::Burst,
    process::Frozen,
    proxy::Flow,
    suite::say,
    support::PATIENCE,
    support::writer::session,
    world::{Hub, World},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Endpoint};
use trex::proto::rh_trex::v1::{WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient};

const LIMIT: Duration = Duration::from_secs(1);
/// Longer than what is done about a hub that is frozen takes, so that all of it is seen.
const SPELL: Duration = Duration::from_millis(2500);
/// Between two transactions that are measured.
const PACE: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(1);
/// A round trip of the hub that is to be caught between two statements.
const SLOW: Flow = Flow::Delayed(Duration::from_millis(50));

const SEAL: i32 = 1;
const BUSY: i32 = 2;

#[derive(Debug, Clone, Copy)]
enum Ordeal {
    Killed,
    Stopped,
    OutOfReach,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_hub_that_is_gone_delays_the_other_by_less_than_a_second() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::start("survivor-of-busy").await;
    for ordeal in [Ordeal::Killed, Ordeal::Stopped, Ordeal::OutOfReach].repeat(2) {
        let longest = while_busy_is_gone(&world, ordeal).await;
        say(&format!("a busy hub is {ordeal:?}: the other delivers within {longest:?}"));
        assert!(longest < LIMIT, "{ordeal:?}: {longest:?}");
    }
    world.stop().await;
}

async fn while_busy_is_gone(world: &World, ordeal: Ordeal) -> Duration {
    loop {
        let streams = [Stream::open(&world.hubs[0]).await, Stream::open(&world.hubs[1]).await];
        let burst = Burst::start(world);
        let victim = timeout(*PATIENCE, holder(world, BUSY, false)).await.expect("a busy hub");
        let frozen = match ordeal {
            Ordeal::Killed => {
                victim.take().await.kill().await;
                None
            }
            Ordeal::Stopped => Some(Frozen::new(vec![victim.pid().await])),
            Ordeal::OutOfReach => {
                victim.database.set(Flow::Blackhole, Flow::Blackhole);
                None
            }
        };
        let held = world.holder(BUSY, false).await.is_some_and(|holder| holder.name == victim.name);
        burst.stop().await;
        let longest = Stream::of_the_other(streams, world, victim).probe(world).await;
        drop(frozen);
        victim.database.clear();
        if matches!(ordeal, Ordeal::Killed) {
            victim.start().await;
        }
        // It may just have let it go.
        if held || matches!(ordeal, Ordeal::Killed) {
            return longest;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_gone_in_the_middle_of_a_snapshot_delays_the_other_by_less_than_a_second() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let world = World::start("survivor-of-a-snapshot").await;
    let victim = &world.hubs[0];
    let streams = [Stream::open(victim).await, Stream::open(&world.hubs[1]).await];
    victim.database.set(SLOW, SLOW);
    let listing = tokio::spawn(list(victim.plain.address.to_string()));
    let holder = timeout(*PATIENCE, holder(&world, SEAL, true)).await.expect("a snapshot");
    victim.database.set(Flow::Blackhole, Flow::Blackhole);
    let frozen = Frozen::new(vec![victim.pid().await]);
    assert_eq!(holder.name, victim.name);
    let longest = Stream::of_the_other(streams, &world, victim).probe(&world).await;
    drop(frozen);
    victim.database.clear();
    // Found by seed 4001: it was told INTERNAL, as if asking again were no use.
    let refused = timeout(*PATIENCE, listing).await.expect("an answer").expect("no panic");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    say(&format!("a hub that takes a snapshot is out of reach: the other delivers within {longest:?}"));
    assert!(longest < LIMIT, "{longest:?}");
    world.stop().await;
}

async fn holder(world: &World, lock: i32, idle: bool) -> &Hub {
    loop {
        if let Some(hub) = world.holder(lock, idle).await {
            return hub;
        }
        sleep(LOOK).await;
    }
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("a URL")
}

/// Lists until it is refused, and returns how.
async fn list(address: String) -> Status {
    let channel = endpoint(&address).connect().await.expect("a connection");
    let mut client = DinosaurServiceClient::new(channel);
    loop {
        let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
        if let Err(status) = client.watch_dinosaurs(request).await {
            return status;
        }
    }
}

type Arrivals = HashMap<String, Instant>;

/// A watch of a hub: when each row came.
struct Stream {
    arrivals: watch::Receiver<Arrivals>,
    task: JoinHandle<()>,
}

impl Stream {
    async fn open(hub: &Hub) -> Self {
        let endpoint = endpoint(&hub.plain.address.to_string());
        // The hub may be starting.
        let opened = timeout(*PATIENCE, async {
            loop {
                if let Ok(channel) = endpoint.connect().await
                    && let Ok(response) = DinosaurServiceClient::new(channel)
                        .watch_dinosaurs(WatchDinosaursRequest::default())
                        .await
                {
                    return response.into_inner();
                }
                sleep(PACE).await;
            }
        });
        let mut messages = opened.await.expect("a hub");
        let (sender, arrivals) = watch::channel(Arrivals::new());
        let task = tokio::spawn(async move {
            while let Ok(Some(event)) = messages.message().await {
                sender.send_modify(|arrivals| {
                    arrivals.insert(event.resource_id, Instant::now());
                });
            }
        });
        Self { arrivals, task }
    }

    fn of_the_other(streams: [Self; 2], world: &World, victim: &Hub) -> Self {
        let [of_a, of_b] = streams;
        if world.hubs[0].name == victim.name { of_b } else { of_a }
    }

    /// Commits rows one by one for a while, and returns the longest time from a commit's acknowledgement to
    /// the row's arrival.
    async fn probe(mut self, world: &World) -> Duration {
        let client = session(&world.url()).await.expect("a session");
        let (began, mut committed) = (Instant::now(), Arrivals::new());
        let insert = "INSERT INTO dinosaurs (id, species) VALUES (gen_random_uuid(), 'probe') RETURNING id";
        while began.elapsed() < SPELL {
            let row = client.query_one(insert, &[]).await.expect("a row");
            committed.insert(row.get(0), Instant::now());
            sleep(PACE).await;
        }
        let all = self.arrivals.wait_for(|arrivals| committed.keys().all(|id| arrivals.contains_key(id)));
        let arrivals = timeout(*PATIENCE, all).await.expect("all probes").expect("a stream that goes on");
        let delays =
            committed.iter().map(|(id, &committed)| arrivals[id].saturating_duration_since(committed));
        delays.max().expect("a probe")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
