//! A disk of the write-ahead log that is full: Postgres does not fail a statement then, it falls, and does
//! not rise before there is room.

use crate::{
    ONE_AT_A_TIME,
    disk::Disk,
    faults::Fault,
    process::Manner,
    suite::{Report, run_these, say},
    world::World,
};
use fastrand::Rng;
use std::{os::unix::fs::symlink, process::Command};
use trex::embedded::testing::EphemeralPostgres;

/// So that what Postgres keeps of its log by itself leaves room on the disk.
const SETTINGS: [(&str, &str); 3] =
    [("max_wal_size", "64MB"), ("min_wal_size", "32MB"), ("wal_keep_size", "0")];

/// A world whose write-ahead log lies on a disk that can be filled. `None`, said aloud: there can be none.
async fn world(name: &str) -> Option<World> {
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let cluster = EphemeralPostgres::start(settings.into()).await.expect("a cluster");
    let pgdata = cluster.data_dir().join("pgdata");
    let disk = Disk::mount(&pgdata)?;
    cluster.halt().await.expect("a stop");
    let (old, new) = (pgdata.join("pg_wal"), disk.path.join("pg_wal"));
    let moved = Command::new("mv").args([&old, &new]).status().expect("mv");
    assert!(moved.success(), "mv: {moved}");
    symlink(&new, &old).expect("a link");
    cluster.restart().await.expect("a restart");
    let mut world = World::start_on(cluster, name, [Manner::default(), Manner::default()]).await;
    world.wal = Some(disk);
    Some(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_log_costs_no_watcher_an_event() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(world) = world("wal").await else { return };
    let faults = [Fault::FillWal, Fault::FillWal, Fault::KillHub, Fault::FillWal];
    let mut report = Report::default();
    run_these(world, faults.into(), Rng::with_seed(1), &mut report).await;
    say(&report.to_string());
}
