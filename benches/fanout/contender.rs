//! What is compared, by name.

use clap::ValueEnum;

/// A way to bring events to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Contender {
    /// The hub's log, broker, metrics, limits and server; events appended to the log
    Hub,
    /// The release binary; events inserted into Postgres
    HubPostgres,
    /// Ceiling: an HTTP/2 body of slices of one static segment, without a broker
    Body,
    /// Ceiling: tonic's encoder with ready messages, without a broker
    Tonic,
    /// Ceiling: the same bytes through TCP alone
    Tcp,
    /// A queue per subscriber, events encoded once
    QueueOnce,
    /// A queue per subscriber, events encoded for each
    QueueEach,
    /// etcd's watch
    Etcd,
    /// NATS core
    Nats,
    /// NATS JetStream, a push consumer each, stream in memory
    JetStream,
    /// Redis pub/sub
    Redis,
}

impl Contender {
    /// All, in the order of the table: the first is what the others are compared with.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// For the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Hub => "trex, appended to the log",
            Self::HubPostgres => "trex, through Postgres",
            Self::Body => "ceiling: HTTP/2 body",
            Self::Tonic => "ceiling: tonic's encoder",
            Self::Tcp => "ceiling: raw TCP",
            Self::QueueOnce => "queue each, encoded once",
            Self::QueueEach => "queue each, encoded each",
            Self::Etcd => "etcd",
            Self::Nats => "NATS core",
            Self::JetStream => "NATS JetStream",
            Self::Redis => "Redis pub/sub",
        }
    }

    /// As on a command line of this program.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What its client speaks.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Hub | Self::HubPostgres | Self::QueueOnce | Self::QueueEach => Protocol::Watch,
            Self::Body | Self::Tonic => Protocol::Counted,
            Self::Tcp => Protocol::Bytes,
            Self::Etcd => Protocol::Etcd,
            Self::Nats => Protocol::Nats,
            Self::JetStream => Protocol::JetStream,
            Self::Redis => Protocol::Redis,
        }
    }
}

/// What a client speaks. Each checks that events come in order and none twice, as far as they are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// The hub's watch; every revision is looked at
    Watch,
    /// The same call; the messages are all the same, and are counted
    Counted,
    /// Bytes; a connection each
    Bytes,
    /// gRPC of etcd
    Etcd,
    /// Text of NATS
    Nats,
    /// Text of NATS, with a consumer each
    JetStream,
    /// RESP; a connection each
    Redis,
}

impl Protocol {
    /// Whether a connection carries one stream at most.
    pub(crate) fn has_one_stream_each(self) -> bool {
        matches!(self, Self::Bytes | Self::Redis)
    }

    /// As on a command line of this program.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
