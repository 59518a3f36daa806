//! Keeps the policy as its file has it.

use crate::{
    auth::{Policy, PolicyCell},
    tls::{self, FileFault},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The file is looked at this often, and on SIGHUP.
const LOOK: Duration = Duration::from_secs(10);

/// Reads a policy. An error is one line.
pub fn read_policy(path: &Path) -> Result<Policy, FileFault> {
    read(path).and_then(|content| parse(path, &content))
}

fn read(path: &Path) -> Result<String, FileFault> {
    String::from_utf8(tls::read(path)?).map_err(|_| FileFault::new(path, "is no UTF-8"))
}

fn parse(path: &Path, content: &str) -> Result<Policy, FileFault> {
    Policy::parse(content).map_err(|error| FileFault::new(path, error.to_string().replace('\n', " ")))
}

/// Follows the file, until `stop`. What has changed is taken whole or not at all.
pub(crate) async fn follow(path: PathBuf, cell: PolicyCell, stop: CancellationToken) {
    let follow = async {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let (mut taken, mut told) = (String::new(), String::new());
        loop {
            match read(&path).and_then(|content| Ok((parse(&path, &content)?, content))) {
                Ok((_, content)) if content == taken => told.clear(),
                Ok((policy, content)) => {
                    let rules = policy.rules().len();
                    cell.replace(policy);
                    tracing::info!(file = %path.display(), rules, "a policy is in force");
                    (taken, told) = (content, String::new());
                }
                Err(fault) => {
                    let fault = fault.to_string();
                    if fault != told {
                        tracing::error!(fault, "the policy cannot be used: the one before stays");
                        told = fault;
                    }
                }
            }
            let rung = async {
                match &mut hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = rung => {}
            }
        }
    };
    stop.run_until_cancelled(follow).await;
}
