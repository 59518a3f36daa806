//! What the commands that ask a hub's admin listener share.

use super::{
    access::AccessOptions,
    failure::{Listener, explain},
    listeners::ADMIN,
    print::{Output, Reader, print, refresh, say},
};
use crate::{client::Link, proto::hub::v1::admin_service_client::AdminServiceClient};
use std::time::Duration;
use tonic::Status;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// An answer about 10,000 watches takes some megabytes.
const LARGEST_ANSWER: usize = 64 << 20;

/// Which hub, and how often.
#[derive(Debug, clap::Args)]
pub(super) struct Hub {
    /// The hub's admin listener
    #[arg(long, env = "TREX_ADMIN_SERVER", default_value = format!("http://{ADMIN}"), value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// Ask again this often; on a terminal the picture is refreshed
    #[arg(
        long, value_name = "TIME", num_args = 0..=1, default_missing_value = "1s", require_equals = true,
        value_parser = super::duration
    )]
    pub(super) watch: Option<Duration>,
}

impl Hub {
    /// A client, which connects when it is first used, and again when it has to.
    pub(super) fn client(&self) -> anyhow::Result<AdminServiceClient<Link>> {
        let hub = self.access.hub(&self.server)?.timeout(CALL_TIMEOUT);
        Ok(AdminServiceClient::new(hub.connect_lazy()).max_decoding_message_size(LARGEST_ANSWER))
    }

    /// Writes an answer, or one after another. Once one has come, a hub that does not answer is waited for.
    pub(super) async fn show(
        &self,
        output: Output,
        mut ask: impl AsyncFnMut() -> Result<String, Status>,
    ) -> anyhow::Result<()> {
        let mut text = ask().await.map_err(|status| self.explain(&status))?;
        loop {
            let reader = match (self.watch, output) {
                (Some(_), Output::Text) => refresh(&text)?,
                (None, _) | (_, Output::Json) => print(&text)?,
            };
            let (Some(pause), Reader::Reads) = (self.watch, reader) else { return Ok(()) };
            text = loop {
                tokio::time::sleep(pause).await;
                match (ask().await, output) {
                    (Ok(answer), _) => break answer,
                    (Err(status), Output::Text) => break format!("{}\n", self.explain(&status)),
                    (Err(status), Output::Json) => say(format!("trex: {}", self.explain(&status))),
                }
            };
        }
    }

    pub(super) fn explain(&self, status: &Status) -> anyhow::Error {
        explain(&self.server, Listener::Admin, status)
    }
}
