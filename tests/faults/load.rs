//! Writers: some all the time at a modest rate, and bursts of short transactions that make a hub busy.

use crate::{
    support::{
        history::Transaction,
        writer::{Open, Verb, Writer, session},
    },
    world::World,
};
use fastrand::Rng;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

const WRITERS: usize = 4;
/// Between two transactions of one of them, at most.
const PAUSE: Duration = Duration::from_millis(300);
/// Rows that all of them update.
const SHARED: usize = 5;

const BURST: usize = 8;
/// After this many transactions it is in progress.
const GOING: usize = 60;
const BURST_PAUSE: Duration = Duration::from_millis(2);

pub fn shared_ids() -> Vec<String> {
    (0..SHARED).map(|number| format!("shared-{number}")).collect()
}

/// Writers at work.
pub struct Load {
    enough: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Transaction>>,
}

impl Load {
    pub fn start(world: &World, random: &mut Rng) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let url = if number % 2 == 0 { world.url() } else { world.writers_url() };
            let mut random = random.fork();
            let mut writer = Writer::new(&format!("w{number}"), &url, &shared_ids(), random.fork());
            let enough = enough.clone();
            tasks.spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    writer.write().await;
                    sleep(PAUSE.mul_f32(random.f32())).await;
                }
                std::mem::take(&mut writer.journal)
            });
        }
        Self { enough, tasks }
    }

    /// What they know.
    pub async fn stop(self) -> Vec<Transaction> {
        self.enough.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// Some sessions that commit one row after the other, until told that it is enough.
pub struct Burst {
    enough: Arc<AtomicBool>,
    committed: watch::Receiver<usize>,
    tasks: JoinSet<Vec<Transaction>>,
}

impl Burst {
    pub fn start(world: &World) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let enough = Arc::new(AtomicBool::new(false));
        let (counter, committed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for number in 0..BURST {
            let url = if number % 2 == 0 { world.url() } else { world.writers_url() };
            let name = format!("burst-{}", NEXT.fetch_add(1, Ordering::Relaxed));
            tasks.spawn(commit_rows(url, name, enough.clone(), counter.clone()));
        }
        Self { enough, committed, tasks }
    }

    /// Waits until it is under way.
    pub async fn until_going(&self) {
        let mut committed = self.committed.clone();
        committed.wait_for(|&committed| committed >= GOING).await.expect("writers that write");
    }

    pub async fn stop(self) -> Vec<Transaction> {
        self.enough.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn commit_rows(
    url: String,
    name: String,
    enough: Arc<AtomicBool>,
    committed: watch::Sender<usize>,
) -> Vec<Transaction> {
    let mut journal = Vec::new();
    let mut names = (0..).map(|number| format!("{name}-{number}"));
    while !enough.load(Ordering::Relaxed) {
        let Ok(client) = session(&url).await else {
            sleep(PAUSE / 10).await;
            continue;
        };
        while !enough.load(Ordering::Relaxed) {
            let Some(id) = names.next() else { return journal };
            let Ok(mut open) = Open::begin(&client, id.clone()).await else { break };
            if open.run(Verb::Insert, std::slice::from_ref(&id)).await.is_err() {
                // Nothing was committed, nor will be.
                break;
            }
            journal.push(open.commit().await);
            committed.send_modify(|committed| *committed += 1);
            sleep(BURST_PAUSE).await;
        }
    }
    journal
}
