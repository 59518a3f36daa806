//! The contract of a watch under faults: real processes are killed and stopped, connections cut, delayed and
//! blackholed, a disk filled, while writers write and watchers resume. Over all, every guarantee is put to
//! the test of its validator.
//!
//! `TREX_FAULTS`: how many faults; `TREX_SEED`: where the seeds begin. A run prints both for itself: with
//! them it can be made again.
#![allow(missing_docs, unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::expect_used, reason = "clippy knows tests by their attribute, and these are called by such")]

mod clocks;
mod disk;
mod faults;
mod frozen;
mod imports;
mod lister;
mod load;
mod process;
mod program;
mod proxy;
mod suite;
mod survivor;
mod trail;
mod wal;
mod watcher;
mod world;

#[path = "../integration/support"]
#[allow(dead_code, reason = "the integration tests use all of it")]
mod support {
    pub mod history;
    pub mod recorder;
    pub mod validators;
    mod waiting;
    pub mod writer;

    pub use waiting::PATIENCE;
}

use fastrand::Rng;
use faults::Fault;
use suite::{Report, run, run_these, say};
use tokio::sync::Mutex;
use world::World;

/// A run has the machine for itself: it measures delays.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_costs_a_watcher_an_event() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (faults, mut seed) = (number("TREX_FAULTS", 45), number("TREX_SEED", 1) as u64);
    let mut report = Report::default();
    let mut left = faults;
    while left > 0 {
        let count = left.min(Fault::ALL.len());
        run(seed, count, &mut report).await;
        (left, seed) = (left - count, seed + 1);
    }
    say(&report.to_string());
}

/// Found by seed 100: a list that was interrupted ended with INTERNAL, which tells a client that asking again
/// is no use.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_database_interrupts_may_be_asked_for_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let faults = [Fault::KillPostgres, Fault::KillBackendOfHub, Fault::EndSessionsOfHub];
    let mut report = Report::default();
    run_these(World::start("lists").await, faults.into(), Rng::with_seed(100), &mut report).await;
    say(&report.to_string());
}
