//! Any hub may seal, at any moment: also between another's seal and what that other then reads.

use super::*;

const RIVALS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn others_that_seal_at_the_same_time_cost_no_stream_an_event() {
    let started = Instant::now();
    let mut random = random("rivals");
    let rows = number("TREX_STRESS_ROWS", 15_000);
    let database = Database::create().await;
    let hub = sleeper(&database).await;
    let mut control = Control::new(&database).await;
    let watchers = Watchers::start(&hub, &shared_ids(), &mut random).await;
    control.write(&[(Verb::Insert, &shared_ids())]).await;

    let load = Load::start(writers(&database, &mut random));
    let mut rivals = JoinSet::new();
    for _ in 0..RIVALS {
        rivals.spawn(seal_for_ever(database.url().to_owned(), random.fork()));
    }
    load.until_rows(rows).await;
    let writers = load.stop().await;
    control.write_sentinel().await;
    check(hub, watchers, control, writers, rows).await;
    rivals.shutdown().await;
    println!("rivals: {:?}", started.elapsed());
}

/// The second waits for the first. Otherwise both would number what the first has not yet committed.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_seal_at_once_number_nothing_twice() {
    const SEAL: &str = "SELECT events FROM hub.seal()";
    let database = Database::create().await;
    sleeper(&database).await.stop().await;
    let mut control = Control::new(&database).await;
    let (early, first, second) =
        tokio::join!(session(database.url()), session(database.url()), session(database.url()));
    let (early, first, second) = (early.expect("it"), first.expect("it"), second.expect("it"));

    let mut open = Open::begin(&early, "early".into()).await.expect("BEGIN");
    open.run(Verb::Insert, &["a".to_owned(), "b".to_owned()]).await.expect("changes");
    control.write(&[(Verb::Insert, &["c".to_owned()])]).await;
    first.batch_execute("BEGIN").await.expect("BEGIN");
    let events: i64 = first.query_one(SEAL, &[]).await.expect("a seal").get(0);
    assert_eq!(events, 1, "the one that is committed");
    open.commit().await;

    let sealing =
        tokio::spawn(async move { second.query_one(SEAL, &[]).await.expect("a seal").get::<_, i64>(0) });
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
        WHERE datname = current_database() AND query = $1 AND wait_event_type = 'Lock'";
    until_sql(&control.client, "the second seal waits", waiting, &[&SEAL]).await;
    first.batch_execute("COMMIT").await.expect("COMMIT");
    assert_eq!(sealing.await.expect("a seal"), 2, "and not the one again that the first has numbered");
}

/// A session that does nothing else.
pub(super) async fn seal_for_ever(url: String, mut random: fastrand::Rng) {
    loop {
        if let Ok(client) = session(&url).await {
            while client.query_one("SELECT revision FROM hub.seal()", &[]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(random.u64(0..4))).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
