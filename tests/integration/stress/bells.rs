//! Whatever is committed while a hub sleeps wakes it: also what began when nobody could hear a bell, or when
//! none was wanted.

use super::*;

/// The advisory locks that a sealer under load and a listener hold.
const BUSY: i32 = 2;
const PRESENT: i32 = 3;

/// A hub, a session of the test, and a watcher of everything.
async fn asleep() -> (Database, TestHub, Control, Recorder) {
    let database = Database::create().await;
    let hub = sleeper(&database).await;
    let control = Control::new(&database).await;
    let plain = Recorder::start(hub.client().await, "plain", WatchDinosaursRequest::default()).await;
    (database, hub, control, plain)
}

/// Ends the backend of the hub that holds an advisory lock; returns its pid. `None`: nobody holds it.
async fn terminate(control: &Control, lock: i32) -> Option<i32> {
    let sql = "SELECT pid, pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
               AND classid = 1953654136
        AND objid = $1::int::oid AND granted AND database = (SELECT oid FROM pg_database
          WHERE datname = current_database())";
    control.client.query_opt(sql, &[&lock]).await.expect("an answer").map(|row| row.get(0))
}

/// Another backend than this one seals.
async fn until_another_seals(control: &Control, pid: i32) {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'trex'
                 AND datname = current_database()
        AND query ~ 'hub\\.seal\\(|hub\\.log|pg_snapshot_xmin|pg_current_xact_id' AND pid <> $1)";
    until_sql(&control.client, "another backend seals", sql, &[&pid]).await;
}

async fn finish(hub: TestHub, mut control: Control, plain: Recorder, writers: Vec<Writer>) {
    control.write_sentinel().await;
    let history = History { streams: vec![plain.finish().await] };
    hub.stop().await;
    let journal = control.journal(writers).await;
    validate(&history, &journal);
}

/// The second bell rings while the hub works on the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_bell_that_rings_during_a_seal_is_not_forgotten() {
    let mut random = random("bells");
    let (database, hub, control, plain) = asleep().await;
    let mut writers: Vec<_> =
        ["one", "two"].map(|name| Writer::new(name, database.url(), &[], random.fork())).into();
    let mut events = 0;
    for _ in 0..200 {
        let pauses = [(); 2].map(|()| Duration::from_micros(random.u64(0..3000)));
        let [one, two] = writers.get_disjoint_mut([0, 1]).expect("two writers");
        let write = async |writer: &mut Writer, pause| {
            tokio::time::sleep(pause).await;
            writer.insert_one().await;
        };
        tokio::join!(write(one, pauses[0]), write(two, pauses[1]));
        events += 2;
        plain.until("both events", |progress| progress.events == events).await;
    }
    finish(hub, control, plain, writers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_while_nobody_listened_is_seen() {
    let (database, hub, mut control, plain) = asleep().await;
    let client = session(database.url()).await.expect("a session");
    for number in 0..5 {
        let reconnects = hub.metric("hub_listener_reconnects_total", "");
        terminate(&control, PRESENT).await.expect("a listener");
        let name = format!("unheard-{number}");
        let mut open = Open::begin(&client, name.clone()).await.expect("BEGIN");
        open.run(Verb::Insert, &[name]).await.expect("a change");
        until("the end is seen", || hub.metric("hub_listener_reconnects_total", "") > reconnects).await;
        until("the listener is back", || hub.metric("hub_listener_connected", "") > 0.0).await;
        // Longer than a hub that hears nothing waits between looks: it sleeps by now, if it is going to.
        tokio::time::sleep(Duration::from_millis(50)).await;
        control.journal.push(open.commit().await);
        plain.until("its event", |progress| progress.events == number + 1).await;
    }
    finish(hub, control, plain, Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_saw_a_busy_hub_is_seen_after_the_sealer_was_lost() {
    let mut random = random("lost sealer");
    let (database, hub, mut control, plain) = asleep().await;
    control.write(&[(Verb::Insert, &shared_ids())]).await;
    let client = session(database.url()).await.expect("a session");
    let mut all = writers(&database, &mut random);
    let (mut cycle, mut lost_busy) = (0, 0);
    while lost_busy < 3 {
        cycle += 1;
        assert!(cycle < 30, "the hub is never busy when the load ends");
        let load = Load::start(all);
        let straggler = straggle(&client, &control, cycle).await;
        control.until_busy(true).await;
        all = load.stop().await;
        // Still busy, for it stays so for a quarter of a second; unless this machine took longer to end the
        // load.
        if let Some(lost) = terminate(&control, BUSY).await {
            lost_busy += 1;
            until_another_seals(&control, lost).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let straggler = straggler.commit().await;
        let last = straggler.changes().last().expect("a change").key();
        control.journal.push(straggler);
        plain.until("the straggler's event", |progress| progress.last.as_ref() == Some(&last)).await;
    }
    finish(hub, control, plain, all).await;
}

/// Anybody may NOTIFY, and a database that was rolled back takes back what it announced.
#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_does_not_come_true_keeps_no_hub_awake() {
    let (_database, hub, mut control, plain) = asleep().await;
    for number in 0..3 {
        control.client.batch_execute("NOTIFY hub_sealed, '999999999'").await.expect("a notification");
        until_asleep(&hub).await;
        control.write(&[(Verb::Insert, &[format!("after-{number}")])]).await;
        plain.until("its event", |progress| progress.events == number + 1).await;
    }
    finish(hub, control, plain, Vec::new()).await;
}

/// For a while it seals nothing: only a bell wakes it.
async fn until_asleep(hub: &TestHub) {
    let deadline = Instant::now() + *PATIENCE;
    let mut seals = hub.metric("hub_seals_total", "");
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = hub.metric("hub_seals_total", "");
        if seals == now {
            return;
        }
        seals = now;
        assert!(Instant::now() < deadline, "the hub does not sleep: {seals} seals");
    }
}
