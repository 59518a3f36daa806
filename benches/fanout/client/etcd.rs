//! etcd's API, as far as a watch and a transaction of puts need it.

use super::{
    Arguments, check,
    grpc::{self, Sender},
    payload,
    tally::Readers,
};
use crate::support::wire::{Field, Fields};
use anyhow::{Context, ensure};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const TXN: &str = "/etcdserverpb.KV/Txn";
/// Everything is put below this.
const PREFIX: &[u8] = b"dino/";
const END: &[u8] = b"dino0";

/// A field that holds bytes.
fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(value);
    field
}

/// Opens the watches; returns when the server says that each is created.
pub(super) async fn open(arguments: &Arguments, readers: &mut Readers) -> anyhow::Result<()> {
    let mut senders = Vec::new();
    for number in 0..arguments.connections {
        senders.push(grpc::handshake(arguments, number, readers).await?);
    }
    // WatchRequest{create_request=1: WatchCreateRequest{key=1, range_end=2}}
    let request = bytes(1, &[bytes(1, PREFIX), bytes(2, END)].concat());
    for sender in senders.iter().cycle().take(arguments.streams) {
        let (response, sending) = grpc::call(sender, WATCH, &request, false).await?;
        let stream = grpc::body(response).await?;
        let (created, is_created) = tokio::sync::oneshot::channel();
        let (tally, mut next, mut created) = (readers.tally(), None, Some(created));
        readers.spawn(async move {
            // The watch lives as long as its request is open.
            let _request = sending;
            grpc::each_message(stream, move |chunk, frames| {
                let mut events = 0;
                frames.feed(chunk, |message| {
                    events += take(message, &mut next)?;
                    if let Some(created) = created.take() {
                        let _ = created.send(());
                    }
                    Ok(())
                })?;
                tally.add(events);
                Ok(())
            })
            .await
        });
        readers.while_reading(is_created).await??;
    }
    Ok(())
}

/// The events of a WatchResponse{canceled=4, events=11: Event{kv=2: KeyValue{value=5}}}.
fn take(response: &[u8], next: &mut Option<u64>) -> anyhow::Result<u64> {
    let mut events = 0;
    for field in Fields(response) {
        match field {
            (11, Field::Bytes(event)) => {
                let put =
                    inner(event, 2).and_then(|put| inner(put, 5)).context("an event without a value")?;
                check(put, next)?;
                events += 1;
            }
            (4, Field::Number(canceled)) => ensure!(canceled == 0, "the watch was cancelled"),
            _ => {}
        }
    }
    Ok(events)
}

fn inner(message: &[u8], number: u64) -> Option<&[u8]> {
    Fields(message).find_map(|field| match field {
        (found, Field::Bytes(bytes)) if found == number => Some(bytes),
        _ => None,
    })
}

/// Puts events, each append a transaction.
pub(super) struct Publisher {
    sender: Sender,
    _connection: Readers,
}

impl Publisher {
    /// On a connection of its own.
    pub(super) async fn connect(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut connection = Readers::default();
        let sender = grpc::handshake(arguments, arguments.connections, &mut connection).await?;
        Ok(Self { sender, _connection: connection })
    }

    /// Events from a number on. A transaction cannot put a key twice: each of its events has one of its own.
    pub(super) async fn publish(&mut self, first: u64, batch: u64) -> anyhow::Result<()> {
        // TxnRequest{success=2: RequestOp{request_put=2: PutRequest{key=1, value=2}}}
        let put = |event: u64| {
            let key = [PREFIX, format!("{event:05}").as_bytes()].concat();
            bytes(2, &bytes(2, &[bytes(1, &key), bytes(2, &payload(first + event))].concat()))
        };
        let request: Vec<u8> = (0..batch).flat_map(put).collect();
        let (response, _sending) = grpc::call(&self.sender, TXN, &request, true).await?;
        let mut answer = grpc::body(response).await?;
        while let Some(chunk) = answer.data().await {
            answer.flow_control().release_capacity(chunk?.len())?;
        }
        let trailers = answer.trailers().await?.context("no trailers")?;
        ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "{trailers:?}");
        Ok(())
    }
}
