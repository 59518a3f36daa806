//! Clients in other languages send a separate frame for each message, and HTTP/2 libraries defend themselves
//! against floods of small frames that nobody reads: what the hub lets a client send ahead must stay below
//! what its library takes for an attack.

use crate::support::{Database, PATIENCE, TestHub, until};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use trex::proto::rh_trex::v1::{BulkCreateDinosaursResponse, CreateDinosaurRequest};

const STREAMS: usize = 4;
/// More than a window holds.
const ITEMS: usize = 20_000;
/// A client that has got no window for this long has filled it.
const STALLED: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_small_frames_faster_than_they_are_committed_is_held_back_and_not_thrown_off() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let address = hub.app().addresses().grpc.clone().unwrap();
    let session = database.connect().await;
    session.batch_execute("BEGIN; LOCK TABLE dinosaurs IN EXCLUSIVE MODE").await.unwrap();

    let (client, connection) =
        h2::client::handshake(TcpStream::connect(&address).await.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);
    let stalled = Arc::<AtomicUsize>::default();
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(create(client.clone(), address.clone(), stalled.clone()));
    }
    tokio::select! {
        () = until("every client has filled its window", || stalled.load(Ordering::Relaxed) == STREAMS) => {}
        ended = streams.join_next() => panic!("ended while nothing could be committed: {ended:?}"),
    }
    session.batch_execute("COMMIT").await.unwrap();
    while let Some(answer) = timeout(*PATIENCE, streams.join_next()).await.expect("an answer in time") {
        assert_eq!(answer.unwrap().created, ITEMS as i32);
    }
    connection.abort();
    hub.stop().await;
}

/// A bulk creation whose every message is a frame of a few bytes.
async fn create(
    client: h2::client::SendRequest<Bytes>,
    address: String,
    stalled: Arc<AtomicUsize>,
) -> BulkCreateDinosaursResponse {
    let call =
        http::Request::post(format!("http://{address}/rh_trex.v1.DinosaurService/BulkCreateDinosaurs"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
    let (response, mut sending) = client.ready().await.unwrap().send_request(call, false).unwrap();
    let message = CreateDinosaurRequest { species: "x".into() }.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(&message);
    let frame = frame.freeze();
    let mut is_stalled = false;
    for _ in 0..ITEMS {
        sending.reserve_capacity(frame.len());
        while sending.capacity() < frame.len() {
            let capacity = poll_fn(|context| sending.poll_capacity(context));
            match timeout(if is_stalled { *PATIENCE } else { STALLED }, capacity).await {
                Ok(capacity) => drop(capacity.expect("the stream is open").unwrap()),
                Err(_) => {
                    assert!(!is_stalled, "no window");
                    is_stalled = true;
                    stalled.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        sending.send_data(frame.clone(), false).unwrap();
    }
    sending.send_data(Bytes::new(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        answer.extend_from_slice(&data);
    }
    assert!(answer.len() >= 5, "{:?}", body.trailers().await);
    answer.advance(5);
    BulkCreateDinosaursResponse::decode(answer).unwrap()
}
