//! What every load program needs: a durable Postgres, a hub in a process of its own, light watchers, paired
//! runs, a table and JSON.

#![allow(dead_code, unreachable_pub, reason = "a library, of which each program uses a part")]

pub mod broker;
pub mod cluster;
pub mod cpu;
pub mod hub;
pub mod limits;
pub mod loading;
pub mod pgbench;
pub mod report;
pub mod stats;
pub mod wire;

use std::{future::Future, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Nothing that a load program waits for takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a load program; Ctrl-C and `kill` end it in order, so that no Postgres stays behind.
pub fn run(program: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let body = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = program => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(body)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
