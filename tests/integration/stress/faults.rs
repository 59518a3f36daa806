//! The same with faults: the hub's backends terminated, Postgres killed, and others that seal at the same
//! time.

use super::{rivals::seal_for_ever, *};
use trex::embedded::testing::EphemeralPostgres;

const TERMINATIONS: u32 = 50;
const RIVALS: usize = 2;

/// A listening hub holds the flag `present`.
const END_LISTENER: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                            WHERE locktype = 'advisory' AND classid = 1953654136
    AND objid = 3 AND granted AND database = (SELECT oid FROM pg_database
      WHERE datname = current_database())";
/// The other session that is not of the pool seals.
const END_SEALER: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'trex' AND datname = current_database()
      AND query ~ 'hub\\.seal\\(|hub\\.log|pg_current_xact_id|pg_snapshot_xmin|pg_advisory_(un)?lock\\(|RowExclusiveLock'
      AND query !~ 'pg_stat_activity'";

#[tokio::test(flavor = "multi_thread")]
async fn terminated_backends_and_a_killed_postgres_cost_no_stream_an_event() {
    let started = Instant::now();
    let mut random = random("faults");
    let rows = number("TREX_STRESS_ROWS", 20_000);
    let cluster = EphemeralPostgres::start(Vec::new()).await.expect("a cluster");
    let database = Database::create_on(&cluster).await;
    let hub = sleeper(&database).await;
    let mut control = Control::new(&database).await;
    let watchers = Watchers::start(&hub, &shared_ids(), &mut random).await;
    control.write(&[(Verb::Insert, &shared_ids())]).await;

    let load = Load::start(writers(&database, &mut random));
    terminate(&control.client, TERMINATIONS / 2, &mut random).await;
    cluster.kill().await.expect("a kill");
    cluster.restart().await.expect("a restart");
    control.reconnect().await;
    let mut rivals = JoinSet::new();
    for _ in 0..RIVALS {
        rivals.spawn(seal_for_ever(database.url().to_owned(), random.fork()));
    }
    terminate(&control.client, TERMINATIONS - TERMINATIONS / 2, &mut random).await;
    load.until_rows(rows).await;
    let writers = load.stop().await;
    rivals.shutdown().await;
    control.write_sentinel().await;
    check(hub, watchers, control, writers, rows).await;
    println!("faults: {TERMINATIONS} backends terminated, Postgres killed once, {:?}", started.elapsed());
    cluster.stop().await.expect("a stop");
}

/// Terminates the listener's or the sealer's backend this many times, each time as soon as it is back or a
/// moment later.
async fn terminate(client: &Client, times: u32, random: &mut fastrand::Rng) {
    let deadline = Instant::now() + *PATIENCE;
    let mut left = times;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} terminations left");
        let sql = if random.bool() { END_LISTENER } else { END_SEALER };
        let ended: i64 = client.query_one(sql, &[]).await.expect("a session of a superuser").get(0);
        left = left.saturating_sub(u32::try_from(ended).expect("a count"));
        tokio::time::sleep(Duration::from_millis(random.u64(1..60))).await;
    }
}

/// A transaction that captured first commits after another was published, and while the seal of that one is
/// no longer in anybody's hands: it gets the later number all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_keeps_its_number() {
    let database = Database::create().await;
    let hub = sleeper(&database).await;
    let mut control = Control::new(&database).await;
    let plain = Recorder::start(hub.client().await, "plain", WatchDinosaursRequest::default()).await;
    let client = session(database.url()).await.expect("a session");
    for number in 0..5 {
        let (early, late) = (format!("early-{number}"), format!("late-{number}"));
        let mut open = Open::begin(&client, early.clone()).await.expect("BEGIN");
        open.run(Verb::Insert, &[early]).await.expect("a change");
        control.write(&[(Verb::Insert, &[late])]).await;
        plain.until("the one that committed first", |progress| progress.events == 2 * number + 1).await;
        let ended: i64 = control.client.query_one(END_SEALER, &[]).await.expect("an answer").get(0);
        assert!(ended > 0, "there is a sealer");
        control.journal.push(open.commit().await);
        plain.until("the other", |progress| progress.events == 2 * number + 2).await;
    }
    control.write_sentinel().await;
    let history = History { streams: vec![plain.finish().await] };
    hub.stop().await;
    validate(&history, &control.journal(Vec::new()).await);
}
