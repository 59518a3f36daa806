//! The table: deliveries per second of the server's processor.

use crate::{
    Options, Shape,
    contender::Contender,
    orders::Order,
    peers,
    process::{Driver, Server},
    support::{
        cluster::Cluster,
        hub::HubProcess,
        report::{Report, Row},
        stats::{median, percentile},
    },
};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

const DATABASE: &str = "fanout";

/// Million deliveries per second of processor, one of each round in which it ran.
type Figures = HashMap<(usize, u64, Contender), Vec<(usize, f64)>>;

pub(crate) async fn program(options: Options) -> anyhow::Result<()> {
    let wanted = |contender: &&Contender| options.only.is_empty() || options.only.contains(contender);
    let mut contenders: Vec<Contender> = Contender::all().iter().filter(wanted).copied().collect();
    let cluster = if contenders.contains(&Contender::HubPostgres) {
        let cluster = Cluster::start(options.dir.as_deref()).await?;
        cluster.create_database(DATABASE).await?;
        Some(cluster)
    } else {
        None
    };
    let mut figures = Figures::new();
    for round in 0..options.rounds {
        for (place, &shape) in options.shapes.iter().enumerate() {
            // Whoever comes first in one round comes later in the next.
            contenders.rotate_left(round.min(1));
            let mut absent = Vec::new();
            for &contender in &contenders {
                if contender == Contender::Tcp && shape.connections < shape.streams {
                    continue;
                }
                let found = measure(&options, contender, shape, cluster.as_ref()).await?;
                if found.is_empty() {
                    absent.push(contender);
                }
                for (batch, figure) in found {
                    figures.entry((place, batch, contender)).or_default().push((round, figure));
                }
            }
            contenders.retain(|contender| !absent.contains(contender));
        }
    }
    let mut report = Report::new("fanout");
    for (place, shape) in options.shapes.iter().enumerate() {
        for &batch in &options.batches {
            let rows: Vec<Row> = Contender::all()
                .iter()
                .filter_map(|&contender| row(&figures, place, batch, contender))
                .collect();
            let Shape { streams, connections } = shape;
            let Options { rounds, seconds, appends, .. } = options;
            report.table(
                &format!(
                    "{streams} streams on {connections} connections, {batch} events per append, {appends} \
                     appends until all are \
                     waited for: million deliveries per second of the server's processor, medians of \
                     {rounds} rounds of {seconds} s in turn"
                ),
                &rows,
            );
        }
    }
    report.write()?;
    match cluster {
        Some(cluster) => cluster.stop().await,
        None => Ok(()),
    }
}

fn row(figures: &Figures, place: usize, batch: u64, contender: Contender) -> Option<Row> {
    let found = figures.get(&(place, batch, contender))?;
    let values: Vec<f64> = found.iter().map(|(_, figure)| *figure).collect();
    // Within a round, so that what slows both slows neither.
    let against = |hub: Contender| -> Value {
        let of_hub = figures.get(&(place, batch, hub)).map(Vec::as_slice).unwrap_or_default();
        let ratios: Vec<f64> = found
            .iter()
            .filter_map(|(round, figure)| {
                let (_, hub) = of_hub.iter().find(|(other, _)| other == round)?;
                Some(hub / figure)
            })
            .collect();
        if ratios.is_empty() {
            return json!("-");
        }
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|share| percentile(&ratios, share));
        json!(format!("{middle:.2} ({low:.2}–{high:.2})"))
    };
    Some(vec![
        ("", json!(contender.label())),
        ("M/CPU·s", json!(median(&values))),
        ("lowest", json!(percentile(&values, 0.0))),
        ("highest", json!(percentile(&values, 1.0))),
        ("trex's log ÷ this", against(Contender::Hub)),
        ("trex with Postgres ÷ this", against(Contender::HubPostgres)),
    ])
}

/// One run of a contender, each size of append in turn; nothing if it is a peer that is not installed.
async fn measure(
    options: &Options,
    contender: Contender,
    shape: Shape,
    cluster: Option<&Cluster>,
) -> anyhow::Result<Vec<(u64, f64)>> {
    let (hub, server) = match (contender, cluster) {
        (Contender::HubPostgres, Some(cluster)) => {
            let url = cluster.url(DATABASE)?;
            let hub = HubProcess::start(&url, &[]).await?;
            let server = Server::of_hub(hub.pid()?, &hub.grpc, &url);
            (Some(hub), Some(server))
        }
        _ => (None, peers::start(contender).await?),
    };
    let Some(server) = server else { return Ok(Vec::new()) };
    let mut driver = Driver::start(&server, shape, &[]).await?;
    let mut found = Vec::new();
    for &batch in &options.batches {
        let (_, rate) = in_step(options, &server, &mut driver, batch).await?;
        eprintln!("{} {}x{} {batch}: {rate:.2}", contender.name(), shape.streams, shape.connections);
        found.push((batch, rate));
    }
    driver.stop().await?;
    server.stop().await?;
    if let Some(hub) = hub {
        let dropped = hub.metrics().await?.value("grpc_stream_events_dropped_total");
        anyhow::ensure!(dropped == 0.0, "{dropped} events dropped");
        hub.stop().await?;
    }
    Ok(found)
}

/// A warm-up, then the measurement: seconds per append until all had it, and million deliveries per second of
/// processor.
pub(crate) async fn in_step(
    options: &Options,
    server: &Server,
    driver: &mut Driver,
    batch: u64,
) -> anyhow::Result<(f64, f64)> {
    let order =
        |seconds| Order::InStep { batch, appends: options.appends, time: Duration::from_secs_f64(seconds) };
    driver.order(order(options.seconds / 8.0)).await?;
    let before = server.cpu();
    let outcome = driver.order(order(options.seconds)).await?;
    let spent = server.cpu().saturating_sub(before).as_secs_f64();
    Ok((outcome.seconds * batch as f64 / outcome.events as f64, outcome.deliveries as f64 / spent / 1e6))
}
