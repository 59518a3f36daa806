//! What is wrong with this machine: disk and ports.

use super::Finding;
use crate::{cli::serve::Serve, server};
use std::{io, path::Path};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Below this a database is close to a full disk.
const LITTLE: u64 = 1 << 30;
/// How long an answer from this machine may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Bytes that a user may still write there.
fn free(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Where initial states wait for their clients.
pub(super) fn spool(place: &Path, wanted: u64) -> Option<Finding> {
    let shown = place.display();
    // As the hub would: a file without a name.
    if let Err(error) = tempfile::tempfile_in(place) {
        let what =
            format!("no temporary file can be made in {shown} ({error}): no initial state can be sent");
        return Some(Finding::fault("spool", what, "name a directory that the hub may write to in TMPDIR"));
    }
    let free = free(place).ok()?;
    let what = || {
        let (free, wanted) = (mebibytes(free), mebibytes(wanted));
        format!("{shown} has {free} free, and initial states may take {wanted}")
    };
    (free < wanted).then(|| {
        Finding::warning(
            "spool-space",
            what(),
            "lower --max-state-spool-bytes, or name another place in TMPDIR",
        )
    })
}

/// Where the hub's own Postgres keeps its data, or where it will.
pub(super) fn data_dir(place: &Path) -> Option<Finding> {
    let there = place.ancestors().find(|path| path.exists())?;
    let free = free(there).ok()?;
    let what = || format!("{} has {} free, for a database that grows", there.display(), mebibytes(free));
    (free < LITTLE).then(|| Finding::warning("disk", what(), "make room, or name another --data-dir"))
}

/// Ports that another program has. A hub that already runs here holds its own ports: that is no fault.
pub(super) async fn ports(serve: &Serve) -> Vec<Finding> {
    let mut findings = Vec::new();
    let health = &serve.health_check_server_bindaddress;
    if is_a_hub(health).await {
        return findings;
    }
    for (flag, address) in serve.addresses() {
        if let Err(error) = server::bind(flag, address).await {
            let what = crate::error::chain(&error);
            let action = format!("end what listens there, or name another address with {flag}");
            findings.push(Finding::fault("port", what, action));
        }
    }
    findings
}

async fn is_a_hub(health: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(health).await?;
        stream
            .write_all(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(timeout(PATIENCE, ask).await, Ok(Ok(true)))
}
