//! Lists: a filter means the same in SQL and in the hub, and orders are total.

use crate::{
    stress::random,
    support::{
        Database, TestHub,
        wire::{reason, violations},
    },
};
use std::collections::BTreeSet;
use tonic::Code;
use trex::proto::rh_trex::v1::{Dinosaur, EventType, ListDinosaursRequest, WatchDinosaursRequest};

/// Texts at which two comparisons may part.
const TEXTS: [&str; 22] = [
    "", "T", "t", "Trex", "TREX", "trex", "T*", "*", "T%x", "%", "T_ex", "_", "T\\x", "\\", "ä", "z", "Ä",
    "日本", "😀", "T 'x'", "\"", "a\nb",
];
/// The first is NULL.
const TIMES: [&str; 10] = [
    "",
    "infinity",
    "-infinity",
    "0044-03-15 00:00:00+00 BC",
    "0001-01-01 00:00:00+00",
    "1969-12-31 23:59:59.999999+00",
    "1970-01-01 00:00:00+00",
    "2026-11-20 08:00:00.000001+00",
    "9999-12-31 23:59:59.999999+00",
    "10000-01-01 00:00:00+00",
];
/// Those of them that a filter can say, and more.
const SAID: [&str; 7] = [
    "0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00Z",
    "1970-01-01T02:00:00+02:00",
    "2026-11-20T08:00:00.000001Z",
    "2026-11-20T08:00:00Z",
    "9999-12-31T23:59:59.999999Z",
];

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn quoted(text: &str, stars: (bool, bool)) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('*', r"\*");
    format!("\"{}{escaped}{}\"", if stars.0 { "*" } else { "" }, if stars.1 { "*" } else { "" })
}

fn test(random: &mut fastrand::Rng) -> String {
    if random.bool() {
        let field = pick(random, &["id", "species", "metadata.id"]);
        let text = pick(random, &TEXTS);
        return match random.u8(..3) {
            0 => {
                format!("{field} {} {}", pick(random, &["<", "<=", ">", ">="]), quoted(text, (false, false)))
            }
            1 => format!("{field}:{}", if random.bool() { "*".into() } else { quoted(text, (false, false)) }),
            _ => format!(
                "{field} {} {}",
                pick(random, &["=", "!="]),
                quoted(text, (random.bool(), random.bool()))
            ),
        };
    }
    let field = pick(random, &["created_at", "updated_at", "metadata.created_at"]);
    match random.u8(..6) {
        0 => format!("{field}:*"),
        _ => format!("{field} {} {}", pick(random, &["=", "!=", "<", "<=", ">", ">="]), pick(random, &SAID)),
    }
}

fn filter(random: &mut fastrand::Rng, depth: u8) -> String {
    match random.u8(..if depth == 0 { 1 } else { 5 }) {
        0 => test(random),
        1 => format!("{}({})", pick(random, &["NOT ", "-"]), filter(random, depth - 1)),
        2 => format!("({}) OR ({})", filter(random, depth - 1), filter(random, depth - 1)),
        3 => format!("({}) AND ({})", filter(random, depth - 1), filter(random, depth - 1)),
        _ => format!("{} {} OR {}", test(random), test(random), test(random)),
    }
}

/// A hub on rows of all those texts and times. Where the server can, the texts' own collation is one that is
/// blind to case.
async fn hub(database: &Database) -> TestHub {
    let hub = TestHub::start(database).await;
    let session = database.connect().await;
    session
        .batch_execute(
            "ALTER TABLE dinosaurs ALTER created_at DROP NOT NULL, ALTER updated_at DROP NOT NULL;
             DO $$ BEGIN
               CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
               ALTER TABLE dinosaurs ALTER species TYPE text COLLATE blind;
             EXCEPTION WHEN feature_not_supported OR undefined_object OR undefined_parameter
             OR invalid_parameter_value THEN NULL; END $$",
        )
        .await
        .unwrap();
    let (texts, times) = (TEXTS.map(str::to_owned).to_vec(), TIMES.map(str::to_owned).to_vec());
    session
        .execute(
            "INSERT INTO dinosaurs (id, species, created_at, updated_at)
             SELECT t || '/' || n, t, nullif(times[1 + (n + 3 * i) % 10], '')::timestamptz,
             nullif(times[1 + n % 10], '')::timestamptz
             FROM unnest($1::text[]) WITH ORDINALITY AS texts(t, i), generate_series(1, 10) n,
             (SELECT $2::text[] AS times) x",
            &[&texts, &times],
        )
        .await
        .unwrap();
    hub
}

async fn list(hub: &TestHub, filter: &str, order_by: &str, size: i32) -> Vec<Dinosaur> {
    let mut client = hub.client().await;
    let mut items = Vec::new();
    for page in 1.. {
        let request =
            ListDinosaursRequest { page, size, filter: filter.to_owned(), order_by: order_by.to_owned() };
        let listed =
            client.list_dinosaurs(request).await.unwrap_or_else(|status| panic!("{filter}: {status}"));
        let listed = listed.into_inner();
        let (total, empty) = (listed.metadata.unwrap().total, listed.items.is_empty());
        items.extend(listed.items);
        if empty || items.len() as i32 >= total {
            assert_eq!(items.len() as i32, total, "{filter}");
            return items;
        }
    }
    unreachable!("pages end")
}

fn id(dinosaur: &Dinosaur) -> String {
    dinosaur.metadata.clone().unwrap().id
}

/// What the hub itself says of the rows: those of an initial state.
async fn state(hub: &TestHub, filter: &str) -> BTreeSet<String> {
    let request =
        WatchDinosaursRequest { filter: filter.to_owned(), send_initial_state: true, ..Default::default() };
    let mut stream = loop {
        match hub.client().await.watch_dinosaurs(request.clone()).await {
            Ok(response) => break response.into_inner(),
            // The machine is busy with other tests, and an initial state must begin within a limit.
            Err(status) if status.code() == Code::Unavailable => println!("{status:?}"),
            Err(status) => panic!("{filter}: {status:?}"),
        }
    };
    let mut ids = BTreeSet::new();
    loop {
        let event = stream.message().await.unwrap().unwrap();
        match event.r#type() {
            EventType::Snapshot => assert!(ids.insert(event.resource_id)),
            _ => return ids,
        }
    }
}

#[tokio::test]
async fn the_database_and_the_hub_agree_on_every_filter() {
    let mut random = random("filters of lists");
    let database = Database::create().await;
    let hub = hub(&database).await;
    let (mut some, mut all) = (0, 0);
    for _ in 0..crate::stress::number("TREX_FILTERS", 150) {
        let filter = filter(&mut random, 3);
        let listed: BTreeSet<_> = list(&hub, &filter, "", 500).await.iter().map(id).collect();
        let state = state(&hub, &filter).await;
        assert_eq!(listed, state, "{filter}");
        some += usize::from(!listed.is_empty() && listed.len() < TEXTS.len() * TIMES.len());
        all += 1;
    }
    println!("{all} filters, {some} of which match some rows and not others");
    assert!(some > all / 3);
    hub.stop().await;
}

#[tokio::test]
async fn orders_are_total_and_go_by_bytes() {
    let database = Database::create().await;
    let hub = hub(&database).await;
    let time = |at: Option<prost_types::Timestamp>| at.map(|at| (at.seconds, at.nanos));
    let times = |row: &Dinosaur| {
        let metadata = row.metadata.clone().unwrap();
        (time(metadata.created_at), time(metadata.updated_at))
    };
    let filter = "created_at:* updated_at:*";
    let listed = list(&hub, filter, "species desc, metadata.created_at", 7).await;
    let mut sorted = listed.clone();
    sorted.sort_by(|a, b| b.species.cmp(&a.species).then(times(a).0.cmp(&times(b).0)));
    assert_eq!(listed, sorted);
    assert_eq!(listed.iter().map(id).collect::<BTreeSet<_>>().len(), listed.len(), "no row comes twice");
    let by_time = list(&hub, filter, "updated_at desc", 10).await;
    assert!(by_time.is_sorted_by(|a, b| times(a).1 >= times(b).1));
    assert_eq!(by_time, list(&hub, filter, "updated_at desc", 500).await, "however it is paged");
    for (filter, order_by, field) in [
        ("species", "", "filter"),
        ("type = CREATED", "", "filter"),
        ("", "species up", "order_by"),
        ("", "id;", "order_by"),
    ] {
        let request =
            ListDinosaursRequest { filter: filter.into(), order_by: order_by.into(), ..Default::default() };
        let status = hub.client().await.list_dinosaurs(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(violations(&status), [field]);
    }
    hub.stop().await;
}
