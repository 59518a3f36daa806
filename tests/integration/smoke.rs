//! The shortest way through the whole hub.

use crate::support::{Database, TestHub};
use trex::proto::rh_trex::v1::{EventType, WatchDinosaursRequest};

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_by_psql_reaches_a_watch() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let mut watch =
        hub.client().await.watch_dinosaurs(WatchDinosaursRequest::default()).await.unwrap().into_inner();
    let session = database.connect().await;
    session.execute("INSERT INTO dinosaurs (species) VALUES ('Tyrannosaurus')", &[]).await.unwrap();
    let event = watch.message().await.unwrap().unwrap();
    assert_eq!(event.r#type(), EventType::Created);
    assert_eq!(event.dinosaur.unwrap().species, "Tyrannosaurus");
    hub.stop().await;
}
