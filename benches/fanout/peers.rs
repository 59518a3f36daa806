//! The peers' servers, with their own defaults, on free ports and data that goes with them.

use crate::support::PATIENCE;
use crate::{contender::Contender, process::Server};
use anyhow::{Context, bail};
use std::{net::TcpListener, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    net::TcpStream,
    process::Command,
    time::{Instant, sleep},
};

/// A peer's program and Debian's package that has it.
fn program(contender: Contender) -> (&'static str, &'static str) {
    match contender {
        Contender::Etcd => ("etcd", "etcd-server"),
        Contender::Redis => ("redis-server", "redis-server"),
        _ => ("nats-server", "nats-server"),
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian has daemons, which a user's PATH may lack.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Starts a contender that needs no database; `None` if it is a peer that is not installed, which is said.
pub(crate) async fn start(contender: Contender) -> anyhow::Result<Option<Server>> {
    match contender {
        Contender::Etcd | Contender::Nats | Contender::JetStream | Contender::Redis => {
            start_peer(contender).await
        }
        _ => Server::of_this_program(contender, &[]).await.map(Some),
    }
}

async fn start_peer(contender: Contender) -> anyhow::Result<Option<Server>> {
    let (name, package) = program(contender);
    let Some(program) = find(name) else {
        println!("skipped: {} ({name} is not installed; Debian: apt install {package})", contender.label());
        return Ok(None);
    };
    // Tells a taken port at once, and another peer is not likely to take it in between.
    let [port, more] = [free_port()?, free_port()?];
    let data = tempfile::tempdir()?;
    let folder = data.path().to_str().context("a path that is text")?;
    let text = |port: u16| port.to_string();
    let arguments: Vec<String> = match contender {
        Contender::Etcd => [
            ("--data-dir", folder.to_owned()),
            ("--listen-client-urls", format!("http://127.0.0.1:{port}")),
            ("--advertise-client-urls", format!("http://127.0.0.1:{port}")),
            ("--listen-peer-urls", format!("http://127.0.0.1:{more}")),
            ("--initial-advertise-peer-urls", format!("http://127.0.0.1:{more}")),
            ("--initial-cluster", format!("default=http://127.0.0.1:{more}")),
            ("--max-txn-ops", "4096".to_owned()),
            ("--log-level", "error".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect(),
        Contender::Redis => vec![
            "--port".into(),
            text(port),
            "--bind".into(),
            "127.0.0.1".into(),
            "--save".into(),
            String::new(),
            "--maxclients".into(),
            "11000".into(),
            "--dir".into(),
            folder.into(),
        ],
        Contender::JetStream => {
            vec![
                "-a".into(),
                "127.0.0.1".into(),
                "-p".into(),
                text(port),
                "-js".into(),
                "-sd".into(),
                folder.into(),
            ]
        }
        _ => vec!["-a".into(), "127.0.0.1".into(), "-p".into(), text(port)],
    };
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let address = format!("127.0.0.1:{port}");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&address).await.is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("{name} has ended: {status}");
        }
        anyhow::ensure!(Instant::now() < deadline, "{name} does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    Server::of_peer(child, address, contender.protocol(), data).map(Some)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
