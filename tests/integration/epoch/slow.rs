//! New epochs that take long, because there is much to delete.

use super::*;
use std::time::Duration;
use tokio::time::timeout;

/// A history that no hub serves and that nobody can delete before this session commits.
async fn locked_history() -> (Database, Driven) {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let session = database.connect().await;
    create(&session, "before", 20).await;
    until_head(&hub, 20).await;
    hub.stop().await;
    session.batch_execute("BEGIN; SELECT FROM hub.change FOR UPDATE").await.unwrap();
    (database, session)
}

/// To delete a large history takes longer than any other statement may, and than a hub that holds the locks
/// may be silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_takes_its_time() {
    let (database, session) = locked_history().await;
    let (target, looker) = (database.target(), database.connect().await);
    let begins = begin_epoch(&target, Doubt::Told);
    let deletes = async {
        until_one_waits(&looker).await;
        // Longer than a hub waits for the answer to any other statement: that time passes is what is tested.
        tokio::time::sleep(Duration::from_secs(31)).await;
        session.batch_execute("COMMIT").await.unwrap();
    };
    timeout(*PATIENCE, async { tokio::join!(begins, deletes).0 }).await.expect("an end").unwrap();
    let left = session.query_one("SELECT count(*) FROM hub.change", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

/// Nobody commits it when nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_ends_with_who_begins_it() {
    let (database, _session) = locked_history().await;
    let (target, looker) = (database.target(), database.connect().await);
    tokio::select! {
        begun = begin_epoch(&target, Doubt::Told) => panic!("{begun:?} while the history is locked"),
        () = until_one_waits(&looker) => {}
    }
    let sql = "SELECT count(*) = 0 FROM pg_stat_activity
               WHERE query ~ 'begin_epoch' AND datname = current_database() AND pid <> pg_backend_pid()";
    until_sql(&looker, "the server deletes no more", sql, &[]).await;
}
