//! `trex subscriptions`.

use super::{
    admin::Hub,
    print::{Align, Output, optional_span, shown, span, table},
};
use crate::proto::hub::v1::{
    ListSubscriptionsRequest, ListSubscriptionsResponse, Subscription, SubscriptionState,
};
use serde_json::json;

/// List the open watches of a hub, the furthest behind first
#[derive(Debug, clap::Args)]
pub(super) struct Subscriptions {
    #[command(flatten)]
    hub: Hub,
    /// Only of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only in this state; may be given again
    #[arg(long = "state", value_enum, value_name = "STATE")]
    states: Vec<State>,
    /// Only those with at least this many events waiting
    #[arg(long, value_name = "EVENTS", default_value_t = 0)]
    min_lag: u64,
    /// At most this many
    #[arg(
        long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    limit: u32,
    /// How to write them; JSON is an object a line, with the watches in `subscriptions`
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum State {
    /// It is sent the rows that were there at its beginning
    Initial,
    /// It reads the retained history
    History,
    /// It is sent what happens
    Live,
    /// Events wait, and its connection takes no bytes
    Blocked,
    /// The hub ends it
    Ending,
}

impl From<State> for SubscriptionState {
    fn from(state: State) -> Self {
        match state {
            State::Initial => Self::Initial,
            State::History => Self::History,
            State::Live => Self::Live,
            State::Blocked => Self::Blocked,
            State::Ending => Self::Ending,
        }
    }
}

impl Subscriptions {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut client = self.hub.client()?;
        let request = ListSubscriptionsRequest {
            kind: self.kind.clone().unwrap_or_default(),
            states: self.states.iter().map(|&state| SubscriptionState::from(state).into()).collect(),
            min_lag_events: self.min_lag,
            page_size: self.limit,
        };
        self.hub
            .show(self.output, async || {
                let listed = client.list_subscriptions(request.clone()).await?.into_inner();
                Ok(match self.output {
                    Output::Text => text(&listed),
                    Output::Json => format!("{}\n", json(&listed)),
                })
            })
            .await
    }
}

const HEADINGS: [(&str, Align); 13] = [
    ("PEER", Align::Left),
    ("PRINCIPAL", Align::Left),
    ("KIND", Align::Left),
    ("WANTS", Align::Left),
    ("POLICY", Align::Left),
    ("STATE", Align::Left),
    ("REVISION", Align::Right),
    ("LAG", Align::Right),
    ("LAG TIME", Align::Right),
    ("SENT", Align::Right),
    ("DROPPED", Align::Right),
    ("AGE", Align::Right),
    ("ID", Align::Left),
];

fn text(listed: &ListSubscriptionsResponse) -> String {
    let rows: Vec<_> = listed.subscriptions.iter().map(row).collect();
    let shown = listed.subscriptions.len() as u64;
    let more = match listed.total_size.saturating_sub(shown) {
        0 => String::new(),
        more => format!("and {more} more: --limit, --kind, --state, --min-lag\n"),
    };
    table(&HEADINGS, &rows) + &more
}

fn row(open: &Subscription) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let time = |wire| dash(optional_span(wire).map(span).unwrap_or_default());
    vec![
        dash(shown(&open.peer)),
        dash(shown(&open.principal)),
        shown(&open.kind),
        shown(&wants(open)),
        policy(open),
        match optional_span(open.blocked_for) {
            Some(blocked) => format!("{} {}", state(open), span(blocked)),
            None => state(open),
        },
        open.revision.to_string(),
        open.lag_events.to_string(),
        time(open.lag),
        open.sent.to_string(),
        open.dropped.to_string(),
        time(open.age),
        shown(&open.id),
    ]
}

/// `all`, or what narrows it.
fn wants(open: &Subscription) -> String {
    let mut parts = Vec::new();
    if !open.types.is_empty() {
        parts.push(types(open).join("+"));
    }
    match open.resource_ids {
        0 => {}
        1 => parts.push("1 id".to_owned()),
        ids => parts.push(format!("{ids} ids")),
    }
    if !open.filter.is_empty() {
        parts.push(open.filter.clone());
    }
    if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
}

fn types(open: &Subscription) -> Vec<String> {
    open.types().map(|kind| kind.as_str_name().trim_start_matches("EVENT_TYPE_").to_owned()).collect()
}

fn policy(open: &Subscription) -> String {
    open.backpressure().as_str_name().trim_start_matches("BACKPRESSURE_POLICY_").to_lowercase()
}

fn state(open: &Subscription) -> String {
    open.state().as_str_name().trim_start_matches("SUBSCRIPTION_STATE_").to_lowercase()
}

fn json(listed: &ListSubscriptionsResponse) -> serde_json::Value {
    let seconds = |wire| optional_span(wire).map(|span| span.as_secs_f64());
    let subscription = |open: &Subscription| {
        json!({
            "id": open.id,
            "peer": open.peer,
            "principal": open.principal,
            "kind": open.kind,
            "types": types(open),
            "resource_ids": open.resource_ids,
            "filter": open.filter,
            "include_previous": open.include_previous,
            "backpressure": policy(open),
            "buffer": open.buffer,
            "state": state(open),
            "revision": open.revision,
            "lag_events": open.lag_events,
            "lag_seconds": seconds(open.lag),
            "sent": open.sent,
            "dropped": open.dropped,
            "age_seconds": seconds(open.age),
            "blocked_seconds": seconds(open.blocked_for),
        })
    };
    json!({
        "subscriptions": listed.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        "total_size": listed.total_size,
    })
}
