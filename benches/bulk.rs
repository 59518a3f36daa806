//! What a bulk load through the hub costs: rows a second through `ImportDinosaurs` and `BulkCreateDinosaurs`
//! against COPY into the same captured table with as many rows per transaction, COPY into a table that is not
//! captured, and a call per row; in turn, on a durable Postgres, with a hub that seals all the time.
//!
//! `cargo bench --bench bulk -- --rounds 5 --seconds 1.5`

mod support;

use anyhow::Context;
use clap::Parser;
use serde_json::json;
use std::{path::PathBuf, process::ExitCode, time::Duration};
use support::{
    cluster::Cluster,
    hub::HubProcess,
    loading::{self, BARE_TABLE, Load, Names, Outcome, Place, Way},
    report::{Report, Row},
    stats::{median, percentile},
};

const DATABASE: &str = "bulk";

#[derive(Parser)]
struct Arguments {
    /// Rounds, each of every way in turn, for each size of batch and number of streams
    #[arg(long, env = "BENCH_PAIRS", default_value_t = 5)]
    rounds: usize,
    /// Seconds per measurement
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 1.5)]
    seconds: f64,
    /// Rows per transaction
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000])]
    batches: Vec<u32>,
    /// Numbers of streams
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    streams: Vec<usize>,
    /// A directory on the disk to write to
    #[arg(long, env = "BENCH_DIR")]
    dir: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    support::run(program(Arguments::parse()))
}

async fn program(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = Cluster::start(arguments.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let session = cluster.connect(DATABASE).await?;
    session.batch_execute(&format!("CREATE TABLE {BARE_TABLE} (LIKE dinosaurs INCLUDING ALL)")).await?;
    drop(session);
    let names = Names::read()?;
    let lasting = Duration::try_from_secs_f64(arguments.seconds)?;
    let (mut rates, mut parts) = (Vec::new(), Vec::new());
    for &batch in &arguments.batches {
        // A bulk creation's batches have the size that the hub was given.
        let hub =
            HubProcess::start(&cluster.url(DATABASE)?, &["--bulk-batch-size", &batch.to_string()]).await?;
        let place = Place { cluster: &cluster, database: DATABASE, hub: &hub };
        for &streams in &arguments.streams {
            let load = Load { streams, batch, lasting };
            let outcomes = rounds(arguments.rounds, load, &names, &place).await?;
            rates.push(rates_of(load, &outcomes));
            parts.extend(Way::ALL.map(|way| parts_of(load, way, &outcomes)));
        }
        hub.stop().await?;
    }
    let mut report = Report::new("bulk");
    let (rounds, seconds) = (arguments.rounds, arguments.seconds);
    report.table(&format!("Rows a second: medians of {rounds} rounds of {seconds} s in turn"), &rates);
    report.table("Processor time until all is sealed, microseconds a row: medians", &parts);
    report.write()?;
    cluster.stop().await
}

/// Of each way, the outcome of every round.
type Outcomes = Vec<(Way, Vec<Outcome>)>;

/// Every way in turn; which comes first changes from round to round.
async fn rounds(count: usize, load: Load, names: &Names, place: &Place<'_>) -> anyhow::Result<Outcomes> {
    let mut outcomes: Outcomes = Way::ALL.map(|way| (way, Vec::new())).into();
    let ways = outcomes.len();
    for round in 0..count {
        for turn in 0..ways {
            let (way, of_way) = outcomes.get_mut((round + turn) % ways).context("a way")?;
            of_way.push(loading::run(*way, load, names, place).await?);
        }
    }
    Ok(outcomes)
}

fn of_way(outcomes: &Outcomes, wanted: Way) -> impl Iterator<Item = &Outcome> {
    outcomes.iter().filter(move |(way, _)| *way == wanted).flat_map(|(_, outcomes)| outcomes)
}

fn rates_of(load: Load, outcomes: &Outcomes) -> Row {
    let rates = |way| of_way(outcomes, way).map(|outcome| outcome.rate).collect::<Vec<_>>();
    // Within a round, so that what slows both slows neither.
    let ratios_of = |rate: fn(&Outcome) -> f64, way, base| -> Vec<f64> {
        of_way(outcomes, way).zip(of_way(outcomes, base)).map(|(one, base)| rate(one) / rate(base)).collect()
    };
    let ratios = |way, base| ratios_of(|outcome| outcome.rate, way, base);
    let import = ratios(Way::Import, Way::Copy);
    let sealed = ratios_of(|outcome| outcome.sealed_rate, Way::Import, Way::Copy);
    vec![
        ("batch", json!(load.batch)),
        ("streams", json!(load.streams)),
        ("bare COPY", json!(median(&rates(Way::BareCopy)))),
        ("COPY", json!(median(&rates(Way::Copy)))),
        ("import", json!(median(&rates(Way::Import)))),
        ("bulk create", json!(median(&rates(Way::BulkCreate)))),
        ("calls", json!(median(&rates(Way::Calls)))),
        ("import ÷ COPY", json!(median(&import))),
        ("lowest", json!(percentile(&import, 0.0))),
        ("highest", json!(percentile(&import, 1.0))),
        ("until sealed", json!(median(&sealed))),
        ("bulk create ÷ COPY", json!(median(&ratios(Way::BulkCreate, Way::Copy)))),
        ("import ÷ bare COPY", json!(median(&ratios(Way::Import, Way::BareCopy)))),
        ("COPY ÷ bare COPY", json!(median(&ratios(Way::Copy, Way::BareCopy)))),
        ("import ÷ calls", json!(median(&ratios(Way::Import, Way::Calls)))),
    ]
}

fn parts_of(load: Load, way: Way, outcomes: &Outcomes) -> Row {
    let part = |pick: fn(&Outcome) -> f64| median(&of_way(outcomes, way).map(pick).collect::<Vec<_>>());
    let parts =
        [part(|outcome| outcome.cpu[0]), part(|outcome| outcome.cpu[1]), part(|outcome| outcome.cpu[2])];
    vec![
        ("batch", json!(load.batch)),
        ("streams", json!(load.streams)),
        ("way", json!(way.name())),
        ("hub", json!(parts[0])),
        ("Postgres", json!(parts[1])),
        ("this program", json!(parts[2])),
        ("sum", json!(parts.iter().sum::<f64>())),
    ]
}
