//! What it costs to hand an event to many: the hub, what bounds it, what it is compared with, and the peers
//! that are installed. Server and client are processes of their own, so that the server's processor time is
//! its own; machines are noisy, ratios within a run are not.
//!
//! `cargo bench --bench fanout` is the table; `-- memory`, `-- growth`, `-- burst` and `-- settings` are the
//! others.

mod burst;
mod client;
mod contender;
mod growth;
mod memory;
mod orders;
mod peers;
mod process;
mod server;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod table;

use clap::{Parser, Subcommand};
use contender::Contender;
use std::{path::PathBuf, process::ExitCode, str::FromStr};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    options: Options,
    /// Given by cargo
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Deliveries per second of the server's processor, of everything that can be compared (the default)
    Table,
    /// Memory of the hub per watcher: idle, stopped, and a crowd that each receives a trickle
    Memory,
    /// Processor time per event, against the number of watchers
    Growth,
    /// A burst in one transaction to watchers that keep reading
    Burst,
    /// What the settings of the server's loop do
    Settings,
    #[command(hide = true)]
    Serve(server::Arguments),
    #[command(hide = true)]
    Drive(client::Arguments),
}

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
struct Options {
    /// Rounds, each of every measurement in turn
    #[arg(long, env = "BENCH_PAIRS", default_value_t = 5, global = true)]
    rounds: usize,
    /// Seconds per measurement
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 2.0, global = true)]
    seconds: f64,
    /// Streams and connections, as 1000x1000
    #[arg(long, value_delimiter = ',', default_values = ["1000x1000", "100x10", "5000x10"], global = true)]
    shapes: Vec<Shape>,
    /// Events per append
    #[arg(long, value_delimiter = ',', default_values_t = [256, 16, 1], global = true)]
    batches: Vec<u64>,
    /// Appends in a row, until all watchers are waited for
    #[arg(long, default_value_t = 8, global = true)]
    appends: u64,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, global = true)]
    only: Vec<Contender>,
    /// Numbers of watchers, for memory and growth
    #[arg(long, value_delimiter = ',', global = true)]
    watchers: Vec<usize>,
    /// A directory on the disk that Postgres is to write to
    #[arg(long, env = "BENCH_DIR", global = true)]
    dir: Option<PathBuf>,
}

/// The number of streams, and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    streams: usize,
    connections: usize,
}

impl Shape {
    /// A connection for each.
    fn alone(streams: usize) -> Self {
        Self { streams, connections: streams }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|&number: &usize| number > 0);
        let (streams, connections) = text.split_once('x').unwrap_or((text, text));
        match (number(streams), number(connections)) {
            (Some(streams), Some(connections)) if connections <= streams => Ok(Self { streams, connections }),
            _ => Err("streams and connections are wanted, as 1000x10".to_owned()),
        }
    }
}

fn main() -> ExitCode {
    let Arguments { what, options, .. } = Arguments::parse();
    match what.unwrap_or(What::Table) {
        What::Table => support::run(table::program(options)),
        What::Memory => support::run(memory::program(options)),
        What::Growth => support::run(growth::program(options)),
        What::Burst => support::run(burst::program(options)),
        What::Settings => support::run(settings::program(options)),
        What::Serve(arguments) => support::run(server::program(arguments)),
        What::Drive(arguments) => client::run(arguments),
    }
}
