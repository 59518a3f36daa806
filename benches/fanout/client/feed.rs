//! How events come to a server.

use super::{Arguments, EVENT, etcd, nats, redis};
use crate::contender::Protocol;
use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use trex::store::{Driven, Target};

/// The bytes of a hub's event besides its species.
const BESIDE_SPECIES: usize = 132;

/// Where a client publishes.
pub(super) enum Feed {
    /// A server of this program, which is told how much to append.
    Control(TcpStream),
    /// A table that a hub watches.
    Postgres(Box<Driven>),
    /// etcd.
    Etcd(etcd::Publisher),
    /// NATS, core or JetStream.
    Nats(nats::Publisher),
    /// Redis.
    Redis(redis::Publisher),
}

impl Feed {
    /// As the arguments say.
    pub(super) async fn connect(arguments: &Arguments) -> anyhow::Result<Self> {
        if let Some(address) = arguments.feed.strip_prefix("control:") {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            return Ok(Self::Control(stream));
        }
        if let Some(url) = arguments.feed.strip_prefix("postgres:") {
            return Ok(Self::Postgres(Box::new(Target::parse(url)?.open().await?)));
        }
        Ok(match arguments.protocol {
            Protocol::Etcd => Self::Etcd(etcd::Publisher::connect(arguments).await?),
            Protocol::Nats | Protocol::JetStream => Self::Nats(nats::Publisher::connect(arguments).await?),
            Protocol::Redis => Self::Redis(redis::Publisher::connect(arguments).await?),
            other => bail!("{other:?} is published by its server"),
        })
    }

    /// Appends this many batches of this many events, the first of which has this number.
    pub(super) async fn publish(&mut self, first: u64, batch: u64, appends: u64) -> anyhow::Result<()> {
        if let Self::Control(stream) = self {
            stream.write_all(&[batch.to_be_bytes(), appends.to_be_bytes()].concat()).await?;
            // Done, or failed.
            return stream.read_u8().await.map(drop).context("the server's log");
        }
        for append in 0..appends {
            let first = first + append * batch;
            match self {
                Self::Control(_) => {}
                Self::Postgres(session) => {
                    let insert = format!(
                        "INSERT INTO dinosaurs (species) SELECT repeat('T', {})
                         FROM generate_series(1, {batch})",
                        EVENT - BESIDE_SPECIES
                    );
                    session.batch_execute(&insert).await?;
                }
                Self::Etcd(publisher) => publisher.publish(first, batch).await?,
                Self::Nats(publisher) => publisher.publish(first, batch).await?,
                Self::Redis(publisher) => publisher.publish(first, batch).await?,
            }
        }
        Ok(())
    }
}
