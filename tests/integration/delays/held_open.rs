//! A transaction that has captured something and stays open. Longer: `TREX_TEST_HELD_OPEN`, in seconds.

use super::*;
use crate::{
    stress::{Control, Load, number, random, writers},
    support::{
        Database,
        history::History,
        recorder::Recorder,
        validators::validate,
        writer::{Open, Verb, session},
    },
};
use trex::{app::Settings, faces::Registry};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_delays_only_its_own_events() {
    let held = Duration::from_secs(number("TREX_TEST_HELD_OPEN", 4));
    let mut random = random("held open");
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    // Only a bell wakes it: without one a change would be seen an hour late.
    settings.capture.backup_poll = Duration::from_secs(3600);
    // Also on a slow machine the writers reach it; the calm between them stays below half of it.
    settings.capture.busy_above = 200.0;
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut control = Control::new(&database).await;
    let recorder = Recorder::start(hub.client().await, "plain", WatchDinosaursRequest::default()).await;
    let arrivals = Arrivals::of(&hub).await;
    control.write(&[(Verb::Insert, &crate::stress::shared_ids())]).await;

    let holder = session(database.url()).await.expect("a session");
    let mut open = Open::begin(&holder, "held".to_owned()).await.expect("BEGIN");
    open.run(Verb::Insert, &["held".to_owned()]).await.expect("a change");
    let since = Instant::now();
    let mut all_writers = Vec::new();
    let mut spells = 0usize;
    while since.elapsed() < held {
        // Busy, then the drain, which this transaction holds up, then asleep: a bell for each.
        let mut crowd = writers(&database, &mut random);
        crowd.iter_mut().for_each(|writer| writer.rename(spells));
        let load = Load::start(crowd);
        control.until_busy(true).await;
        tokio::time::sleep(held / 10).await;
        all_writers.extend(load.stop().await);
        for number in 0..40 {
            let id = format!("calm-{spells}-{number}");
            control.write(&[(Verb::Insert, &[id])]).await;
            tokio::time::sleep(Duration::from_millis(random.u64(0..20))).await;
        }
        spells += 1;
    }
    assert!(!arrivals.seen.lock().contains_key("held"), "it is not committed");
    let open_for = since.elapsed();
    let held = open.commit().await;
    let beside = all_writers.iter().flat_map(|writer| &writer.journal).chain(&control.journal[1..]);
    let committed = beside.filter(|t| t.acknowledged().is_some() && t.changes().next().is_some_and(is_new));
    let delays = arrivals.delays(committed).await;
    let own = arrivals.delays(std::iter::once(&held)).await;
    println!("open for {open_for:.1?}, {spells} spells; beside it: {delays}; its own event {own}");
    control.journal.push(held);
    control.write_sentinel().await;
    let history = History { streams: vec![recorder.finish().await] };
    validate(&history, &control.journal(all_writers).await);
    assert!(delays.at(0.99) < Duration::from_secs(1), "p99 {:?}", delays.at(0.99));
    assert!(delays.at(1.0) < open_for / 2, "somebody waited {:?}", delays.at(1.0));
    hub.stop().await;
}

/// Whether the first event of this resource is that of this change.
fn is_new(change: &crate::support::history::Change) -> bool {
    change.change == trex::model::ChangeType::Created && !change.id.ends_with('~')
}
