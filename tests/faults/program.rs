//! A watcher that is `trex watch` in a process of its own, which can be stopped as any client can.

use crate::{
    support::history::{Event, Headers},
    watcher::{Plan, Recorder, Recording},
};
use std::{
    io::{PipeReader, PipeWriter, pipe},
    os::fd::OwnedFd,
    process::Stdio,
    time::Instant,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe::Receiver,
    process::{Child, Command},
    sync::watch,
};
use trex::proto::rh_trex::v1::WatchDinosaursRequest;

/// Both of its outputs go into one pipe, so that what it says of its streams stands where it belongs among
/// the events.
fn spawn(address: &str) -> std::io::Result<(Child, PipeReader)> {
    let (output, input): (PipeReader, PipeWriter) = pipe()?;
    let child = Command::new(env!("CARGO_BIN_EXE_trex"))
        .args(["watch", "--output", "json", "--server", &format!("http://{address}")])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, output))
}

impl Recorder {
    /// Reads what the program writes.
    pub(super) async fn read_program(mut self, plan: Plan, started: watch::Sender<Option<u32>>) -> Recording {
        let (mut child, output) = spawn(&plan.addresses[0]).expect("the client's program");
        started.send_replace(child.id());
        let output = Receiver::from_owned_fd(OwnedFd::from(output)).expect("a pipe");
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await.expect("a pipe") {
            if line.starts_with('{') {
                if self.received(Event::from_json(&line)) {
                    break;
                }
            } else if let Some(position) = line.strip_prefix("watching after revision ") {
                let (revision, epoch) = position.split_once(" of epoch ").expect("a position");
                let headers = Headers {
                    revision: revision.parse().expect("a revision"),
                    epoch: epoch.to_owned(),
                    seen: Instant::now(),
                };
                // It has moved on by bookmarks, too, of which it does not speak.
                let first = self.recording.streams.is_empty();
                let after_revision = (!first).then_some(headers.revision);
                self.begin(&plan, WatchDinosaursRequest { after_revision, ..plan.request.clone() }, headers);
            } else {
                assert!(line.starts_with("disconnected: "), "{}: {line}", plan.name);
            }
        }
        started.send_replace(None);
        child.kill().await.expect("a kill");
        self.recording
    }
}
