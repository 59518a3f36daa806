//! Effects that a controller writes through its turn: each once, a resource's in order, while hubs die,
//! sessions are cut, and one resource is poisoned.

use super::{EFFECTS, Mortals, Scribe, settings, until_controller};
use crate::{
    stress::{Control, Load, number, random, shared_ids, writers},
    support::{Database, writer::Verb},
};
use std::{sync::Arc, time::Duration};
use trex::store::{DeadLetters, Store, Which};

const WRITERS: usize = 4;
/// Hubs that die, at the least.
const KILLS: u32 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn effects_come_once_and_in_order_though_hubs_die_and_a_resource_is_poisoned() {
    let mut random = random("survival");
    let rows = number("TREX_AUDIT_ROWS", 5_000);
    let database = Database::create().await;
    let (_, poison) = Scribe::new();
    poison.lock().insert(shared_ids()[0].clone());
    let (url, given) = (database.url().to_owned(), poison.clone());
    let scribes = move || settings(&url, vec![Arc::new(Scribe { poison: given.clone(), at_a_time: 50 })]);
    let session = database.connect().await;
    session.batch_execute(EFFECTS).await.unwrap();
    let mut hubs = Mortals::start(Scribe::NAME, scribes).await;
    let mut control = Control::new(&database).await;
    let store = Store::new(&database.target(), 2).unwrap();
    until_controller(&store, Scribe::NAME, "it runs", |status| status.holder.is_some()).await;
    session.batch_execute("DELETE FROM effects").await.unwrap();
    control.write(&[(Verb::Insert, &shared_ids())]).await;

    let load = Load::start(writers(&database, &mut random).into_iter().take(WRITERS).collect());
    let cut_off = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%INTO effects%' AND pid <> pg_backend_pid()";
    let mut cut = 0;
    while load.rows() < rows || hubs.killed < KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(20..300))).await;
        if random.f32() < 0.3 {
            cut += session.query_one(cut_off, &[]).await.unwrap().get::<_, i64>(0);
        } else {
            hubs.kill_one(&mut random).await;
        }
    }
    let writers = load.stop().await;
    control.write_sentinel().await;
    let journal = control.journal(writers).await;
    let changes: u64 = journal.committed().map(|(_, transaction)| transaction.changes().count() as u64).sum();
    let status = until_controller(&store, Scribe::NAME, "all but the poisoned are done", |status| {
        status.lag == 0 && status.position.get() == changes
    })
    .await;
    let of_poisoned = journal.committed().flat_map(|(_, transaction)| transaction.changes());
    let of_poisoned = of_poisoned.filter(|change| poison.lock().contains(&change.id)).count() as u64;
    assert_eq!(status.dead_letters, of_poisoned, "it holds up itself, and nobody else");

    poison.lock().clear();
    let letters = DeadLetters::open(&database.target()).await.unwrap();
    assert_eq!(letters.retry(&Which::All).await.unwrap(), 1);
    until_controller(&store, Scribe::NAME, "no letter is left", |status| status.dead_letters == 0).await;
    let check = "SELECT count(*), count(DISTINCT revision), count(*) FILTER (WHERE revision <= before)
        FROM (SELECT revision, lag(revision) OVER (PARTITION BY id ORDER BY place) AS before FROM effects) e";
    let row = session.query_one(check, &[]).await.unwrap();
    let [effects, distinct, disorder]: [i64; 3] = std::array::from_fn(|at| row.get(at));
    println!(
        "survival: {changes} changes, {of_poisoned} of the poisoned one; {} hubs killed ({} times the one \
         at it), {cut} sessions cut",
        hubs.killed, hubs.at_it
    );
    assert_eq!((effects as u64, distinct as u64, disorder), (changes, changes, 0), "each once, in order");
    hubs.stop().await;
}
