//! Clocks that are stepped under running programs, by libfaketime (Debian: `apt install libfaketime`). The
//! monotonic clock goes on, as it does when an administrator or NTP sets the time.

use crate::{
    ONE_AT_A_TIME,
    faults::Fault,
    frozen::{Stream, floor, told, write},
    process::Manner,
    suite::{Report, run_these, say},
    support::writer::session,
    world::World,
};
use fastrand::Rng;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::Code;
use trex::{
    embedded::testing::EphemeralPostgres,
    proto::rh_trex::v1::{BackpressurePolicy, WatchDinosaursRequest},
};

const FOLDERS: [&str; 4] =
    ["x86_64-linux-gnu/faketime", "aarch64-linux-gnu/faketime", "faketime", "x86_64-linux-gnu"];
/// How often a program reads its clock's offset again; after this a step has been seen.
const SEEN: Duration = Duration::from_millis(1200);

/// The clock of a program that was started with its environment.
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// `None`, said aloud: there is no libfaketime.
    fn new() -> Option<Self> {
        let files = FOLDERS.map(|folder| Path::new("/usr/lib").join(folder).join("libfaketime.so.1"));
        let Some(library) = files.into_iter().find(|file| file.exists()) else {
            say("SKIPPED: the steps of clocks, for there is no libfaketime");
            return None;
        };
        let folder = tempfile::tempdir().expect("a directory");
        // Postgres may run as somebody else.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("permissions");
        let clock = Self { library, folder };
        clock.set(0);
        Some(clock)
    }

    /// Sets the clock this many seconds before or after the true time. When it returns, programs have seen
    /// it.
    pub async fn step(&self, seconds: i64) {
        self.set(seconds);
        sleep(SEEN).await;
    }

    fn set(&self, seconds: i64) {
        let next = self.folder.path().join("next");
        fs::write(&next, format!("{seconds:+}\n")).expect("a file");
        // At once: it may be read at any time.
        fs::rename(next, self.offset()).expect("the same directory");
    }

    fn offset(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "0".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// A directory of the programs of Postgres, the server being one on this clock.
    fn postgres(&self) -> PathBuf {
        let found = EphemeralPostgres::start_blocking(Vec::new()).expect("a Postgres").bindir().to_owned();
        let variables = self.environment().iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
        for (program, variables) in [("postgres", variables), ("initdb", String::new())] {
            let (script, real) = (self.folder.path().join(program), found.join(program));
            let text = format!("#!/bin/sh\n{variables}exec '{}' \"$@\"\n", real.display());
            fs::write(&script, text).expect("a script");
            fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("permissions");
        }
        self.folder.path().to_owned()
    }
}

/// A world whose clocks can be stepped, of hub a, of hub b and of Postgres.
async fn world(name: &str) -> Option<World> {
    let clocks = [Clock::new()?, Clock::new()?, Clock::new()?];
    let [of_a, of_b, of_postgres] = &clocks;
    let cluster = EphemeralPostgres::start_from(of_postgres.postgres(), Vec::new()).await.expect("a cluster");
    let manners = [of_a, of_b].map(|clock| Manner { environment: clock.environment(), ..Manner::default() });
    let mut world = World::start_on(cluster, name, manners).await;
    world.clocks = Some(clocks);
    Some(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_of_a_clock_costs_a_watcher_an_event() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(world) = world("clocks").await else { return };
    let steps = [Fault::StepClockOfPostgres, Fault::StepClockOfHub];
    let faults = steps.into_iter().cycle().take(8).chain([Fault::KillHub, Fault::StepClockOfPostgres]);
    let mut report = Report::default();
    run_these(world, faults.collect(), Rng::with_seed(1), &mut report).await;
    say(&report.to_string());
}

/// Postgres decides by its clock what is too old to be kept. Who watches loses nothing; who resumes from
/// there is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_by_more_than_the_retention_trims_early_and_not_without_a_word() {
    const HOUR: i64 = 3600;
    /// More events than the memory of a hub holds, which is asked first.
    const MANY: u64 = 8000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(world) = world("clock-beyond-retention").await else { return };
    let Some([.., clock]) = &world.clocks else { return };
    let (client, hub) = (session(&world.url()).await.expect("a session"), &world.hubs[0]);
    // It reads only after the writes, and the window may have passed it by then.
    let request =
        WatchDinosaursRequest { backpressure: BackpressurePolicy::CatchUp.into(), ..Default::default() };
    let mut stream = Stream::open(hub, "live", request).await.expect("a watch");
    // Ahead: what was written before it is old. Right again: what was written meanwhile is not old, and kept.
    // Behind: what is written then is old as soon as the clock is right.
    for (round, (hours, trimmed)) in
        [(0, 0), (30, MANY), (0, MANY), (-30, MANY), (0, 4 * MANY)].into_iter().enumerate()
    {
        clock.step(hours * HOUR).await;
        while floor(&client).await < trimmed {
            sleep(SEEN).await;
        }
        write(&client, MANY).await;
        let head = MANY * (round as u64 + 1);
        stream.until(head).await;
        let oldest = floor(&client).await;
        assert_eq!(oldest, trimmed, "{hours} hours");
        let after = |revision| WatchDinosaursRequest { after_revision: Some(revision), ..Default::default() };
        Stream::open(hub, "resumed", after(oldest)).await.expect("a watch").until(head).await;
        if let Some(gone) = oldest.checked_sub(1) {
            let refused = Stream::open(hub, "too late", after(gone)).await.err().expect("a refusal");
            assert_eq!(
                (refused.code(), told(&refused)),
                (Code::OutOfRange, ("REVISION_COMPACTED".to_owned(), oldest))
            );
        }
        say(&format!("clock of Postgres {hours:+} h: floor {oldest}, head {head}"));
    }
    world.stop().await;
}
