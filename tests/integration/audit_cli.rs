//! `trex audit`, as a program of its own.

use crate::{
    commands::trex,
    controllers::{audit::keeper, until_at},
    support::{Database, PATIENCE},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::ChildStdout,
    sync::watch,
    time::timeout,
};
use trex::{controller::AuditTrail, store::Store};

/// Carries connections to a hub. Each value that is sent cuts the open ones, without notice to either side.
async fn carry(listener: TcpListener, hub: String, cut: watch::Receiver<u32>) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let (hub, mut cut) = (hub.clone(), cut.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            let mut far = TcpStream::connect(hub).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// The revision of the next record.
async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> u64 {
    let line = timeout(*PATIENCE, lines.next_line()).await.expect("a record in time").unwrap();
    let record: Value = serde_json::from_str(&line.expect("a record, and not the end")).unwrap();
    record["revision"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_over_a_connection_that_breaks() {
    let database = Database::create().await;
    let hub = keeper(&database).await;
    let session = database.connect().await;
    let insert = "INSERT INTO dinosaurs (species) VALUES ('x')";
    session.batch_execute(insert).await.unwrap();
    let store = Store::new(&database.target(), 2).unwrap();
    until_at(&store, AuditTrail::NAME, 1).await;
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let (cut, cuts) = watch::channel(0);
    let carrier = tokio::spawn(carry(listener, hub.app().addresses().grpc.clone().unwrap(), cuts));

    let mut command =
        trex(&["audit", "--follow", "--after-revision", "0", "--output", "json", "--server", &server]);
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for revision in 1..4 {
        assert_eq!(next(&mut lines).await, revision, "each once, and in order");
        cut.send_modify(|cuts| *cuts += 1);
        session.batch_execute(insert).await.unwrap();
    }
    drop(process);
    carrier.abort();
    hub.stop().await;
}
