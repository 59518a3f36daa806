//! Rows of a megabyte: what is read of them at a time is bounded in bytes.

use crate::support::{Database, TestHub, wire::RawWatch};
use trex::{
    app::Settings,
    faces::Registry,
    model::Revision,
    proto::rh_trex::v1::{BackpressurePolicy, WatchDinosaursRequest},
    store::{HubConnection, LogPosition, PageBound, SealedRow},
};

const ROWS: u64 = 40;
const MIB: usize = 1 << 20;

async fn fill(database: &Database, rows: u64, bytes: usize) {
    let insert = format!(
        "INSERT INTO dinosaurs (species) SELECT repeat('s', {bytes}) FROM generate_series(1, {rows})"
    );
    database.connect().await.batch_execute(&insert).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_log_is_bounded_in_bytes() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    fill(&database, ROWS, MIB).await;
    fill(&database, 500, 1).await;
    for target in [database.target(), database.target().pooled()] {
        let hub = HubConnection::open(&target).await.unwrap();
        let head = hub.seal().await.unwrap().revision;
        let mut position = LogPosition::after(Revision::ZERO);
        let mut pages = Vec::new();
        while position.revision < head {
            let rows = hub.read(&mut position, PageBound::HUB).await.unwrap();
            assert!(rows.iter().map(SealedRow::bytes).sum::<usize>() < 9 * MIB);
            pages.push(rows.len());
        }
        assert_eq!(pages, [8, 8, 8, 8, 8, 8, 16, 32, 64, 128, 252], "as many as fit, then twice as many");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_rows_are_large_the_pages_of_history_have_fewer() {
    let database = Database::create().await;
    TestHub::start(&database).await.stop().await;
    fill(&database, ROWS, MIB).await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 1;
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let after = |revision| WatchDinosaursRequest {
        after_revision: Some(revision),
        backpressure: BackpressurePolicy::CatchUp.into(),
        ..Default::default()
    };
    let mut watches = Vec::new();
    for revision in [0, 17, 0, 36] {
        watches.push((revision, RawWatch::start(&hub, &after(revision)).await));
    }
    for (mut last, mut watch) in watches {
        while last < ROWS {
            let event = watch.event().await.unwrap();
            last += 1;
            assert_eq!((event.revision, event.dinosaur.unwrap().species.len()), (last, MIB));
        }
    }
    // One in vain, and five of eight rows each, of which some may be read again.
    assert!(hub.metric("hub_history_reads_total", "") >= 6.0);
    hub.stop().await;
}
