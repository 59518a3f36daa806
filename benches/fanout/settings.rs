//! What the settings of the server's loop do, each against the hub's own in turn.

use crate::{
    Options, Shape,
    contender::Contender,
    orders::Order,
    process::{Driver, Server},
    support::{
        report::{Report, Row},
        stats::median,
    },
    table::in_step,
};
use serde_json::json;

/// Name and arguments; the first is what the others are compared with.
const VARIANTS: [(&str, &[&str]); 7] = [
    ("the hub's loop", &[]),
    ("the bench's loop: lanes, nodelay", &["--own-loop", "lanes"]),
    ("the bench's loop: one runtime that steals", &["--own-loop", "stealing"]),
    ("the bench's loop: lanes, Nagle's algorithm", &["--own-loop", "lanes", "--nagle"]),
    ("send buffer 16 KiB", &["--send-buffer", "16384"]),
    ("send buffer 400 KiB (hyper's default)", &["--send-buffer", "409600"]),
    ("one lane", &["--lanes", "1"]),
];
/// Watchers that do not read, and what they are offered: more than any of the buffers.
const STOPPED: Shape = Shape { streams: 1000, connections: 1000 };
const FLOOD: Order = Order::Flood { batch: 256, appends: 20 };

#[derive(Default, Clone)]
struct Figures {
    rates: Vec<f64>,
    steps: Vec<f64>,
}

pub(crate) async fn program(options: Options) -> anyhow::Result<()> {
    // Each append waits for the last watcher: then the time between is a latency.
    let options = Options { appends: 1, ..options };
    let mut report = Report::new("fanout-settings");
    for &shape in &options.shapes {
        for &batch in &options.batches {
            let mut figures = vec![Figures::default(); VARIANTS.len()];
            for _ in 0..options.rounds {
                for ((_, arguments), figures) in VARIANTS.iter().zip(&mut figures) {
                    let server = Server::of_this_program(Contender::Hub, arguments).await?;
                    let mut driver = Driver::start(&server, shape, &[]).await?;
                    let (step, rate) = in_step(&options, &server, &mut driver, batch).await?;
                    figures.rates.push(rate);
                    figures.steps.push(step);
                    driver.stop().await?;
                    server.stop().await?;
                }
            }
            let Shape { streams, connections } = shape;
            report.table(
                &format!("{streams} streams on {connections} connections, {batch} events per append"),
                &rows(&figures),
            );
        }
    }
    report.table("Memory per watcher that does not read", &memory().await?);
    report.write()
}

fn rows(figures: &[Figures]) -> Vec<Row> {
    let Some(base) = figures.first() else { return Vec::new() };
    let ratio = |of: &[f64], base: &[f64]| {
        let ratios: Vec<f64> = of.iter().zip(base).map(|(of, base)| of / base).collect();
        json!(median(&ratios))
    };
    let row = |((name, _), figures): (&(&str, _), &Figures)| -> Row {
        vec![
            ("", json!(name)),
            ("M deliveries/CPU·s", json!(median(&figures.rates))),
            ("÷ the first", ratio(&figures.rates, &base.rates)),
            ("ms from append to the last watcher", json!(median(&figures.steps) * 1e3)),
            ("÷ the first's", ratio(&figures.steps, &base.steps)),
        ]
    };
    VARIANTS.iter().zip(figures).map(row).collect()
}

async fn memory() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, arguments) in VARIANTS {
        if !arguments.is_empty() && !arguments.contains(&"--send-buffer") {
            continue;
        }
        let server = Server::of_this_program(Contender::Hub, arguments).await?;
        let before = server.memory()?;
        let mut driver = Driver::start(&server, STOPPED, &["--stopped"]).await?;
        server.quiet().await;
        let idle = server.memory()?;
        driver.order(FLOOD).await?;
        server.quiet().await;
        let each = |after: u64| json!((after as f64 - before as f64) / 1e3 / STOPPED.streams as f64);
        rows.push(vec![
            ("", json!(name)),
            ("KB each, idle", each(idle)),
            ("KB each, after 5,120 events that it did not take", each(server.memory()?)),
        ]);
        driver.stop().await?;
        server.stop().await?;
    }
    Ok(rows)
}
