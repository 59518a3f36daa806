//! Lists the table again and again (`send_initial_state`), through whatever faults: what it gets must be the
//! table exactly as it was at the revision that the bookmark after it names.

use crate::{support::history::Stream, watcher::may_try_again, world::World};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{Status, transport::Endpoint};
use trex::proto::rh_trex::v1::{
    EventType, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
};

/// Between two lists.
const PAUSE: Duration = Duration::from_millis(150);
/// If a hub does not answer for this long, another is asked.
const LIMIT: Duration = Duration::from_secs(2);

/// A list as a hub gave it.
pub struct List {
    epoch: String,
    revision: u64,
    /// By id: the species.
    rows: BTreeMap<String, String>,
}

/// A lister at work.
pub struct Lister {
    enough: watch::Sender<bool>,
    task: JoinHandle<Vec<List>>,
}

impl Lister {
    pub fn start(world: &World) -> Self {
        let addresses: Vec<_> =
            world.hubs.iter().flat_map(|hub| [hub.plain.address, hub.clients.address]).collect();
        let (enough, told) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut lists = Vec::new();
            for address in addresses.iter().cycle() {
                if *told.borrow() {
                    break;
                }
                match timeout(LIMIT, list(&format!("http://{address}"))).await {
                    Ok(Ok(list)) => lists.extend(list),
                    Ok(Err(status)) => assert!(may_try_again(&status), "listing: {status:?}"),
                    Err(_) => {}
                }
                sleep(PAUSE).await;
            }
            lists
        });
        Self { enough, task }
    }

    pub async fn stop(self) -> Vec<List> {
        self.enough.send_replace(true);
        self.task.await.expect("a lister that does not panic")
    }
}

async fn list(url: &str) -> Result<Option<List>, Status> {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
    let Ok(channel) = endpoint.connect().await else { return Ok(None) };
    let request = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let response = DinosaurServiceClient::new(channel).watch_dinosaurs(request).await?;
    let header =
        |name| response.metadata().get(name).and_then(|value| value.to_str().ok()).expect("a header");
    let (epoch, revision) =
        (header("hub-epoch").to_owned(), header("hub-revision").parse().expect("a revision"));
    let (mut messages, mut rows) = (response.into_inner(), BTreeMap::new());
    while let Some(event) = messages.message().await? {
        match event.r#type() {
            EventType::Snapshot => {
                let species = event.dinosaur.expect("a row").species;
                let again = rows.insert(event.resource_id, species);
                assert!(again.is_none(), "a row came twice in a list: {again:?}");
            }
            EventType::Bookmark => {
                assert_eq!(event.revision, revision, "the state is that of the headers");
                return Ok(Some(List { epoch, revision, rows }));
            }
            other => panic!("{other:?} before the state was complete"),
        }
    }
    panic!("the hub ended a list with OK");
}

/// Holds lists against a stream that has everything since the table was empty.
pub fn check(mut lists: Vec<List>, whole: &Stream) {
    lists.sort_by_key(|list| list.revision);
    let (mut rows, mut events) = (BTreeMap::new(), whole.events.iter().peekable());
    for list in lists {
        assert_eq!(list.epoch, whole.headers.epoch);
        while let Some(event) = events.next_if(|event| event.revision <= list.revision) {
            match &event.after {
                Some(row) => rows.insert(event.id.clone(), row.species.clone()),
                None => rows.remove(&event.id),
            };
        }
        // Compared so that a failure says what differs and not all that is there.
        let differs = list.rows.iter().find(|(id, species)| rows.get(*id) != Some(species));
        assert!(differs.is_none(), "the list at {} has {differs:?}", list.revision);
        let missing = rows.keys().find(|id| !list.rows.contains_key(*id));
        assert!(missing.is_none(), "the list at {} has no {missing:?}", list.revision);
    }
}
