//! Rows of any table: keys of any type, pages by position, writes that Postgres checks.

use crate::support::Database;
use std::collections::BTreeSet;
use trex::{
    call::Call,
    error::Error,
    model::{
        KindName,
        filter::{Field, Filter, Schema, Scope, Search, ValueType, order_by},
    },
    store::{ListRows, RowTable, Store},
};

struct Shop {
    database: Database,
    store: Store,
    table: RowTable,
    call: Call,
}

impl Shop {
    /// A table with an odd name and a key of three types.
    async fn open() -> Self {
        let database = Database::create().await;
        let sql = "CREATE SCHEMA \"my shop\";
             CREATE TABLE \"my shop\".\"or\"\"ders\" (at timestamptz, \"Part No\" text, n numeric,
               note text, qty int2 NOT NULL DEFAULT 1 CHECK (qty < 100),
               doc json, secret text, PRIMARY KEY (at, \"Part No\", n))";
        database.connect().await.batch_execute(sql).await.unwrap();
        let fields = vec![
            Field::new("at", ValueType::Time, "pg_catalog.timestamptz"),
            Field::new("Part No", ValueType::Text, "pg_catalog.text"),
            Field::new("n", ValueType::Numeric, "pg_catalog.numeric"),
            Field::new("note", ValueType::Text, "pg_catalog.text"),
            Field::new("qty", ValueType::Integer, "pg_catalog.int2"),
            Field::new("doc", ValueType::Json, "pg_catalog.json"),
        ];
        let table = RowTable {
            kind: KindName::new("orders"),
            name: "\"my shop\".\"or\"\"ders\"".into(),
            schema: Schema::new(fields),
            key: vec![0, 1, 2],
        };
        // Whatever the database's own formats are.
        let odd = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Kolkata''',
                     current_database());
                   EXECUTE format('ALTER DATABASE %I SET datestyle = ''German''', current_database());
                   END $$";
        database.connect().await.batch_execute(odd).await.unwrap();
        let store = Store::new(&database.target(), 2).unwrap();
        Self { database, store, table, call: Call::default() }
    }

    async fn insert(&self, row: &str) -> Result<String, Error> {
        Ok(self.store.insert_row(&self.call, &self.table, row, None).await?.resource_id)
    }

    async fn get(&self, id: &str) -> Result<String, Error> {
        Ok(self.store.get_row(&self.call, &self.table, id, &[], None).await?.json)
    }

    async fn update(&self, id: &str, row: &str, expected: Option<&str>) -> Result<String, Error> {
        Ok(self.store.update_row(&self.call, &self.table, (id, row), expected, None).await?.json)
    }

    /// All pages, and how many there were.
    async fn pages(&self, order: &str, size: usize, list: ListRows<'_>) -> (Vec<String>, usize) {
        let (order_by, mut token, mut ids, mut pages) =
            (order_by(order, &self.table.schema).unwrap(), String::new(), Vec::new(), 0);
        loop {
            let list = ListRows { size, order_by: &order_by, page_token: &token, ..list };
            let page = self.store.list_rows(&self.call, &self.table, &list).await.unwrap();
            ids.extend(page.rows.into_iter().map(|row| row.resource_id));
            pages += 1;
            match page.next_page_token {
                Some(next) => token = next,
                None => return (ids, pages),
            }
        }
    }
}

const ROW: &str =
    r#"{"at":"2026-11-20T08:00:00.5+01:00","Part No":"a/b%","n":"1.50","note":"x \"y\" é","doc":{"a" : 1}}"#;
const ID: &str = "2026-11-20 07:00:00.5+00/a%2Fb%25/1.50";

#[tokio::test]
async fn rows_are_written_and_found_by_keys_of_any_type() {
    let shop = Shop::open().await;
    assert_eq!(shop.insert(ROW).await.unwrap(), ID);
    let json = shop.get(ID).await.unwrap();
    assert_eq!(
        json,
        r#"{"at":"2026-11-20T07:00:00.5+00:00","Part No":"a/b%","n":1.50,"note":"x \"y\" é","qty":1,"doc":{"a" : 1}}"#
    );
    let only = shop.store.get_row(&shop.call, &shop.table, ID, &[3], None).await.unwrap();
    assert_eq!(
        only.json,
        r#"{"at":"2026-11-20T07:00:00.5+00:00","Part No":"a/b%","n":1.50,"note":"x \"y\" é"}"#
    );
    for id in [
        "",
        "x",
        "2026-11-20 07:00:00.5+00/a%2Fb%25/1.5",
        "x/y/z",
        "2026-11-20 07:00:00.5+00/a%2fb%25/1.50",
        "a/b/c/d",
        "\0",
    ] {
        assert!(matches!(shop.get(id).await, Err(Error::NotFound { .. })), "{id}");
    }
    let updated = shop.update(ID, r#"{"note":null,"qty":2}"#, Some(&json)).await.unwrap();
    assert!(updated.contains(r#""note":null,"qty":2"#), "{updated}");
    let stale = shop.update(ID, r#"{"qty":3}"#, Some(&json)).await;
    assert!(matches!(stale, Err(Error::RowChanged)), "{stale:?}");
    shop.update(ID, r#"{"qty":3}"#, Some(r#"{"qty":2,"note":null}"#)).await.unwrap();
    let gone = shop.update("2026-11-20 07:00:00+00/x/1", r#"{"qty":3}"#, Some("{}")).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    let delete =
        async |id: &str, expected| shop.store.delete_row(&shop.call, &shop.table, id, expected, None).await;
    assert!(matches!(delete(ID, Some(r#"{"qty":9}"#)).await, Err(Error::RowChanged)));
    delete(ID, Some(r#"{"qty":3}"#)).await.unwrap();
    assert!(matches!(delete(ID, None).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn what_postgres_refuses_is_said_in_its_words() {
    let shop = Shop::open().await;
    shop.insert(ROW).await.unwrap();
    assert!(matches!(shop.insert(ROW).await, Err(Error::AlreadyExists { .. })));
    for (row, words) in [
        (r#"{"at":"2026-11-20T08:00:00Z","Part No":"p","n":1,"qty":70000}"#, "smallint"),
        (r#"{"at":"2026-11-20T08:00:00Z","Part No":"p","n":1,"qty":100}"#, "qty"),
        (r#"{"at":"2026-11-20T08:00:00Z","Part No":"p","n":1,"qty":null}"#, "\"qty\""),
        (r#"{"at":"soon","Part No":"p","n":1}"#, "soon"),
        (r#"{"secret":"x"}"#, "there is no column secret"),
        (r#"{"a b\" = 1; --":"x"}"#, "there is no column"),
        (r#"[1]"#, "JSON object"),
        ("{", "JSON object"),
    ] {
        let error = shop.insert(row).await.unwrap_err();
        assert!(error.to_string().contains(words), "{row}: {error}");
    }
}

#[tokio::test]
async fn pages_go_by_position_whatever_the_order() {
    let shop = Shop::open().await;
    let sql = "INSERT INTO \"my shop\".\"or\"\"ders\" (at, \"Part No\", n, note, qty, secret)
        SELECT timestamptz '2026-01-01' + (i % 3) * interval '1 day', 'p/' || i % 7, i, CASE WHEN i % 4 > 0
        THEN (ARRAY['b','B','ä',''])[1 + i % 4] END, i % 5, 's'
        FROM generate_series(1, 211) i";
    shop.database.connect().await.batch_execute(sql).await.unwrap();
    for order in ["", "note", "note desc", "qty desc, note", "note desc, qty, n desc", "at desc", "n"] {
        let (whole, pages) = shop.pages(order, 1000, ListRows::default()).await;
        assert_eq!((whole.len(), pages), (211, 1), "{order}");
        for size in [1, 10, 211] {
            let (paged, pages) = shop.pages(order, size, ListRows::default()).await;
            assert_eq!(paged, whole, "{order} by {size}");
            assert_eq!(pages, 211_usize.div_ceil(size), "{order} by {size}");
        }
    }
    let filter = Filter::parse("qty IN (1, 3) note:*", &shop.table.schema, Scope::Rows).unwrap().unwrap();
    let by_filter = ListRows { filter: Some(&filter), ..ListRows::default() };
    let (filtered, _) = shop.pages("note", 7, by_filter).await;
    let search = Search::parse("qty in (1,3) and not note is null", &shop.table.schema).unwrap().unwrap();
    let by_search = ListRows { search: Some(&search), ..ListRows::default() };
    let (searched, _) = shop.pages("", 7, by_search).await;
    assert!(!filtered.is_empty());
    assert_eq!(filtered.iter().collect::<BTreeSet<_>>(), searched.iter().collect::<BTreeSet<_>>());
    // A token belongs to its request, and counts are exact, even of an empty page.
    let first = ListRows { size: 5, count: true, ..ListRows::default() };
    let page = shop.store.list_rows(&shop.call, &shop.table, &first).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (5, Some(211)));
    let token = page.next_page_token.unwrap();
    let other = ListRows { page_token: &token, filter: Some(&filter), ..first };
    assert!(matches!(shop.store.list_rows(&shop.call, &shop.table, &other).await, Err(Error::Invalid(_))));
    let none = Filter::parse("qty = 99", &shop.table.schema, Scope::Rows).unwrap().unwrap();
    let empty = ListRows { filter: Some(&none), size: 5, count: true, ..ListRows::default() };
    let page = shop.store.list_rows(&shop.call, &shop.table, &empty).await.unwrap();
    assert_eq!((page.rows.len(), page.total, page.next_page_token), (0, Some(0), None));
}

#[tokio::test]
async fn searches_find_what_sql_finds() {
    let shop = Shop::open().await;
    let session = shop.database.connect().await;
    let sql = "INSERT INTO \"my shop\".\"or\"\"ders\" (at, \"Part No\", n, note)
        SELECT '2026-01-01', t, i, nullif(t, 'NULL')
        FROM unnest(ARRAY['Trex','trex','T%','T_x','it''s','NULL','ä','Ä','']) WITH ORDINALITY u(t, i)";
    session.batch_execute(sql).await.unwrap();
    for search in [
        "note like 'T%'",
        "note ilike 't%'",
        "note not like '%x' or note is null",
        r"note like 'T\%'",
        "note = 'it''s' or n between 2 and 3",
        "not (note = 'Trex' or note is null) and n <> 5",
        "n in (1, 2.0, 9) and at >= '2026-01-01 00:00:00+00'",
        "at < '2026-01-01 00:00:00+00' or note not in ('ä','Ä')",
        "note is not null and n >= 4",
    ] {
        let parsed =
            Search::parse(search, &shop.table.schema).unwrap_or_else(|fault| panic!("{search}: {fault}"));
        let list = ListRows { search: parsed.as_ref(), ..ListRows::default() };
        let (found, _) = shop.pages("n", 4, list).await;
        let sql = format!("SELECT n::text FROM \"my shop\".\"or\"\"ders\" WHERE {search} ORDER BY n");
        let expected: Vec<String> =
            session.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let found: Vec<_> = found.iter().filter_map(|id| id.rsplit('/').next()).collect();
        assert_eq!(found, expected, "{search}");
    }
}
