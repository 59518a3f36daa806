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
