//! A second kind, to see that nothing in the hub is made for dinosaurs: a composite key, jsonb, numeric,
//! NULLs and a large text.

use super::PATIENCE;
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{future::poll_fn, sync::Arc};
use trex::{
    broker::{Step, Subscription},
    catalog::{Kind, Renderer, Unreadable},
    faces::ServedKind,
    faces::grpc::Grpc,
    model::{Revision, Table},
    service::UseCases,
    store::{Migration, Scope},
};

/// The event of a [`Fossil`].
#[derive(Clone, PartialEq, Message)]
pub struct FossilEvent {
    #[prost(int32, tag = 1)]
    pub change: i32,
    #[prost(message, optional, tag = 2)]
    pub fossil: Option<Fossil>,
    #[prost(string, tag = 3)]
    pub resource_id: String,
    #[prost(uint64, tag = 4)]
    pub revision: u64,
    #[prost(uint64, tag = 6)]
    pub dropped_before: u64,
    #[prost(message, optional, tag = 7)]
    pub previous: Option<Fossil>,
}

/// A row; numbers and jsonb as the database writes them.
#[derive(Clone, PartialEq, Message)]
pub struct Fossil {
    #[prost(string, tag = 1)]
    pub site: String,
    #[prost(int32, tag = 2)]
    pub number: i32,
    #[prost(string, optional, tag = 3)]
    pub details: Option<String>,
    #[prost(string, optional, tag = 4)]
    pub weight: Option<String>,
    #[prost(string, optional, tag = 5)]
    pub note: Option<String>,
    #[prost(string, tag = 6)]
    pub scan: String,
}

#[derive(Deserialize)]
struct Row<'a> {
    site: String,
    number: i32,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
    #[serde(borrow)]
    weight: Option<&'a RawValue>,
    note: Option<String>,
    scan: String,
}

fn read(json: &str) -> Result<Fossil, Unreadable> {
    let Row { site, number, details, weight, note, scan } = serde_json::from_str(json)?;
    let text = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
    Ok(Fossil { site, number, details: text(details), weight: text(weight), note, scan })
}

/// How fossils are written, in whatever table they are.
pub struct FossilRows;

impl Renderer for FossilRows {
    fn message(&self, row: &str, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        read(row)?.encode(out).expect("a Vec grows");
        Ok(())
    }
}

/// A kind of fossils in a table of its own.
pub fn fossil_kind(name: &'static str, table: &'static str, migrations: &'static [Migration]) -> Kind {
    Kind {
        table: Table::new(name, table, "site"),
        schema: Arc::default(),
        scope: Some(Scope { name, migrations, table: Some(table) }),
        since: Revision::ZERO,
        renderer: Arc::new(FossilRows),
        attached: None,
    }
}

/// The kind.
pub struct Fossils;

impl ServedKind for Fossils {
    fn kind(&self) -> Kind {
        const MIGRATIONS: &[Migration] = &[Migration {
            version: 1,
            name: "fossils",
            sql:
                "CREATE TABLE public.fossils (site text, number int, details jsonb, weight numeric, note text,
                    scan text NOT NULL DEFAULT '', PRIMARY KEY (site, number))",
        }];
        fossil_kind("Fossil", "public.fossils", MIGRATIONS)
    }

    fn serve(&self, _: &UseCases, _: &mut Grpc) {}
}

/// The next `count` events of a subscription, or more if they come in one piece.
pub async fn fossils(subscription: &mut Subscription, count: usize) -> Vec<FossilEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        let step = tokio::time::timeout(*PATIENCE, poll_fn(|cx| subscription.poll_next(cx))).await;
        match step.expect("an event") {
            Step::Frames(frames) => events.extend(messages(&frames)),
            Step::End(ending) => panic!("ended: {ending:?}"),
        }
    }
    events
}

pub fn messages(mut frames: &[u8]) -> Vec<FossilEvent> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = frames.split_first_chunk::<5>() {
        let [compressed, length @ ..] = *header;
        assert_eq!(compressed, 0);
        let (message, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        messages.push(FossilEvent::decode(message).expect("an event"));
        frames = rest;
    }
    messages
}
