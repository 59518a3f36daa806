//! Retention takes whole transactions, leaves no rest, and finds what goes by its index.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_whole_transactions_and_leaves_no_rest() {
    let database = Database::create().await;
    let mut settings = settings(&database, KIB);
    settings.capture.retention =
        Retention { events: 1000, interval: Duration::from_millis(20), ..settings.capture.retention };
    let registry = Registry::of_this_program;
    let hubs = [
        TestHub::start_with(settings.clone(), registry()).await,
        TestHub::start_with(settings, registry()).await,
    ];
    let store = Store::new(&database.target(), 2).unwrap();
    let (session, observer) = (database.connect().await, database.connect().await);
    observer.batch_execute("SET jit = off; SET enable_seqscan = off").await.unwrap();
    let enough = AtomicBool::new(false);
    let write = async {
        for n in 0..150u32 {
            let rows = 1 + n * 37 % 120;
            let insert = format!(
                "INSERT INTO dinosaurs (id, species) SELECT '{n}-' || m, 's'
                 FROM generate_series(1, {rows}) m"
            );
            session.batch_execute(&insert).await.unwrap();
        }
        // Until the hubs are through with it: the floor stands as high as it may, and nothing is left below
        // it.
        let settled = "SELECT r.low_water = r.compacted AND NOT EXISTS (
                SELECT FROM hub.log l WHERE l.revision > r.compacted AND l.revision < h.revision - 1000)
            FROM hub.retention r, hub.head h WHERE h.revision = 8985";
        until_sql(&session, "the hubs are through with it", settled, &[]).await;
        enough.store(true, Ordering::Relaxed);
    };
    // As two hubs do it, and in smaller steps than theirs.
    let compact = async {
        while !enough.load(Ordering::Relaxed) {
            store.raise_floor(Duration::from_secs(3600), 1000, 3).await.unwrap();
            store.delete_below_floor(10).await.unwrap();
        }
    };
    let observe = async {
        let sql = "SELECT count(*) FILTER (WHERE l.events <> (SELECT count(*) FROM hub.change c
                     WHERE c.xid = l.xid)),
                     coalesce(min(l.revision - l.events) = r.compacted, true),
                     coalesce(sum(l.events), 0)::bigint
                   FROM hub.retention r LEFT JOIN hub.log l ON l.revision > r.compacted GROUP BY r.compacted";
        let mut looks = 0;
        while !enough.load(Ordering::Relaxed) {
            let row = observer.query_one(sql, &[]).await.unwrap();
            let (torn, follows): (i64, bool) = (row.get(0), row.get(1));
            assert!(torn == 0 && follows, "{torn} transactions above the floor have lost a part");
            looks += 1;
        }
        looks
    };
    let (_, _, looks) = tokio::join!(write, compact, observe);
    let bounds = "SELECT r.compacted, r.low_water, h.revision, (SELECT count(*) FROM hub.change),
                  (SELECT coalesce(sum(events), 0)::bigint FROM hub.log)
                  FROM hub.retention r, hub.head h";
    let row = session.query_one(bounds, &[]).await.unwrap();
    let [compacted, low_water, head, changes, logged]: [i64; 5] = std::array::from_fn(|at| row.get(at));
    println!("retention: {looks} looks, floor {compacted} of {head}");
    assert_eq!(low_water, compacted, "everything below the floor is gone");
    assert_eq!((changes, logged), (head - compacted, head - compacted), "and nothing above it");
    assert!(head - compacted >= 1000 && head - compacted < 1000 + 120, "{compacted} of {head}");

    for hub in &hubs {
        // One that was passed by the floor begins at the head.
        until("it is there", || hub.metric("hub_head_revision", "") as i64 == head).await;
        until("it knows the floor", || hub.metric("hub_compacted_revision", "") as i64 == compacted).await;
        let floor = compacted as u64;
        let mut watch = RawWatch::start(hub, &after(floor)).await;
        for revision in floor + 1..=head as u64 {
            assert_eq!(watch.event().await.unwrap().revision, revision);
        }
        let refused =
            Recorder::try_start(hub.client().await, "too old", after(floor - 1), None).await.err().unwrap();
        assert_eq!(reason(&refused), "REVISION_COMPACTED");
        assert_eq!(metadata(&refused, "oldest_revision"), compacted.to_string());
    }
    // By age.
    while store
        .raise_floor(Duration::ZERO, u64::MAX, 7)
        .await
        .unwrap()
        .is_none_or(|floor| floor.to_sql() < head)
    {}
    until("both know the floor", || {
        hubs.iter().all(|hub| hub.metric("hub_compacted_revision", "") as i64 == head)
    })
    .await;
    // By whichever hub has the lock just then: one that finds it taken does not wait for it.
    loop {
        store.delete_below_floor(50).await.unwrap();
        let row = session.query_one(bounds, &[]).await.unwrap();
        let [compacted, low_water, _, changes, logged]: [i64; 5] = std::array::from_fn(|at| row.get(at));
        if low_water == compacted {
            assert_eq!((compacted, changes, logged), (head, 0, 0));
            break;
        }
    }
    let mut watch = RawWatch::start(&hubs[0], &after(head as u64)).await;
    session.batch_execute("INSERT INTO dinosaurs (species) VALUES ('next')").await.unwrap();
    assert_eq!(watch.event().await.unwrap().revision, head as u64 + 1);
    for hub in hubs {
        hub.stop().await;
    }
}

/// Where three transactions make up the table, a plan by statistics would read all of it to look for the rows
/// of one that is gone.
#[tokio::test]
async fn retention_finds_rows_by_their_index_whatever_the_sizes_of_transactions() {
    let database = Database::create().await;
    let hub = hub(&database, KIB).await;
    let session = database.connect().await;
    for n in 0..40 {
        let insert = format!("INSERT INTO dinosaurs (id, species) VALUES ('{n}', 's')");
        session.batch_execute(&insert).await.unwrap();
    }
    for n in 0..3 {
        let insert = format!(
            "INSERT INTO dinosaurs (id, species) SELECT '{n}-' || m, 's' FROM generate_series(1, 10000) m"
        );
        session.batch_execute(&insert).await.unwrap();
    }
    until("it is sealed", || hub.metric("hub_head_revision", "") == 30_040.0).await;
    hub.stop().await;
    session
        .batch_execute(
            "UPDATE hub.retention SET compacted = 30040; ANALYZE hub.change; ANALYZE hub.log; BEGIN",
        )
        .await
        .unwrap();
    for _ in 0..20 {
        let row = session.query_one("SELECT hub.delete_below_floor(5)", &[]).await.unwrap();
        assert!(row.get::<_, i64>(0) > 0);
    }
    let scans = "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_xact_user_tables
                 WHERE relname IN ('change', 'log')";
    assert_eq!(session.query_one(scans, &[]).await.unwrap().get::<_, i64>(0), 0);
}
