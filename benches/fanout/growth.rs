//! How cost grows with the number of watchers: the hub's with each of them, the database's not at all.

use crate::{
    Options, Shape,
    contender::Contender,
    orders::Order,
    process::{Driver, Server},
    support::{
        cluster::Cluster,
        cpu,
        hub::HubProcess,
        limits::enough_open_files,
        report::{Report, Row},
        stats::median,
    },
};
use serde_json::json;
use std::time::Duration;

const DATABASE: &str = "growth";
const WATCHERS: [usize; 5] = [1, 10, 100, 1000, 10_000];

/// Microseconds of processor per event.
#[derive(Default)]
struct Costs {
    /// Of the hub, when events are appended to its log.
    log: Vec<f64>,
    /// Of the hub, when a transaction inserts each event.
    hub: Vec<f64>,
    /// And of its sessions.
    database: Vec<f64>,
}

pub(crate) async fn program(options: Options) -> anyhow::Result<()> {
    let watchers = if options.watchers.is_empty() { WATCHERS.to_vec() } else { options.watchers.clone() };
    let cluster = Cluster::start(options.dir.as_deref()).await?;
    cluster.create_database(DATABASE).await?;
    let mut costs: Vec<(usize, Costs)> =
        watchers.into_iter().filter(|&n| enough_open_files(n)).map(|n| (n, Costs::default())).collect();
    for _ in 0..options.rounds {
        for (watchers, costs) in &mut costs {
            costs.log.push(of_log(&options, *watchers).await?);
            let (hub, database) = through_postgres(&options, *watchers, &cluster).await?;
            costs.hub.push(hub);
            costs.database.push(database);
        }
    }
    let row = |(watchers, costs): &(usize, Costs)| -> Row {
        vec![
            ("watchers", json!(watchers)),
            ("log: hub µs/event", json!(median(&costs.log))),
            ("log: µs/delivery", json!(median(&costs.log) / *watchers as f64)),
            ("Postgres: hub µs/event", json!(median(&costs.hub))),
            ("µs/delivery", json!(median(&costs.hub) / *watchers as f64)),
            ("the hub's database sessions µs/event", json!(median(&costs.database))),
        ]
    };
    let mut report = Report::new("fanout-growth");
    let Options { rounds, seconds, .. } = options;
    report.table(
        &format!(
            "Processor time, events one at a time, a connection for each watcher: medians of {rounds} \
             rounds of {seconds} s"
        ),
        &costs.iter().map(row).collect::<Vec<_>>(),
    );
    report.write()?;
    cluster.stop().await
}

fn one_by_one(options: &Options) -> Order {
    Order::InStep { batch: 1, appends: 1, time: Duration::from_secs_f64(options.seconds) }
}

async fn of_log(options: &Options, watchers: usize) -> anyhow::Result<f64> {
    let server = Server::of_this_program(Contender::Hub, &[]).await?;
    let mut driver = Driver::start(&server, Shape::alone(watchers), &[]).await?;
    let before = server.cpu();
    let outcome = driver.order(one_by_one(options)).await?;
    let spent = server.cpu().saturating_sub(before);
    driver.stop().await?;
    server.stop().await?;
    Ok(micros(spent) / outcome.events as f64)
}

async fn through_postgres(
    options: &Options,
    watchers: usize,
    cluster: &Cluster,
) -> anyhow::Result<(f64, f64)> {
    let url = cluster.url(DATABASE)?;
    let hub = HubProcess::start(&url, &[]).await?;
    // Before the client has a session: its work is the writer's.
    let backends = cluster.hub_backends(DATABASE).await?;
    let database_cpu = || backends.iter().map(|&pid| cpu::of_process(pid)).sum::<Duration>();
    let server = Server::of_hub(hub.pid()?, &hub.grpc, &url);
    let mut driver = Driver::start(&server, Shape::alone(watchers), &[]).await?;
    let (hub_before, database_before) = (server.cpu(), database_cpu());
    let outcome = driver.order(one_by_one(options)).await?;
    let per_event = |time: Duration| micros(time) / outcome.events as f64;
    let costs = (
        per_event(server.cpu().saturating_sub(hub_before)),
        per_event(database_cpu().saturating_sub(database_before)),
    );
    driver.stop().await?;
    hub.stop().await?;
    Ok(costs)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
