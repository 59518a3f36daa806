//! What is known of a run: what watchers recorded, and what the writers themselves know. Never what the hub's
//! own tables say.

use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};
use tonic::{Code, Status};
use trex::{
    model::{ChangeType, Selector},
    proto::rh_trex::v1::{Dinosaur, DinosaurWatchEvent, WatchDinosaursRequest},
};

/// A row's content. Its species is `mark` or `mark<mark of the content before>`: so a writer that updates a
/// row learns from what the statement returns which content it replaced, whoever wrote that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub species: String,
    /// Microseconds since 1970.
    pub updated_at: i64,
}

impl Row {
    pub fn new(species: impl Into<String>, updated_at: i64) -> Self {
        Self { species: species.into(), updated_at }
    }

    /// Names this content among all that the row ever had.
    pub fn mark(&self) -> &str {
        self.species.split('<').next().unwrap_or_default()
    }

    /// The mark of the content before.
    pub fn mark_before(&self) -> Option<&str> {
        self.species.split('<').nth(1)
    }
}

impl From<Dinosaur> for Row {
    fn from(dinosaur: Dinosaur) -> Self {
        let at = dinosaur.metadata.unwrap_or_default().updated_at.unwrap_or_default();
        Self::new(dinosaur.species, at.seconds * 1_000_000 + i64::from(at.nanos) / 1000)
    }
}

/// An event as a watcher received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: u64,
    pub change: ChangeType,
    pub id: String,
    pub after: Option<Row>,
    pub previous: Option<Row>,
    pub dropped_before: u64,
    /// As on the wire: 0 says one.
    pub conflated: u64,
    /// See [`Change::took`].
    pub took: Option<String>,
}

impl Event {
    /// How many events it stands for, itself included.
    pub fn stands_for(&self) -> u64 {
        self.conflated.max(1)
    }

    pub fn key(&self) -> Key {
        Key::new(self.change, &self.id, self.after.as_ref()).taking(self.took.clone())
    }

    /// As `trex watch --output json` writes it.
    pub fn from_json(line: &str) -> Self {
        let json: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let change = match json["type"].as_str() {
            Some("CREATED") => ChangeType::Created,
            Some("UPDATED") => ChangeType::Updated,
            Some("DELETED") => ChangeType::Deleted,
            other => panic!("{other:?}"),
        };
        let row = |row: &Value| {
            let at: jiff::Timestamp = text(&row["metadata"]["updated_at"]).parse().expect("a time");
            Row::new(text(&row["species"]), at.as_microsecond())
        };
        Self {
            revision: json["revision"].as_u64().expect("a number"),
            change,
            id: text(&json["resource_id"]),
            after: (!json["dinosaur"].is_null()).then(|| row(&json["dinosaur"])),
            previous: None,
            dropped_before: json["dropped_before"].as_u64().expect("a number"),
            conflated: json["conflated"].as_u64().expect("a number"),
            took: None,
        }
    }
}

impl From<DinosaurWatchEvent> for Event {
    fn from(event: DinosaurWatchEvent) -> Self {
        Self {
            revision: event.revision,
            change: ChangeType::from_number(event.r#type).expect("a type that every client knows"),
            id: event.resource_id,
            after: event.dinosaur.map(Row::from),
            previous: event.previous.map(Row::from),
            dropped_before: event.dropped_before,
            conflated: event.conflated,
            took: None,
        }
    }
}

/// Tells a change from all others of a run: contents have marks, and no id is deleted twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(ChangeType, String, Option<String>, Option<String>);

impl Key {
    pub fn new(change: ChangeType, id: &str, after: Option<&Row>) -> Self {
        Self(change, id.to_owned(), after.map(|row| row.mark().to_owned()), None)
    }

    fn taking(self, took: Option<String>) -> Self {
        Self(self.0, self.1, self.2, took)
    }
}

/// What the response headers said, and when they were there.
#[derive(Debug, Clone)]
pub struct Headers {
    pub revision: u64,
    pub epoch: String,
    pub seen: Instant,
}

/// A BOOKMARK as a watcher received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    pub revision: u64,
    /// How many events were delivered before it.
    pub at: usize,
    pub dropped_before: u64,
    pub seen: Instant,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client ended it after the last event that there was to come.
    Finished,
    /// The client ended it before.
    Left,
    /// The hub ended it.
    Hub { code: Code, retry_info: bool, revision: Option<u64>, dropped: Option<u64> },
}

/// One recorded stream.
#[derive(Debug, Clone)]
pub struct Stream {
    pub name: String,
    pub request: WatchDinosaursRequest,
    /// The `grpc-timeout` of the call.
    pub timeout: Option<Duration>,
    /// Whether this reader stopped reading on purpose: only such a one may lose events.
    pub stalls: bool,
    pub headers: Headers,
    /// The rows that it began with.
    pub state: Vec<(String, Row)>,
    pub events: Vec<Event>,
    pub bookmarks: Vec<Bookmark>,
    pub end: End,
    /// What the hub said when it ended the stream.
    pub status: Option<Status>,
}

impl Stream {
    pub fn selector(&self) -> Selector {
        let types: Vec<_> =
            self.request.types.iter().filter_map(|&number| ChangeType::from_number(number)).collect();
        Selector::new(&types, self.request.resource_ids.clone())
    }

    /// What the stream itself says that it lost.
    pub fn dropped(&self) -> u64 {
        let told = self.events.iter().map(|event| event.dropped_before);
        told.chain(self.bookmarks.iter().map(|bookmark| bookmark.dropped_before)).sum()
    }

    /// What it was told to have lost right before an event: by the event, or by bookmarks before it.
    pub fn told_before(&self, event: usize) -> u64 {
        let by_event = self.events.get(event).map_or(0, |event| event.dropped_before);
        let bookmarks = self.bookmarks.iter().filter(|bookmark| bookmark.at == event);
        by_event + bookmarks.map(|bookmark| bookmark.dropped_before).sum::<u64>()
    }

    /// How many events were not delivered, for newer ones that stand for them.
    pub fn conflated(&self) -> u64 {
        self.events.iter().map(|event| event.stands_for() - 1).sum()
    }

    /// The revision up to which it must be complete.
    pub fn up_to(&self) -> u64 {
        let last = self.events.last().map_or(self.headers.revision, |event| event.revision);
        let last = self.bookmarks.last().map_or(last, |bookmark| bookmark.revision.max(last));
        match self.end {
            End::Hub { revision: Some(revision), .. } => revision.max(last),
            _ => last,
        }
    }
}

/// All streams of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub streams: Vec<Stream>,
}

/// A change as its writer knows it.
#[derive(Debug, Clone)]
pub struct Change {
    pub change: ChangeType,
    pub id: String,
    pub after: Option<Row>,
    /// The mark of the content that it replaced or deleted.
    pub before: Option<String>,
    /// In what a filter shows, the mark of the content that a DELETED took: a row may leave a filter more
    /// than once.
    pub took: Option<String>,
}

impl Change {
    pub fn key(&self) -> Key {
        Key::new(self.change, &self.id, self.after.as_ref()).taking(self.took.clone())
    }
}

/// A statement's changes. Within it only one order is promised: deletes before creates.
#[derive(Debug, Clone)]
pub struct Statement {
    pub sent: Instant,
    pub changes: Vec<Change>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `None`: it was found committed later, for the acknowledgement was lost.
    Committed {
        acknowledged: Option<Instant>,
    },
    RolledBack,
    /// COMMIT was sent, and the connection was lost before an answer.
    Unknown,
}

/// A transaction as its writer knows it, without what it undid by ROLLBACK TO.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Also a row of a table that nobody watches, written by the same transaction: there afterwards if, and
    /// only if, it committed.
    pub mark: String,
    pub statements: Vec<Statement>,
    pub commit_sent: Option<Instant>,
    pub outcome: Outcome,
}

impl Transaction {
    pub fn is_committed(&self) -> bool {
        matches!(self.outcome, Outcome::Committed { .. })
    }

    pub fn acknowledged(&self) -> Option<Instant> {
        match self.outcome {
            Outcome::Committed { acknowledged } => acknowledged,
            _ => None,
        }
    }

    /// When its first change was asked for.
    pub fn first_sent(&self) -> Option<Instant> {
        self.statements.first().map(|statement| statement.sent)
    }

    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.statements.iter().flat_map(|statement| &statement.changes)
    }
}

/// What the writers know, and the table as it is at the end.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub transactions: Vec<Transaction>,
    pub table: BTreeMap<String, Row>,
}

impl Journal {
    pub fn committed(&self) -> impl Iterator<Item = (usize, &Transaction)> {
        self.transactions.iter().enumerate().filter(|(_, transaction)| transaction.is_committed())
    }

    /// Decides the unknown outcomes by the marks that are there, and checks the known ones against them.
    pub fn resolve(&mut self, marks: &HashSet<String>) {
        for transaction in &mut self.transactions {
            let there = marks.contains(&transaction.mark);
            match transaction.outcome {
                Outcome::Unknown if there => transaction.outcome = Outcome::Committed { acknowledged: None },
                Outcome::Unknown => transaction.outcome = Outcome::RolledBack,
                known => assert_eq!(
                    there,
                    transaction.is_committed(),
                    "transaction {}, known as {known:?}",
                    transaction.mark
                ),
            }
        }
    }
}

/// Where a change stands in the journal.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub transaction: usize,
    pub statement: usize,
    pub change: &'a Change,
}

/// A history and a journal with their indexes, which all validators use.
pub struct Evidence<'a> {
    pub history: &'a History,
    pub journal: &'a Journal,
    /// The committed changes.
    pub book: HashMap<Key, Entry<'a>>,
    /// Every revision that some stream delivered, by epoch: what it names.
    pub numbering: HashMap<&'a str, BTreeMap<u64, &'a Event>>,
    /// And by what it names.
    pub numbers: HashMap<(&'a str, Key), u64>,
}

impl<'a> Evidence<'a> {
    pub fn new(history: &'a History, journal: &'a Journal) -> Self {
        let mut book = HashMap::new();
        for (number, transaction) in journal.committed() {
            for (at, statement) in transaction.statements.iter().enumerate() {
                for change in &statement.changes {
                    let entry = Entry { transaction: number, statement: at, change };
                    assert!(
                        book.insert(change.key(), entry).is_none(),
                        "the journal is ambiguous: {change:?}"
                    );
                }
            }
        }
        let mut numbering = HashMap::<_, BTreeMap<_, _>>::new();
        let mut numbers = HashMap::new();
        for stream in &history.streams {
            let epoch = stream.headers.epoch.as_str();
            let known = numbering.entry(epoch).or_default();
            known.extend(stream.events.iter().map(|event| (event.revision, event)));
            numbers.extend(stream.events.iter().map(|event| ((epoch, event.key()), event.revision)));
        }
        Self { history, journal, book, numbering, numbers }
    }

    pub fn entry(&self, event: &Event) -> Option<Entry<'a>> {
        self.book.get(&event.key()).copied()
    }

    pub fn transaction(&self, entry: Entry<'_>) -> &'a Transaction {
        &self.journal.transactions[entry.transaction]
    }

    /// The events that this stream wants among those that are known after one revision and up to another.
    pub fn wanted(&self, stream: &Stream, after: u64, up_to: u64) -> impl Iterator<Item = &'a Event> {
        let selector = stream.selector();
        let known = self.numbering.get(stream.headers.epoch.as_str());
        known
            .into_iter()
            .flat_map(move |known| known.range(after + 1..up_to.max(after) + 1))
            .map(|(_, event)| *event)
            .filter(move |event| selector.matches(event.change, &event.id))
    }
}
