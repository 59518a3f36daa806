//! Memory of the release binary per watcher, as the kernel counts it: idle, not reading, and a crowd that is
//! served.

use crate::{
    Options, Shape,
    orders::Order,
    process::{Driver, Server},
    support::{
        cluster::Cluster,
        hub::HubProcess,
        limits::enough_open_files,
        report::{Report, Row},
    },
};
use serde_json::{Value, json};
use std::time::Duration;

const DATABASE: &str = "memory";
const WATCHERS: [usize; 2] = [1000, 10_000];
/// Streams on a shared connection.
const SHARING: usize = 100;
/// A window that a flood fills, so that it is as large before the watchers come as after.
const WINDOW: usize = 1 << 20;
const FLOOD: Order = Order::Flood { batch: 500, appends: 40 };
/// The trickle to a crowd.
const TRICKLE: Order = Order::Trickle { batch: 1, appends: 50, every: Duration::from_millis(100) };

pub(crate) async fn program(options: Options) -> anyhow::Result<()> {
    let watchers = if options.watchers.is_empty() { WATCHERS.to_vec() } else { options.watchers.clone() };
    let cluster = Cluster::start(options.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let mut rows = Vec::new();
    for streams in watchers {
        let shared = Shape { streams, connections: streams.div_ceil(SHARING) };
        rows.push(idle(&cluster, shared, json!(4)).await?);
        if enough_open_files(streams) {
            rows.extend(alone(&cluster, streams).await?);
        }
    }
    let mut report = Report::new("fanout-memory");
    report.table("Resident memory of the hub", &rows);
    report.write()?;
    cluster.stop().await
}

/// A hub with a window of this bench's size that has had a flood, and its memory.
async fn filled(cluster: &Cluster) -> anyhow::Result<(HubProcess, Server, u64)> {
    let url = cluster.url(DATABASE)?;
    let window = WINDOW.to_string();
    let hub = HubProcess::start(&url, &["--log-window-bytes", &window]).await?;
    let server = Server::of_hub(hub.pid()?, &hub.grpc, &url);
    let mut driver = Driver::start(&server, Shape::alone(1), &[]).await?;
    driver.order(FLOOD).await?;
    server.quiet().await;
    driver.stop().await?;
    let before = server.memory()?;
    Ok((hub, server, before))
}

async fn idle(cluster: &Cluster, shape: Shape, goal: Value) -> anyhow::Result<Row> {
    let (hub, server, before) = filled(cluster).await?;
    let driver = Driver::start(&server, shape, &[]).await?;
    server.quiet().await;
    let row = row("idle, on shared connections", shape, (before, server.memory()?), goal);
    driver.stop().await?;
    hub.stop().await?;
    Ok(row)
}

/// On connections of their own: idle, then served; and another such crowd that does not read.
async fn alone(cluster: &Cluster, streams: usize) -> anyhow::Result<Vec<Row>> {
    let shape = Shape::alone(streams);
    let (hub, server, before) = filled(cluster).await?;
    let mut driver = Driver::start(&server, shape, &[]).await?;
    server.quiet().await;
    let mut rows = vec![row("idle, on its own connection", shape, (before, server.memory()?), json!(20))];
    // Returns only when every watcher has every event.
    driver.order(TRICKLE).await?;
    rows.push(row("each received 50 events, 10 a second", shape, (before, server.memory()?), json!("-")));
    driver.stop().await?;
    hub.stop().await?;

    let (hub, server, before) = filled(cluster).await?;
    let mut driver = Driver::start(&server, shape, &["--stopped"]).await?;
    driver.order(FLOOD).await?;
    server.quiet().await;
    rows.push(row("not reading, after 20,000 events", shape, (before, server.memory()?), json!("-")));
    driver.stop().await?;
    hub.stop().await?;
    Ok(rows)
}

fn row(what: &str, shape: Shape, (before, after): (u64, u64), goal: Value) -> Row {
    let megabytes = |bytes: u64| json!(bytes as f64 / 1e6);
    vec![
        ("watchers", json!(what)),
        ("number", json!(shape.streams)),
        ("connections", json!(shape.connections)),
        ("MB before", megabytes(before)),
        ("MB with them", megabytes(after)),
        ("KB each", json!((after as f64 - before as f64) / 1e3 / shape.streams as f64)),
        ("goal, KB", goal),
    ]
}
