//! The ceiling of the ceilings: the same bytes into plain connections, on lanes as the hub has them.

use super::{
    Feed,
    head::{FRAMES, FRAMES_OF_NOTHING, Head},
};
use crate::client::FRAME;
use std::{future::poll_fn, net::TcpListener, thread};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc, task::JoinSet};

/// Serves until the process ends.
pub(super) fn serve(listeners: &[TcpListener], lanes: usize) -> anyhow::Result<Box<dyn Feed>> {
    let head = Head::default();
    let mut senders = Vec::new();
    for _ in 0..lanes {
        let (sender, accepted) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let head = head.clone();
        thread::Builder::new().name("lane".into()).spawn(move || runtime.block_on(lane(accepted, head)))?;
        senders.push(sender);
    }
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let senders = senders.clone();
        tokio::spawn(async move {
            let mut turn = senders.iter().cycle();
            while let (Ok((stream, _)), Some(lane)) = (listener.accept().await, turn.next()) {
                let _ = stream.into_std().map(|stream| lane.send(stream));
            }
        });
    }
    Ok(Box::new(head))
}

async fn lane(mut accepted: mpsc::UnboundedReceiver<std::net::TcpStream>, head: Head) {
    let mut connections = JoinSet::new();
    while let Some(stream) = accepted.recv().await {
        connections.spawn(write(stream, head.clone()));
    }
}

async fn write(stream: std::net::TcpStream, head: Head) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = TcpStream::from_std(stream)?;
    let mut follower = head.follow();
    // Whatever is appended after this byte was read is counted.
    stream.write_all(&[0]).await?;
    loop {
        let events = poll_fn(|cx| follower.poll_pass(FRAMES, cx)).await;
        stream.write_all(&FRAMES_OF_NOTHING[..events * FRAME]).await?;
    }
}
