//! The client of this crate over the comings and goings of its hub.

use crate::support::{Database, TestHub, follower::Follower, until};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tonic::Code;
use trex::{
    app::Settings,
    client::WatchStart,
    model::Revision,
    store::{Driven, Store},
};

async fn change(session: &Driven, n: u32) {
    let sql = format!(
        "INSERT INTO dinosaurs (id, species) VALUES ('{n}', 's');
         UPDATE dinosaurs SET species = '{n}' WHERE id = '{}'; DELETE FROM dinosaurs WHERE id = '{}'",
        n / 2,
        n / 3,
    );
    session.batch_execute(&sql).await.expect("a change");
}

fn consecutive(revisions: &[u64]) -> bool {
    revisions.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_its_hubs_and_delivers_everything_once() {
    const HUBS: u32 = 5;
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.limits.window_bytes = 16 * 1024;
    let mut hub = TestHub::start_at(settings.clone(), "localhost:0").await;
    let address = hub.app().addresses().grpc.clone().unwrap();
    change(&database.connect().await, 0).await;
    until("it is published", || hub.metric("hub_head_revision", "") == 3.0).await;
    let followers = [
        Follower::start(&hub, WatchStart::Now).await,
        Follower::start(&hub, WatchStart::State).await,
        Follower::start(&hub, WatchStart::After(Revision::ZERO, None)).await,
    ];
    let enough = Arc::new(AtomicBool::new(false));
    let (session, stop) = (database.connect().await, enough.clone());
    let writer = tokio::spawn(async move {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            change(&session, n).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for round in 1..HUBS {
        for follower in &followers {
            let seen = follower.now().revisions.len();
            follower.until("events", |followed| followed.revisions.len() > seen + 20).await;
        }
        hub.stop().await;
        for follower in &followers {
            follower.until("the end of the stream", |followed| followed.disconnected >= round).await;
        }
        hub = TestHub::start_at(settings.clone(), &address).await;
    }
    enough.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    for (follower, states) in followers.iter().zip([0, 1, 0]) {
        // The one that began with nothing knows of no rows that nothing happened to; there are none.
        follower.until_exact(&database).await;
        let followed = follower.now();
        assert!(consecutive(&followed.revisions), "a hole");
        assert_eq!((followed.connected, followed.states), (HUBS, states));
    }
    let events = followers[2].now().revisions;
    println!("following: {} events over {HUBS} hubs", events.len());
    assert_eq!(events[0], 1);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_past_is_gone_lists_again_or_ends() {
    let database = Database::create().await;
    let settings = Settings::new(database.target());
    let hub = TestHub::start_at(settings.clone(), "localhost:0").await;
    let address = hub.app().addresses().grpc.clone().unwrap();
    let session = database.connect().await;
    let followers =
        [Follower::start(&hub, WatchStart::State).await, Follower::start(&hub, WatchStart::Now).await];
    for n in 1..50 {
        change(&session, n).await;
    }
    for follower in &followers {
        follower.until_exact(&database).await;
    }
    hub.stop().await;
    for n in 50..100 {
        change(&session, n).await;
    }
    session.batch_execute("SELECT hub.seal()").await.unwrap();
    let store = Store::new(&database.target(), 1).unwrap();
    store.raise_floor(Duration::ZERO, 10, 10_000).await.unwrap();
    while store.delete_below_floor(1000).await.unwrap() > 0 {}
    let hub = TestHub::start_at(settings, &address).await;
    followers[0].until_exact(&database).await;
    assert_eq!(followers[0].now().states, 2);
    followers[1].until("its end", |followed| followed.ended.is_some()).await;
    assert_eq!(followers[1].now().ended, Some(Code::OutOfRange));
    assert_eq!(followers[1].now().disconnected, 1);
    hub.stop().await;
}
