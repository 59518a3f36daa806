//! A session that changes dinosaurs at random and keeps a journal of what it did.

use super::history::{Change, Outcome, Row, Statement, Transaction};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Config, Error, NoTls};
use trex::model::ChangeType;

/// A table that nobody watches: one row per committed transaction.
pub const MARKS: &str = "CREATE TABLE public.marks (mark text PRIMARY KEY)";

/// Rows in one statement, at most.
const MOST_ROWS: usize = 24;
/// A writer with more rows than this forgets some.
const MOST_OWN: usize = 400;

const INSERT: &str = "INSERT INTO dinosaurs (id, species) SELECT id, $2 FROM unnest($1::text[]) id
    RETURNING id, species, (extract(epoch FROM updated_at) * 1000000)::bigint";
const UPDATE: &str =
    "UPDATE dinosaurs SET species = $2 || '<' || split_part(species, '<', 1) WHERE id = ANY ($1::text[])
    RETURNING id, species, (extract(epoch FROM updated_at) * 1000000)::bigint";
const REKEY: &str = "UPDATE dinosaurs SET id = id || '~',
                     species = $2 || '<' || split_part(species, '<', 1) WHERE id = ANY ($1::text[])
    RETURNING id, species, (extract(epoch FROM updated_at) * 1000000)::bigint";
const DELETE: &str = "DELETE FROM dinosaurs WHERE id = ANY ($1::text[]) AND $2::text IS NOT NULL
    RETURNING id, species, (extract(epoch FROM updated_at) * 1000000)::bigint";

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    /// Gives rows another key.
    Rekey,
    Delete,
}

/// Connects under a name by which nobody takes it for a session of the hub.
pub async fn session(url: &str) -> Result<Client, Error> {
    let mut config: Config = url.parse()?;
    config.application_name("writer");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A transaction under way, and its journal.
pub struct Open<'a> {
    client: &'a Client,
    journal: Transaction,
    statements: usize,
}

impl<'a> Open<'a> {
    pub async fn begin(client: &'a Client, mark: String) -> Result<Self, Error> {
        client.batch_execute("BEGIN").await?;
        let journal =
            Transaction { mark, statements: Vec::new(), commit_sent: None, outcome: Outcome::RolledBack };
        Ok(Self { client, journal, statements: 0 })
    }

    /// Runs a statement and notes what it says that it changed. Returns the ids as they are now.
    pub async fn run(&mut self, verb: Verb, ids: &[String]) -> Result<Vec<String>, Error> {
        let sql = match verb {
            Verb::Insert => INSERT,
            Verb::Update => UPDATE,
            Verb::Rekey => REKEY,
            Verb::Delete => DELETE,
        };
        self.statements += 1;
        let mark = format!("{}.{}", self.journal.mark, self.statements);
        let sent = Instant::now();
        let rows = self.client.query(sql, &[&ids, &mark]).await?;
        let (mut changes, mut now) = (Vec::new(), Vec::new());
        for row in rows {
            let (id, content): (String, Row) = (row.get(0), Row::new(row.get::<_, String>(1), row.get(2)));
            note(&mut changes, verb, &id, content);
            now.push(id);
        }
        if !changes.is_empty() {
            self.journal.statements.push(Statement { sent, changes });
        }
        Ok(now)
    }

    pub async fn savepoint(&self) -> Result<usize, Error> {
        self.client.batch_execute("SAVEPOINT s").await?;
        Ok(self.journal.statements.len())
    }

    /// Undoes, also in the journal, what came after the savepoint.
    pub async fn roll_back_to(&mut self, savepoint: usize) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK TO SAVEPOINT s").await?;
        self.journal.statements.truncate(savepoint);
        Ok(())
    }

    /// Sends COMMIT and loses the connection before an answer.
    async fn commit_and_hang_up(mut self) -> Transaction {
        let mark = self.client.execute("INSERT INTO marks VALUES ($1)", &[&self.journal.mark]).await;
        if mark.is_ok() {
            self.journal.commit_sent = Some(Instant::now());
            // The first poll hands the message to the connection.
            let answer = tokio::time::timeout(Duration::ZERO, self.client.batch_execute("COMMIT")).await;
            drop(answer);
            self.journal.outcome = Outcome::Unknown;
        }
        self.journal
    }

    pub async fn commit(mut self) -> Transaction {
        let mark = self.client.execute("INSERT INTO marks VALUES ($1)", &[&self.journal.mark]).await;
        if mark.is_ok() {
            self.journal.commit_sent = Some(Instant::now());
            self.journal.outcome = match self.client.batch_execute("COMMIT").await {
                Ok(()) => Outcome::Committed { acknowledged: Some(Instant::now()) },
                Err(_) => Outcome::Unknown,
            };
        }
        self.journal
    }

    pub async fn roll_back(self) -> Result<Transaction, Error> {
        self.client.batch_execute("ROLLBACK").await?;
        Ok(self.journal)
    }

    /// The connection was lost before COMMIT was sent.
    fn lost(self) -> Transaction {
        self.journal
    }
}

fn note(changes: &mut Vec<Change>, verb: Verb, id: &str, content: Row) {
    use ChangeType::{Created, Deleted, Updated};
    let before = content.mark_before().map(str::to_owned);
    let created = |content| Change {
        change: Created,
        id: id.to_owned(),
        after: Some(content),
        before: None,
        took: None,
    };
    match verb {
        Verb::Insert => changes.push(created(content)),
        Verb::Update => changes.push(Change {
            change: Updated,
            id: id.to_owned(),
            after: Some(content),
            before,
            took: None,
        }),
        Verb::Rekey => {
            let old = id.strip_suffix('~').expect("a new key").to_owned();
            changes.push(Change { change: Deleted, id: old, after: None, before, took: None });
            changes.push(created(content));
        }
        // RETURNING shows the row as it was.
        Verb::Delete => changes.push(Change {
            change: Deleted,
            id: id.to_owned(),
            after: None,
            before: Some(content.mark().to_owned()),
            took: None,
        }),
    }
}

/// A writer with rows of its own, and some that it shares with all others.
pub struct Writer {
    name: String,
    url: String,
    random: fastrand::Rng,
    client: Option<Client>,
    own: Vec<String>,
    shared: Vec<String>,
    next: u64,
    pub journal: Vec<Transaction>,
}

impl Writer {
    pub fn new(name: &str, url: &str, shared: &[String], random: fastrand::Rng) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            random,
            client: None,
            own: Vec::new(),
            shared: shared.to_vec(),
            next: 0,
            journal: Vec::new(),
        }
    }

    /// Takes a name that no other writer of the run had.
    pub fn rename(&mut self, spell: usize) {
        self.name = format!("{}-{spell}", self.name);
    }

    /// One transaction. A lost connection is made anew at the next.
    pub async fn write(&mut self) {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => match session(&self.url).await {
                Ok(client) => client,
                Err(_) => return tokio::time::sleep(Duration::from_millis(20)).await,
            },
        };
        let hangs_up = self.random.f32() < 0.01;
        let before = self.own.clone();
        let mark = self.name_of_next();
        let Ok(mut open) = Open::begin(&client, mark).await else { return };
        let transaction = match self.statements(&mut open).await {
            Err(_) => open.lost(),
            Ok(()) if self.random.f32() < 0.05 => match open.roll_back().await {
                Ok(transaction) => transaction,
                Err(_) => return self.own = before,
            },
            Ok(()) if hangs_up => open.commit_and_hang_up().await,
            Ok(()) => open.commit().await,
        };
        match transaction.outcome {
            Outcome::Committed { .. } => {}
            Outcome::RolledBack => self.own = before,
            // Its rows may or may not be what they were: they are left alone from now on.
            Outcome::Unknown => self.own.retain(|id| before.contains(id) && !touches(&transaction, id)),
        }
        self.journal.push(transaction);
        self.client = (!hangs_up).then_some(client);
    }

    /// One transaction of one row, which must succeed.
    pub async fn insert_one(&mut self) {
        if self.client.is_none() {
            self.client = Some(session(&self.url).await.expect("a session"));
        }
        let (mark, id) = (self.name_of_next(), self.name_of_next());
        let client = self.client.as_ref().expect("just made");
        let mut open = Open::begin(client, mark).await.expect("BEGIN");
        open.run(Verb::Insert, &[id]).await.expect("a change");
        self.journal.push(open.commit().await);
    }

    async fn statements(&mut self, open: &mut Open<'_>) -> Result<(), Error> {
        // Most are short, as those of an API; others take their time and are open across seals.
        let (count, pause) = if self.random.f32() < 0.7 {
            (self.random.usize(1..=2), 0)
        } else {
            (self.random.usize(3..=7), 8)
        };
        // One shared row per transaction at the most, so that no two writers wait for each other.
        let shared = self.random.choice(&self.shared).cloned();
        for _ in 0..count {
            if self.random.f32() < 0.15 {
                let (savepoint, own) = (open.savepoint().await?, self.own.clone());
                self.statement(open, shared.as_ref()).await?;
                self.statement(open, shared.as_ref()).await?;
                if self.random.bool() {
                    open.roll_back_to(savepoint).await?;
                    self.own = own;
                }
            } else {
                self.statement(open, shared.as_ref()).await?;
            }
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(self.random.u64(0..=pause))).await;
            }
        }
        Ok(())
    }

    async fn statement(&mut self, open: &mut Open<'_>, shared: Option<&String>) -> Result<(), Error> {
        let rows = self.random.usize(1..=MOST_ROWS);
        match self.random.u8(0..10) {
            _ if self.own.is_empty() => drop(self.insert(open, rows).await?),
            0..=3 => drop(self.insert(open, rows).await?),
            4 => drop(open.run(Verb::Update, &["nobody".to_owned()]).await?),
            5..=6 => drop(open.run(Verb::Update, &self.some_of_mine(rows)).await?),
            7 => drop(open.run(Verb::Update, shared.map(std::slice::from_ref).unwrap_or_default()).await?),
            8 => {
                let ids = self.some_of_mine(rows.min(4));
                let now = open.run(Verb::Rekey, &ids).await?;
                self.own.retain(|id| !ids.contains(id));
                self.own.extend(now);
            }
            _ => {
                let ids = self.some_of_mine(rows);
                open.run(Verb::Delete, &ids).await?;
                self.own.retain(|id| !ids.contains(id));
            }
        }
        Ok(())
    }

    async fn insert(&mut self, open: &mut Open<'_>, rows: usize) -> Result<(), Error> {
        let ids: Vec<_> = (0..rows).map(|_| self.name_of_next()).collect();
        let now = open.run(Verb::Insert, &ids).await?;
        self.own.extend(now);
        if self.own.len() > MOST_OWN {
            self.own.drain(..MOST_OWN / 2);
        }
        Ok(())
    }

    fn some_of_mine(&mut self, most: usize) -> Vec<String> {
        self.random.choose_multiple(self.own.iter().cloned(), most)
    }

    /// Names that nobody had before, also not in a transaction that was rolled back.
    fn name_of_next(&mut self) -> String {
        self.next += 1;
        format!("{}-{}", self.name, self.next)
    }
}

fn touches(transaction: &Transaction, id: &str) -> bool {
    transaction.changes().any(|change| change.id == id)
}
