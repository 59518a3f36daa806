//! Columns of every type: what SQL says of a filter is what the hub says of it on the row's JSON, for odd
//! values too.

use crate::{stress::random, support::Database};
use std::collections::BTreeSet;
use trex::{
    call::Call,
    model::{
        ChangeType, KindName,
        filter::{Bound, Field, Filter, RowEvent, Schema, Scope, ValueType, Verdict},
    },
    store::{LARGEST_PAGE, ListRows, RowTable, Store},
};

/// A column: its name, its type, values as SQL writes them, and values as filters say them.
struct Column {
    name: &'static str,
    sql_type: &'static str,
    value: fn() -> ValueType,
    stored: &'static [&'static str],
    said: &'static [&'static str],
    ordered: bool,
}

const fn column(
    name: &'static str,
    sql_type: &'static str,
    value: fn() -> ValueType,
    (stored, said): (&'static [&'static str], &'static [&'static str]),
    ordered: bool,
) -> Column {
    Column { name, sql_type, value, stored, said, ordered }
}

const TEXTS: (&[&str], &[&str]) = (
    &["", "a", "A", "a ", "ä", "😀", "%", "T_x", "T\\x", "a\nb", "\"", "'"],
    &[
        "''",
        "a",
        "A",
        "'a '",
        "ä",
        "'😀'",
        "'%'",
        "'T*'",
        "'*x'",
        r"'T\\x'",
        r#""a\nb""#,
        r#""\"""#,
        "'*'",
        "'*a*'",
    ],
);
const TIMES: (&[&str], &[&str]) = (
    &[
        "infinity",
        "-infinity",
        "4714-11-24 00:00:00+00 BC",
        "0044-03-15 12:00:00+00 BC",
        "1969-12-31 23:59:59.999999+00",
        "2026-11-20 08:00:00.5+05:30",
        "9999-12-31 23:59:59+00",
        "294276-12-31 23:59:59.999999+00",
    ],
    &[
        "infinity",
        "-infinity",
        "'0044-03-15 12:00:00Z BC'",
        "1969-12-31T23:59:59.999999Z",
        "2026-11-20T02:30:00.5Z",
        "2026-11-20",
        "9999-12-31T23:59:59Z",
        "294276-12-31T23:59:59.999999Z",
    ],
);

static COLUMNS: [Column; 20] = [
    column(
        "on",
        "pg_catalog.bool",
        || ValueType::of("bool"),
        (&["true", "false"], &["true", "false"]),
        false,
    ),
    column(
        "small",
        "pg_catalog.int2",
        || ValueType::of("int2"),
        (&["-32768", "0", "7"], &["-32768", "7", "100000"]),
        true,
    ),
    column(
        "big",
        "pg_catalog.int8",
        || ValueType::of("int8"),
        (
            &["9223372036854775807", "9007199254740993", "-1", "0"],
            &["9007199254740993", "9007199254740992", "-1", "9223372036854775807"],
        ),
        true,
    ),
    column(
        "num",
        "pg_catalog.numeric",
        || ValueType::of("numeric"),
        (
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0.00",
                "1.50",
                "1e40",
                "1e-40",
                "99999999999999999999.5",
            ],
            &["NaN", "Infinity", "-Infinity", "0", "1.5", "1e40", "1.0e-40", "99999999999999999999.50", "-3"],
        ),
        true,
    ),
    column(
        "f4",
        "pg_catalog.float4",
        || ValueType::of("float4"),
        (
            &["NaN", "Infinity", "-0", "0.1", "3.4028235e38", "1e-45"],
            &["NaN", "-Infinity", "0", "0.1", "3.4028235e38", "1e-45", "0.10000001"],
        ),
        true,
    ),
    column(
        "f8",
        "pg_catalog.float8",
        || ValueType::of("float8"),
        (
            &["NaN", "-Infinity", "-0", "0.1", "1.7976931348623157e308", "5e-324"],
            &["NaN", "Infinity", "0", "0.1", "1.7976931348623157e308", "5e-324"],
        ),
        true,
    ),
    column("txt", "pg_catalog.text", || ValueType::of("text"), TEXTS, true),
    column("odd \"name.%/", "pg_catalog.varchar", || ValueType::of("varchar"), TEXTS, true),
    column(
        "pad",
        "pg_catalog.bpchar",
        || ValueType::of("bpchar"),
        (&["", "a", "a  ", "ä b"], &["''", "a", "'a '", "'ä b'", "'a*'"]),
        true,
    ),
    column(
        "nam",
        "pg_catalog.name",
        || ValueType::of("name"),
        (&["", "a", "Z"], &["''", "a", "Z", "'*a'"]),
        true,
    ),
    column(
        "uid",
        "pg_catalog.uuid",
        || ValueType::of("uuid"),
        (
            &["0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f", "00000000-0000-0000-0000-000000000000"],
            &["0199A1C27D5E7CC0A1B29F3B5C6D7E8F", "00000000-0000-0000-0000-000000000001"],
        ),
        true,
    ),
    column(
        "mood",
        "public.mood",
        || ValueType::Enum(vec!["sad".into(), "so so".into(), "Glück".into()]),
        (&["sad", "so so", "Glück"], &["sad", "'so so'", "'Glück'"]),
        false,
    ),
    column(
        "day",
        "pg_catalog.date",
        || ValueType::of("date"),
        (
            &["infinity", "-infinity", "4714-11-24 BC", "0001-01-01", "5874897-12-31", "2026-11-20"],
            &["infinity", "-infinity", "'0044-03-15 BC'", "0001-01-01", "5874897-12-31", "2026-11-20"],
        ),
        true,
    ),
    column(
        "loc",
        "pg_catalog.timestamp",
        || ValueType::of("timestamp"),
        (
            &[
                "infinity",
                "0044-03-15 12:00:00 BC",
                "2026-11-20 08:00:00.000001",
                "294276-12-31 23:59:59.999999",
            ],
            &["infinity", "2026-11-20T08:00:00.000001", "2026-11-20", "'0044-03-15T12:00:00 BC'"],
        ),
        true,
    ),
    column("tz", "pg_catalog.timestamptz", || ValueType::of("timestamptz"), TIMES, true),
    column("doc", "pg_catalog.jsonb", || ValueType::of("jsonb"), JSON, true),
    column("raw", "pg_catalog.json", || ValueType::of("json"), RAW, true),
    column(
        "iv",
        "pg_catalog.interval",
        || ValueType::of("interval"),
        (&["1 day", "24:00:00", "-1 year"], &["P1D", "PT24H", "P-1Y"]),
        false,
    ),
    column(
        "arr",
        "pg_catalog.text[]",
        || ValueType::of("_text"),
        (&["{}", "{a,NULL,\"b c\"}", "{{1},{2}}"], &["'[]'", r#"'["a",null,"b c"]'"#, r#"'[["1"],["2"]]'"#]),
        false,
    ),
    column(
        "bin",
        "pg_catalog.bytea",
        || ValueType::of("bytea"),
        (&["\\x", "\\x00ff"], &[r"'\\x'", r"'\\x00ff'"]),
        false,
    ),
];
const JSON: (&[&str], &[&str]) = (
    &[
        r#"{"a": "x", "n": 5.0, "b": true, "l": [1, {"k": "y"}], "z": null}"#,
        r#"{"a": 5, "n": "5"}"#,
        r#""x""#,
        "5",
        "[]",
        "null",
        r#"{"n": 123456789012345678901234567890.5, "a": "T%"}"#,
    ],
    &["x", "5", "5.0", "true", "false", "'5'", "'T*'", "''", "123456789012345678901234567890.50", "1e3"],
);
const RAW: (&[&str], &[&str]) = (
    &[
        "{ \"a\" : \"x\",\n \"n\":5e0, \"a\":\"z\"}",
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\ud83d\ude00","n":1e999999}"#,
        r#"{"\u0061":"x","n":-0.0}"#,
        r#"{"a":"\ud83d"}"#,
        " 5 ",
        "null",
    ],
    &["x", "z", "5", "0", "'😀'", "'*'", "true", "''"],
);

/// A table of all of these columns, each value in some row and NULL in others.
async fn table(database: &Database) -> RowTable {
    let session = database.connect().await;
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|column| format!("\"{}\" {}", column.name.replace('"', "\"\""), column.sql_type))
        .collect();
    let made = format!(
        "CREATE TYPE public.mood AS ENUM ('sad', 'so so', 'Glück');
         CREATE TABLE public.\"Odd 't\"\"able\" (id bigint PRIMARY KEY, {});",
        columns.join(", ")
    );
    session.batch_execute(&made).await.unwrap();
    for n in 0..120_usize {
        let value = |(at, column): (usize, &Column)| match (n * (at + 3) + n / 7) % (column.stored.len() + 1)
        {
            0 => "NULL".to_owned(),
            which => format!("'{}'", column.stored[which - 1].replace('\'', "''")),
        };
        let values: Vec<_> = COLUMNS.iter().enumerate().map(value).collect();
        let sql = format!("INSERT INTO public.\"Odd 't\"\"able\" VALUES ({n}, {})", values.join(", "));
        session.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    let mut fields = vec![Field::new("id", ValueType::Integer, "pg_catalog.int8")];
    fields.extend(COLUMNS.iter().map(|column| Field::new(column.name, (column.value)(), column.sql_type)));
    RowTable {
        kind: KindName::new("odd"),
        name: "public.\"Odd 't\"\"able\"".into(),
        schema: Schema::new(fields),
        key: vec![0],
    }
}

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn test(random: &mut fastrand::Rng) -> String {
    let column = &COLUMNS[random.usize(..COLUMNS.len())];
    let mut field = format!("\"{}\"", column.name.replace('"', "\\\""));
    if (column.value)().is_json() {
        field += pick(random, &["", ".a", ".n", ".b", ".l.0", ".l.1.k", ".l.\"-1\".k", ".z", ".none.a"]);
    }
    let said = pick(random, column.said);
    let wild = said.contains('*');
    match random.u8(..6) {
        0 => format!("{field}:*"),
        1 if !wild => format!("{field} IN ({said}, {})", pick(random, column.said).replace('*', "\\*")),
        2 | 3 if column.ordered && !wild => {
            format!("{field} {} {said}", pick(random, &["<", "<=", ">", ">="]))
        }
        _ => format!("{field} {} {said}", pick(random, &["=", "!="])),
    }
}

fn filter(random: &mut fastrand::Rng) -> String {
    match random.u8(..5) {
        0 => format!("NOT ({})", test(random)),
        1 => format!("{} OR {}", test(random), test(random)),
        2 => format!("-({} {})", test(random), test(random)),
        _ => test(random),
    }
}

async fn listed(store: &Store, table: &RowTable, list: ListRows<'_>, what: &str) -> Vec<(String, String)> {
    let list = ListRows { size: LARGEST_PAGE, ..list };
    let page = store.list_rows(&Call::default(), table, &list).await;
    let page = page.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    page.rows.into_iter().map(|row| (row.resource_id, row.json)).collect()
}

#[tokio::test]
async fn the_database_and_the_hub_agree_on_values_of_every_type() {
    let mut random = random("types of filters");
    let database = Database::create().await;
    let table = table(&database).await;
    let store = Store::new(&database.target(), 2).unwrap();
    let rows = listed(&store, &table, ListRows::default(), "all").await;
    assert_eq!(rows.len(), 120);
    let (mut some, mut all) = (0, 0);
    for _ in 0..crate::stress::number("TREX_TYPED_FILTERS", 1500) {
        let text = filter(&mut random);
        let filter = |scope| {
            let filter = Filter::parse(&text, &table.schema, scope);
            filter.unwrap_or_else(|fault| panic!("{text}: {fault}")).unwrap()
        };
        let wanted = filter(Scope::Rows);
        let in_sql =
            listed(&store, &table, ListRows { filter: Some(&wanted), ..Default::default() }, &text).await;
        let in_sql: BTreeSet<_> = in_sql.into_iter().map(|(id, _)| id).collect();
        let event = |(id, json)| RowEvent {
            change: ChangeType::Snapshot,
            resource_id: id,
            occurred_at: None,
            old: None,
            new: Some(json),
        };
        let in_hub: BTreeSet<_> = rows
            .iter()
            .filter(|(id, json)| wanted.judge_rows(event((id, json))).unwrap() == Verdict::Same)
            .map(|(id, _)| id.clone())
            .collect();
        assert_eq!(in_sql, in_hub, "{text}");
        // And so do they in three values.
        let rule = filter(Scope::Policy);
        let bound = Bound::default();
        let visible = ListRows { visible: Some((&rule, &bound)), ..Default::default() };
        let in_sql: BTreeSet<_> =
            listed(&store, &table, visible, &text).await.into_iter().map(|(id, _)| id).collect();
        let in_hub: BTreeSet<_> = rows
            .iter()
            .filter(|(_, json)| rule.evaluate3(&rule.view(json).unwrap(), &bound).unwrap() == Some(true))
            .map(|(id, _)| id.clone())
            .collect();
        assert_eq!(in_sql, in_hub, "as a policy: {text}");
        some += usize::from(!in_hub.is_empty() && in_hub.len() < rows.len());
        all += 1;
    }
    println!("{all} filters, {some} of which match some rows and not others");
    assert!(some > all / 3);
}
