//! A watched table and the same table without a hub, side by side: the same random statements have the same
//! results, the same errors and leave the same rows, and what was captured of the watched one rebuilds it.
//!
//! `TREX_SIDE_BY_SIDE_ROUNDS` sets the number of rounds, `TREX_SIDE_BY_SIDE_SEED` the seed of the first; a
//! failure names its seed.

use crate::support::{Database, ledger::Ledger};
use fastrand::Rng;
use tokio_postgres::SimpleQueryMessage;
use trex::store::Driven;

const ROUNDS: u64 = 12;
const FIRST_SEED: u64 = 1;
const STATEMENTS: usize = 60;

const KEYS: [&str; 4] = ["int", "bigint", "text", "numeric"];

/// Types, and values of each: ordinary ones and odd ones.
const COLUMNS: [(&str, &[&str]); 14] = [
    ("text", &["''", "'a''b\"c'", "repeat('x', 9000)", "E'\\\\\\n'"]),
    ("json", &["'{}'", "'{\"a\" : 1.0, \"a\":2}'", "'[null]'"]),
    ("jsonb", &["'{}'", "'{\"a\":1e3}'", "'\"é\"'"]),
    ("numeric", &["'NaN'", "1.000", "-99999999999999999999.5"]),
    ("float8", &["'-0'", "'Infinity'", "0.1", "'NaN'"]),
    ("timestamptz", &["'infinity'", "'2020-06-01 12:00+02'", "'0044-03-15 BC'"]),
    ("date", &["'-infinity'", "'2020-02-29'"]),
    ("interval", &["'1 year -3 days'", "'-00:00:01.5'"]),
    ("bytea", &["'\\x00ff'::bytea", "''::bytea"]),
    ("text[]", &["'{}'", "'{NULL,\"a,b\"}'", "ARRAY[['x'],['y']]"]),
    ("int4range", &["'empty'", "'[1,5)'"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000001'"]),
    ("money", &["'12.34'", "'-1'"]),
    ("point", &["'(1,2)'", "'(NaN,0)'"]),
];

const CONSTRAINTS: [&str; 6] = [
    "UNIQUE (rank) DEFERRABLE INITIALLY DEFERRED",
    "UNIQUE (owner, rank)",
    "CHECK (rank < 12)",
    "EXCLUDE (rank WITH =) WHERE (chosen) DEFERRABLE INITIALLY DEFERRED",
    "FOREIGN KEY (parent) REFERENCES thing ON UPDATE CASCADE ON DELETE SET NULL",
    "FOREIGN KEY (parent) REFERENCES thing ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
];

/// When each fires, and what it does.
const TRIGGERS: [(&str, &str); 10] = [
    ("BEFORE INSERT OR UPDATE", "NEW.rank := NEW.rank + 1; RETURN NEW;"),
    ("BEFORE INSERT OR UPDATE", "IF NEW.rank % 7 = 0 THEN RETURN NULL; END IF; RETURN NEW;"),
    (
        "BEFORE INSERT OR UPDATE",
        "IF NEW.chosen AND pg_trigger_depth() < 2 THEN
           UPDATE thing SET chosen = false WHERE owner = NEW.owner AND chosen AND id <> NEW.id;
         END IF; RETURN NEW;",
    ),
    ("BEFORE INSERT", "IF NEW.owner = 3 THEN RAISE 'no third' USING ERRCODE = 'PT422'; END IF; RETURN NEW;"),
    ("BEFORE DELETE", "IF OLD.chosen THEN RETURN NULL; END IF; RETURN OLD;"),
    (
        "AFTER INSERT OR UPDATE",
        "IF pg_trigger_depth() < 3 THEN UPDATE thing SET rank = rank - 1 WHERE id = NEW.id AND rank > 5;
         END IF; RETURN NULL;",
    ),
    (
        "AFTER DELETE",
        "IF pg_trigger_depth() < 3 THEN UPDATE thing SET owner = 0 WHERE owner = OLD.owner; END IF;
         RETURN NULL;",
    ),
    ("AFTER UPDATE", "IF NEW.rank = 4 THEN DELETE FROM thing WHERE id = NEW.id; END IF; RETURN NULL;"),
    (
        "AFTER INSERT",
        "IF NEW.owner = 2 AND NEW.rank = 3 THEN RAISE 'late' USING ERRCODE = 'ZZ001'; END IF; RETURN NULL;",
    ),
    ("BEFORE UPDATE", "IF NEW.owner = 1 THEN NEW.chosen := NULL; END IF; RETURN NEW;"),
];

/// Of a session, a role or a database. What follows the first blank is the value.
const SETTINGS: [&str; 24] = [
    "search_path ''",
    "search_path pg_catalog,public",
    "search_path 'Odd schema',public",
    "standard_conforming_strings off",
    "datestyle 'German, DMY'",
    "intervalstyle iso_8601",
    "timezone 'Asia/Kathmandu'",
    "bytea_output escape",
    "extra_float_digits -5",
    "transform_null_equals on",
    "array_nulls off",
    "plpgsql.variable_conflict use_column",
    "plan_cache_mode force_generic_plan",
    "default_transaction_isolation serializable",
    "default_transaction_isolation 'repeatable read'",
    "default_transaction_deferrable on",
    "enable_seqscan off",
    "enable_hashjoin off",
    "check_function_bodies off",
    "xmloption document",
    "row_security off",
    "lc_monetary 'C'",
    "quote_all_identifiers on",
    "client_min_messages error",
];

/// A table as it is drawn, and what is run on it.
struct Round {
    rng: Rng,
    columns: Vec<(&'static str, &'static [&'static str])>,
    set_up: Vec<String>,
    settings: Vec<String>,
    text_key: bool,
}

impl Round {
    fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let key = KEYS[rng.usize(..KEYS.len())];
        let columns: Vec<_> = (0..rng.usize(1..5)).map(|_| COLUMNS[rng.usize(..COLUMNS.len())]).collect();
        let extra: String = columns.iter().enumerate().map(|(n, (of, _))| format!(", c{n} {of}")).collect();
        let constraints: String = rng
            .choose_multiple(CONSTRAINTS, 2)
            .iter()
            .filter(|_| !seed.is_multiple_of(3))
            .map(|constraint| format!(", {constraint}"))
            .collect();
        let mut set_up = vec![
            "CREATE SCHEMA \"Odd schema\"".to_owned(),
            format!(
                "CREATE TABLE thing (id {key} PRIMARY KEY, owner int, rank int, chosen boolean,
                   parent {key}{extra}{constraints})"
            ),
        ];
        let count = rng.usize(..4);
        for (n, (when, body)) in rng.choose_multiple(TRIGGERS, count).into_iter().enumerate() {
            set_up.push(format!(
                "CREATE FUNCTION f{n}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $f$
                 BEGIN {body} END $f$;
                 CREATE TRIGGER t{n} {when} ON thing FOR EACH ROW EXECUTE FUNCTION f{n}()"
            ));
        }
        if rng.u8(..4) == 0 {
            set_up.push(
                "ALTER TABLE thing ENABLE ROW LEVEL SECURITY; ALTER TABLE thing FORCE ROW LEVEL SECURITY;
                 CREATE POLICY p ON thing USING (owner IS DISTINCT FROM 2) WITH CHECK (rank <> 9)"
                    .to_owned(),
            );
        }
        let count = rng.usize(..4);
        let settings = rng.choose_multiple(SETTINGS, count);
        let settings = settings.iter().filter_map(|setting| setting.split_once(' '));
        let settings = settings.map(|(name, value)| format!("{name} = {value}")).collect();
        Self { rng, columns, set_up, settings, text_key: key == "text" }
    }

    fn key(&mut self) -> String {
        let n = self.rng.u8(1..9);
        if self.text_key { format!("'k/{n}'") } else { n.to_string() }
    }

    fn row(&mut self) -> String {
        let chosen = ["true", "false", "NULL"][self.rng.usize(..3)];
        let (owner, rank) = (self.rng.u8(..4), self.rng.u8(1..13));
        let (key, mut parent) = (self.key(), "NULL".to_owned());
        if self.rng.u8(..5) == 0 {
            parent = self.key();
        }
        let mut row = format!("({key}, {owner}, {rank}, {chosen}, {parent}");
        for n in 0..self.columns.len() {
            let (of, values) = self.columns[n];
            let value = if self.rng.u8(..6) == 0 { "NULL" } else { values[self.rng.usize(..values.len())] };
            row += &format!(", CAST({value} AS {of})");
        }
        row + ")"
    }

    fn rows(&mut self) -> String {
        (0..self.rng.usize(1..4)).map(|_| self.row()).collect::<Vec<_>>().join(", ")
    }

    fn change(&mut self) -> String {
        let rows = self.rows();
        let (one, other) = (self.key(), self.key());
        let rank = self.rng.u8(1..13);
        let column = self.rng.usize(..self.columns.len());
        let (of, values) = self.columns[column];
        let value = format!("CAST({} AS {of})", values[self.rng.usize(..values.len())]);
        match self.rng.u8(..14) {
            0..=3 => format!("INSERT INTO public.thing VALUES {rows} RETURNING *"),
            4 => format!("INSERT INTO public.thing VALUES {rows} ON CONFLICT DO NOTHING RETURNING id"),
            5 => format!(
                "INSERT INTO public.thing AS t VALUES {rows} ON CONFLICT (id) DO UPDATE
                 SET rank = excluded.rank, owner = t.owner + 1"
            ),
            6 => format!("UPDATE public.thing SET rank = {rank} WHERE id >= {one} RETURNING *"),
            7 => format!("UPDATE public.thing SET c{column} = {value} WHERE id = {one} RETURNING c{column}"),
            8 => format!("UPDATE public.thing SET id = {one} WHERE id = {other}"),
            9 => format!(
                "UPDATE public.thing SET chosen = NOT chosen, parent = {one}
                          WHERE owner = {}",
                rank % 4
            ),
            10 => format!("DELETE FROM public.thing WHERE id = {one} RETURNING *"),
            11 => format!(
                "WITH d AS (DELETE FROM public.thing WHERE id = {one} RETURNING *),
                 u AS (UPDATE public.thing SET rank = rank + 1 WHERE id <> {one} RETURNING id)
                 INSERT INTO public.thing SELECT * FROM d RETURNING id"
            ),
            12 if self.rng.u8(..4) == 0 => "TRUNCATE public.thing CASCADE".to_owned(),
            _ => format!(
                "DO $$ BEGIN UPDATE public.thing SET rank = {rank} WHERE id = {one};
                          DELETE FROM public.thing WHERE id = {other};
                          EXCEPTION WHEN OTHERS THEN NULL; END $$"
            ),
        }
    }

    fn statement(&mut self) -> String {
        match self.rng.u8(..8) {
            0 => format!("BEGIN; {}; {}; COMMIT", self.change(), self.change()),
            1 => format!(
                "BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT",
                self.change(),
                self.change(),
                self.change()
            ),
            2 => format!("BEGIN; SET CONSTRAINTS ALL IMMEDIATE; {}; ROLLBACK", self.change()),
            _ => self.change(),
        }
    }
}

/// What a session gets to see of a statement: rows and numbers, or the SQLSTATE.
async fn outcome(session: &Driven, sql: &str) -> Result<Vec<String>, String> {
    let answered = session.simple_query(sql).await;
    if answered.is_err() {
        // Of a transaction that the statement left open.
        session.batch_execute("ROLLBACK").await.unwrap();
    }
    let messages =
        answered.map_err(|error| error.code().map_or(error.to_string(), |code| code.code().to_owned()))?;
    let mut told: Vec<_> = messages
        .iter()
        .map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                format!("{:?}", (0..row.len()).map(|n| row.get(n)).collect::<Vec<_>>())
            }
            SimpleQueryMessage::CommandComplete(count) => format!("{count} rows"),
            _ => String::new(),
        })
        .collect();
    told.sort();
    Ok(told)
}

async fn run(seed: u64) {
    let mut round = Round::draw(seed);
    let mut ledger = Ledger::create().await;
    let plain = Database::create().await;
    let session = plain.connect().await;
    for sql in &round.set_up {
        ledger.run(sql).await;
        session.batch_execute(sql).await.unwrap();
    }
    ledger.watch("Thing", "public.thing").await;
    // The writer may do nothing but write; its settings are its role's, its database's or its session's.
    let mut writers = Vec::new();
    for (database, session) in [(&ledger.database, &ledger.session), (&plain, &session)] {
        let role = database.role("writer", "").await;
        session.batch_execute(&format!("GRANT ALL ON thing TO {role}")).await.unwrap();
        for (n, setting) in round.settings.iter().enumerate() {
            let sql = match (seed as usize + n) % 3 {
                0 => format!("ALTER ROLE {role} SET {setting}"),
                1 => format!(
                    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {} ', current_database()); END $$",
                    setting.replace('\'', "''")
                ),
                _ => continue,
            };
            session.batch_execute(&sql).await.unwrap();
        }
        let writer = if seed.is_multiple_of(4) { database.target() } else { database.target_as(&role) };
        let writer = writer.open().await.unwrap();
        for (n, setting) in round.settings.iter().enumerate() {
            if (seed as usize + n) % 3 == 2 {
                writer.batch_execute(&format!("SET {setting}")).await.unwrap();
            }
        }
        writers.push(writer);
    }
    let (watched, unwatched) = (&writers[0], &writers[1]);
    for n in 0..STATEMENTS {
        let sql = round.statement();
        let (with, without) = tokio::join!(outcome(watched, &sql), outcome(unwatched, &sql));
        let described =
            || format!("seed {seed}, statement {n}\n{:#?}\n{:?}\n{sql}", round.set_up, round.settings);
        assert_eq!(with, without, "with a hub and without: {}", described());
        // Each statement's events fit what the ones before have left.
        println!("{sql}");
        ledger.take().await;
    }
    let all = "SET search_path = public; SELECT to_json(t)::text FROM thing t";
    assert_eq!(
        outcome(&ledger.session, all).await,
        outcome(&session, all).await,
        "seed {seed}: the rows at the end"
    );
    println!("{:#?}\n{:?}", round.set_up, round.settings);
    // As the capture writes values.
    let style = "SET intervalstyle = iso_8601; SET extra_float_digits = 1; SET bytea_output = hex;
                 SET timezone = 'UTC'";
    ledger.run(style).await;
    ledger.check("Thing", "public.thing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_table_behaves_as_one_that_is_not() {
    let setting = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let rounds = setting("TREX_SIDE_BY_SIDE_ROUNDS").unwrap_or(ROUNDS);
    let first = setting("TREX_SIDE_BY_SIDE_SEED").unwrap_or(FIRST_SEED);
    let mut failed = Vec::new();
    for seed in first..first + rounds {
        println!("seed {seed}");
        // Every seed is tried: what they show may be of several kinds.
        if tokio::spawn(run(seed)).await.is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
}
