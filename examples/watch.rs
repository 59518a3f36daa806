//! A consumer that goes on where it stopped, over lost connections and over restarts of its own:
//!
//!     cargo run --example watch -- http://localhost:9000 watch.position
//!
//! It handles an event first and then notes its position, so after a crash between the two it sees that event
//! again: at least once. For exactly once, keep the position with the effect, in one transaction of your own
//! database.

use anyhow::Context;
use std::{env, fs, io, path::Path};
use tonic::Code;
use trex::{
    client::{Access, Hub, Notice, Watch, WatchOptions, WatchStart},
    model::Revision,
    proto::rh_trex::v1::{BackpressurePolicy, DinosaurWatchEvent, EventType},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "http://localhost:9000".to_owned());
    let file = arguments.next().unwrap_or_else(|| "watch.position".to_owned());
    let file = Path::new(&file);

    let hub = Hub::new(&server, &Access::default())?;
    let mut watch = Watch::new(hub.clone(), options(start(file)?));
    let mut epoch = String::new();
    loop {
        match watch.next().await {
            Ok(Notice::Connected { revision, epoch: current, state }) => {
                println!("watching after revision {revision}");
                if state {
                    println!("what was known is void; the table as it was then:");
                }
                epoch = current;
            }
            Ok(Notice::Event(event)) => {
                handle(&event);
                // A row of the state is no position: that is complete at the notice below.
                if event.r#type() != EventType::Snapshot {
                    note(file, &epoch, Revision::new(event.revision))?;
                }
            }
            Ok(Notice::Complete { revision, dropped }) => {
                lost(dropped);
                note(file, &epoch, revision)?;
            }
            // The client goes on by itself, after the last event that it returned.
            Ok(Notice::Disconnected { why, retry_in }) => println!("{why}; again in {retry_in:?}"),
            // Compacted, or another history: nobody can say what this consumer has missed. Begin with what is
            // there.
            Err(status) if status.code() == Code::OutOfRange => {
                println!("{}", status.message());
                watch = Watch::new(hub.clone(), options(WatchStart::State));
            }
            Err(status) => return Err(status.into()),
        }
    }
}

fn handle(event: &DinosaurWatchEvent) {
    lost(event.dropped_before);
    // Unset on DELETED.
    let species = event.dinosaur.as_ref().map_or("", |dinosaur| dinosaur.species.as_str());
    println!("{} {} {} {species}", event.revision, event.r#type().as_str_name(), event.resource_id);
}

/// With policy DROP only: a bookmark tells it, too, when no event follows.
fn lost(dropped: u64) {
    if dropped > 0 {
        println!("{dropped} events were dropped before this");
    }
}

/// CATCH_UP: however slow this consumer is, it misses nothing that is retained.
fn options(start: WatchStart) -> WatchOptions {
    WatchOptions {
        types: vec![],
        resource_ids: vec![],
        filter: String::new(),
        start,
        backpressure: BackpressurePolicy::CatchUp,
    }
}

/// Where the last run stopped; without one: with what is there.
fn start(file: &Path) -> anyhow::Result<WatchStart> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WatchStart::State),
        Err(error) => return Err(error).context(file.display().to_string()),
    };
    let (epoch, revision) = text.trim().split_once(' ').context("a position is an epoch and a revision")?;
    // Revisions of one epoch mean nothing in another: keep both, send both.
    Ok(WatchStart::After(Revision::new(revision.parse()?), Some(epoch.to_owned())))
}

fn note(file: &Path, epoch: &str, revision: Revision) -> io::Result<()> {
    // Renamed into place, so that a crash leaves the old position or the new one.
    let fresh = file.with_extension("new");
    fs::write(&fresh, format!("{epoch} {revision}\n"))?;
    fs::rename(fresh, file)
}
