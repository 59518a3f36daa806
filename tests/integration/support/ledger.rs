//! What was captured, as a hub reads it: sealed, in order, and replayed, so that a row's events out of order
//! do not pass.

use super::Database;
use serde_json::Value;
use std::collections::HashMap;
use trex::{
    model::{ChangeType, Revision},
    store::{Driven, HubConnection, LogPosition, PageBound, Target, migrate},
};

/// A trigger of `thing`'s own, after each row.
pub const OWN_TRIGGER: &str =
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER nothing AFTER INSERT OR UPDATE OR DELETE ON thing FOR EACH ROW EXECUTE FUNCTION nothing()";

/// The ways in which a table is captured; `hub.capture_mode` says which and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Statement,
    /// By row, for the table has a trigger of its own.
    Triggered,
    /// By row, for a cascade leads back to the table.
    Cascading,
}

impl Variant {
    pub const ALL: [Self; 3] = [Self::Statement, Self::Triggered, Self::Cascading];
    /// What partitioned tables can have.
    pub const PARTITIONED: [Self; 2] = [Self::Statement, Self::Triggered];

    fn mode(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Triggered | Self::Cascading => "row",
        }
    }

    /// What makes `thing` be captured so.
    fn reason(self) -> &'static str {
        match self {
            Self::Statement => "",
            Self::Triggered => OWN_TRIGGER,
            // A foreign key to itself, of the primary key: every row refers to itself.
            Self::Cascading => {
                "DO $$ DECLARE keys text := (SELECT string_agg(quote_ident(k), ', ') FROM unnest(hub.key_columns('thing')) k);
                 BEGIN EXECUTE format('ALTER TABLE thing ADD FOREIGN KEY (%1$s) REFERENCES thing (%1$s) ON UPDATE CASCADE', keys); END $$"
            }
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    pub revision: u64,
    pub kind: String,
    pub id: String,
    pub change: ChangeType,
    pub after: Option<Value>,
    pub before: Option<Value>,
}

impl Captured {
    /// `+1`, `~1`, `-1`; the kind stands before it, unless it is `Thing`.
    pub fn short(&self) -> String {
        let sign = match self.change {
            ChangeType::Created => '+',
            ChangeType::Updated => '~',
            ChangeType::Deleted => '-',
            ChangeType::Snapshot => '=',
            ChangeType::Schema => '!',
        };
        let kind = if self.kind == "Thing" { "" } else { &self.kind };
        format!("{kind}{sign}{}", self.id)
    }
}

/// A database with the hub's schema and no hub, and what its log says.
pub struct Ledger {
    pub database: Database,
    pub session: Driven,
    hub: HubConnection,
    position: LogPosition,
    /// By kind and id: the rows according to the log.
    rows: HashMap<(String, String), Value>,
}

impl Ledger {
    /// On a database of the run's cluster.
    pub async fn create() -> Self {
        Self::on(Database::create().await).await
    }

    /// On this database.
    pub async fn on(database: Database) -> Self {
        database.without_event_triggers().await;
        migrate(&database.target(), &[]).await.expect("the hub's schema");
        let session = database.connect().await;
        let hub = HubConnection::open(&database.target()).await.expect("a hub's connection");
        Self { database, session, hub, position: LogPosition::after(Revision::ZERO), rows: HashMap::new() }
    }

    /// On this database, whose schema belongs to a role, and so do the sessions.
    pub async fn on_as(database: Database, role: &str) -> Self {
        let target = database.target_as(role);
        migrate(&target, &[]).await.expect("the hub's schema");
        let session = target.open().await.expect("a session");
        let hub = HubConnection::open(&target).await.expect("a hub's connection");
        Self { database, session, hub, position: LogPosition::after(Revision::ZERO), rows: HashMap::new() }
    }

    /// With a table `thing`, made by this statement, as the kind `Thing`.
    pub async fn with_thing(variant: Variant, create: &str) -> Self {
        let ledger = Self::create().await;
        ledger.run(create).await;
        ledger.run(variant.reason()).await;
        assert_eq!(ledger.mode("thing").await, variant.mode());
        ledger.watch("Thing", "thing").await;
        ledger
    }

    /// Watches a table.
    pub async fn watch(&self, kind: &str, table: &str) {
        self.session
            .execute("SELECT hub.watch($1, $2::text::regclass)", &[&kind, &table])
            .await
            .expect("a table that can be watched");
        assert_eq!(self.faults(kind).await, Vec::<String>::new(), "watched just now");
    }

    /// What is wrong with the capture of a kind.
    pub async fn faults(&self, kind: &str) -> Vec<String> {
        let rows = self.session.query("SELECT fault FROM hub.capture_faults($1)", &[&kind]).await;
        rows.expect("faults are told and not raised").iter().map(|row| row.get(0)).collect()
    }

    /// How a table is captured.
    pub async fn mode(&self, table: &str) -> String {
        let row = self.session.query_one("SELECT hub.capture_mode($1::text::regclass)", &[&table]).await;
        row.expect("a table").get(0)
    }

    /// Runs statements. As one message they are one transaction, unless they say otherwise.
    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.session.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// Everything captured since the last call, each row beginning as the event before left it.
    pub async fn take(&mut self) -> Vec<Captured> {
        let taken = self.take_raw().await;
        taken.iter().for_each(|captured| self.replay(captured));
        taken
    }

    /// Everything captured since the last call, of a table whose rows may have changed otherwise too.
    pub async fn take_raw(&mut self) -> Vec<Captured> {
        let sealed = self.hub.seal().await.expect("a seal");
        let mut taken = Vec::new();
        while self.position.revision < sealed.revision {
            let rows = self.hub.read(&mut self.position, PageBound::HUB).await.expect("sealed rows");
            assert!(
                !rows.is_empty(),
                "the log ends at {}, before {}",
                self.position.revision,
                sealed.revision
            );
            for row in &rows {
                let change = row.change().expect("a change");
                let parse = |json: Option<&str>| json.map(|json| serde_json::from_str(json).expect("JSON"));
                let captured = Captured {
                    revision: change.revision.get(),
                    kind: change.kind.to_owned(),
                    id: change.resource_id.to_owned(),
                    change: change.change,
                    after: parse(change.after),
                    before: parse(change.before),
                };
                taken.push(captured);
            }
        }
        taken
    }

    /// Everything captured since the last call, in short and in order.
    pub async fn take_short(&mut self) -> Vec<String> {
        self.take().await.iter().map(Captured::short).collect()
    }

    /// Exactly this was captured since the last call, in this order.
    pub async fn expect(&mut self, expected: &[&str]) {
        assert_eq!(self.take_short().await, expected);
    }

    /// Each event must begin with the row as the one before left it.
    fn replay(&mut self, captured: &Captured) {
        if captured.change == ChangeType::Schema {
            return;
        }
        let key = (captured.kind.clone(), captured.id.clone());
        let known = match &captured.after {
            Some(after) => self.rows.insert(key, after.clone()),
            None => self.rows.remove(&key),
        };
        assert_eq!(known, captured.before, "out of order: {captured:?}");
    }

    /// What the log says of a kind's rows is what the table holds.
    pub async fn check(&self, kind: &str, table: &str) {
        let rows = self.session.query(&format!("SELECT to_json(x.*)::text FROM {table} x"), &[]).await;
        let mut truth: Vec<String> = rows
            .expect("the table")
            .iter()
            .map(|row| serde_json::from_str::<Value>(row.get(0)).expect("JSON").to_string())
            .collect();
        let of_kind = self.rows.iter().filter(|((of, _), _)| of == kind);
        let mut told: Vec<String> = of_kind.map(|(_, row)| row.to_string()).collect();
        truth.sort();
        told.sort();
        assert_eq!(told, truth, "what the log says of {table}");
    }
}

impl Database {
    /// A role of this database's own; roles are the cluster's, so its name has the database's in it.
    pub async fn role(&self, name: &str, options: &str) -> String {
        let session = self.connect().await;
        let row =
            session.query_one("SELECT current_database() || '_' || $1", &[&name]).await.expect("a name");
        let role: String = row.get(0);
        session.batch_execute(&format!("CREATE ROLE {role} LOGIN {options}")).await.expect("a role");
        role
    }

    /// A hub here finds what was altered only when it looks.
    pub async fn without_event_triggers(&self) {
        let sql = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET hub.event_triggers = off', current_database()); END $$";
        self.connect().await.batch_execute(sql).await.expect("a setting");
    }

    /// As a hub or a writer with this role is told of it.
    pub fn target_as(&self, role: &str) -> Target {
        Target::parse(&self.url().replacen("postgres@", &format!("{role}@"), 1)).expect("a URL of our own")
    }
}
