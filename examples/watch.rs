//! A consumer that goes on where it stopped, over lost connections and over restarts of its own:
//!
//!     cargo run --example watch -- http://localhost:9000 watch.position
//!
//! It handles an event first and then notes its position, so after a crash between the two it sees that event again: at least once.
//! For exactly once, keep the position with the effect, in one transaction of your own database.

use anyhow::Context;
use std::{env, fs, io, path::Path};
use tonic::Code;
use trex::{
    client::{Notice, Watch, WatchOptions},
    model::Revision,
    proto::rh_trex::v1::DinosaurWatchEvent,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "http://localhost:9000".to_owned());
    let file = arguments.next().unwrap_or_else(|| "watch.position".to_owned());
    let file = Path::new(&file);

    let mut watch = Watch::new(server, options(file)?)?;
    let mut epoch = String::new();
    loop {
        match watch.next().await {
            // The headers of the stream: everything after this revision will come.
            Ok(Notice::Connected { revision, epoch: current }) => {
                println!("watching after revision {revision}");
                epoch = current;
                note(file, &epoch, revision)?;
            }
            Ok(Notice::Event(event)) => {
                handle(&event);
                note(file, &epoch, event.revision)?;
            }
            // The client goes on by itself, after the last event that it returned.
            Ok(Notice::Disconnected { why, retry_in }) => println!("{why}; again in {retry_in:?}"),
            // Compacted, or another history: nobody can say what this consumer has missed.
            Err(status) if status.code() == Code::OutOfRange => {
                let advice =
                    format!("read the table anew, and remove {} to watch from now on", file.display());
                return Err(status).context(advice);
            }
            Err(status) => return Err(status.into()),
        }
    }
}

fn handle(event: &DinosaurWatchEvent) {
    if event.dropped_before > 0 {
        println!("{} events were dropped: this consumer is too slow for them", event.dropped_before);
    }
    // Unset on DELETED.
    let species = event.dinosaur.as_ref().map_or("", |dinosaur| dinosaur.species.as_str());
    println!("{} {} {} {species}", event.revision, event.r#type().as_str_name(), event.resource_id);
}

/// Where the last run stopped; without one: from now on.
fn options(file: &Path) -> anyhow::Result<WatchOptions> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WatchOptions::default()),
        Err(error) => return Err(error).context(file.display().to_string()),
    };
    let (epoch, revision) = text.trim().split_once(' ').context("a position is an epoch and a revision")?;
    // Revisions of one epoch mean nothing in another: keep both, send both.
    Ok(WatchOptions {
        after: Some(Revision::new(revision.parse()?)),
        epoch: Some(epoch.to_owned()),
        ..WatchOptions::default()
    })
}

fn note(file: &Path, epoch: &str, revision: u64) -> io::Result<()> {
    // Renamed into place, so that a crash leaves the old position or the new one.
    let fresh = file.with_extension("new");
    fs::write(&fresh, format!("{epoch} {revision}\n"))?;
    fs::rename(fresh, file)
}
