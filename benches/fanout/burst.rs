//! A burst in one transaction, to watchers that keep reading and ask for nothing special: nothing may be
//! lost.

use crate::{
    Options, Shape,
    orders::Order,
    process::{Driver, Server},
    support::{
        cluster::Cluster,
        hub::HubProcess,
        report::{Report, Row},
        stats::median,
    },
};
use anyhow::ensure;
use serde_json::json;
use std::time::Duration;

const DATABASE: &str = "burst";
const EVENTS: u64 = 10_000;
const WATCHERS: usize = 1000;

pub(crate) async fn program(options: Options) -> anyhow::Result<()> {
    let cluster = Cluster::start(options.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let url = cluster.url(DATABASE)?;
    let hub = HubProcess::start(&url, &[]).await?;
    let server = Server::of_hub(hub.pid()?, &hub.grpc, &url);
    let shapes = match options.watchers.as_slice() {
        [] => vec![Shape::alone(WATCHERS), Shape { streams: WATCHERS, connections: 10 }],
        given => given.iter().copied().map(Shape::alone).collect(),
    };
    let mut rows = Vec::new();
    for shape in shapes {
        rows.push(burst(&options, &server, &hub, shape).await?);
    }
    let mut report = Report::new("fanout-burst");
    let rounds = options.rounds;
    report.table(
        &format!("{EVENTS} events in one transaction, default request: medians of {rounds} bursts"),
        &rows,
    );
    report.write()?;
    hub.stop().await?;
    cluster.stop().await
}

async fn burst(options: &Options, server: &Server, hub: &HubProcess, shape: Shape) -> anyhow::Result<Row> {
    let mut driver = Driver::start(server, shape, &[]).await?;
    let (mut seconds, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let before = server.cpu();
        let order = Order::Trickle { batch: EVENTS, appends: 1, every: Duration::ZERO };
        let outcome = match driver.order(order).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let dropped = hub.metrics().await?.value("grpc_stream_events_dropped_total");
                return Err(error.context(format!("the hub has dropped {dropped} events")));
            }
        };
        // The client has waited for exactly these.
        ensure!(outcome.deliveries == EVENTS * shape.streams as u64, "{outcome:?}");
        seconds.push(outcome.seconds);
        rates.push(outcome.deliveries as f64 / server.cpu().saturating_sub(before).as_secs_f64() / 1e6);
    }
    driver.stop().await?;
    let dropped = hub.metrics().await?.value("grpc_stream_events_dropped_total");
    ensure!(dropped == 0.0, "{dropped} events dropped");
    Ok(vec![
        ("watchers", json!(shape.streams)),
        ("connections", json!(shape.connections)),
        ("delivered to each", json!(EVENTS)),
        ("dropped", json!(dropped as u64)),
        ("INSERT to the last, s", json!(median(&seconds))),
        ("M deliveries/CPU·s", json!(median(&rates))),
    ])
}
