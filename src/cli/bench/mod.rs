//! `trex bench`: a small load on the user's own hub and database, measured from outside, as a client would.

mod load;
mod report;
mod rows;

use super::access::AccessOptions;
use super::listeners::GRPC;
use super::{
    duration,
    failure::{Listener, explain},
    print::{Output, print, say},
};
use crate::client::Hub;
use anyhow::Context;
use load::{Load, Written};
use report::Report;
use rows::Rows;
use std::{process::ExitCode, time::Duration};
use tonic::Status;

/// The load is small, so that the latency it shows is not its own queue.
const MOST_WATCHERS: i64 = 1_000;
const MOST_WRITERS: i64 = 64;

/// Measure a hub and its database with a small load: writers, watchers, and how long an event takes
///
/// Writers create dinosaurs over gRPC, watchers see them come. The rows are called trex-bench/…, other
/// watches of the hub see them too, and they are deleted at the end, after Ctrl-C too. It measures this
/// machine and the way to the hub as well: a client that is short of processors shows as latency.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    /// The hub
    #[arg(long, env = "TREX_SERVER", default_value = format!("http://{GRPC}"), value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// How long to write
    #[arg(long = "for", default_value = "10s", value_parser = duration, value_name = "TIME")]
    span: Duration,
    /// Rows a second, of all writers together; 0: as many as they can
    #[arg(long, default_value_t = 200, value_name = "ROWS")]
    rate: u32,
    /// Writers, each with a connection and one call at a time
    #[arg(
        long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=MOST_WRITERS),
        value_name = "N"
    )]
    writers: u32,
    /// Watchers, each with a connection
    #[arg(
        long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=MOST_WATCHERS),
        value_name = "N"
    )]
    watchers: u32,
    /// Only delete what runs that were killed have left behind; no other may be under way
    #[arg(long)]
    clean: bool,
    /// How to write the result; JSON is one object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Bench {
    /// Exit code 3: some event did not arrive.
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let hub = self.access.hub(&self.server)?;
        let rows = if self.clean { Rows::of_all_runs() } else { Rows::of_this_run() };
        if self.clean {
            let deleted = self.delete(&hub, &rows).await?;
            print(&format!("{deleted} rows deleted\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        // Always, and a failure of the load is reported before one of the clean-up.
        let measured = self.measure(&hub, &rows).await;
        let cleaned = self.delete(&hub, &rows).await;
        let report = measured?;
        match self.output {
            Output::Text => print(&report.text())?,
            Output::Json => print(&format!("{}\n", report.json()))?,
        };
        cleaned?;
        Ok(if report.missing() == 0 { ExitCode::SUCCESS } else { ExitCode::from(3) })
    }

    async fn measure(&self, hub: &Hub, rows: &Rows) -> anyhow::Result<Report> {
        let failed = |status: Status| explain(&self.server, Listener::Api, &status);
        let load = Load { span: self.span, rate: self.rate, writers: self.writers };
        tokio::select! {
            watching = load::watch(hub, rows, self.watchers) => {
                let watching = watching.map_err(failed)?;
                let written: Written = load.write(hub, rows).await.map_err(failed)?;
                let received = watching.finish(written.acknowledged()).await;
                Ok(Report::new(self.watchers, &written, received))
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                anyhow::bail!("interrupted before the load began")
            }
        }
    }

    async fn delete(&self, hub: &Hub, rows: &Rows) -> anyhow::Result<u64> {
        let deleting = async { rows.delete(hub.connect().await?).await };
        let left = "rows called trex-bench/… are left: `trex bench --clean` deletes them";
        tokio::select! {
            deleted = deleting => deleted.map_err(|status| explain(&self.server, Listener::Api, &status)).context(left),
            _ = tokio::signal::ctrl_c() => {
                say(left);
                anyhow::bail!("interrupted while it cleaned up")
            }
        }
    }
}
