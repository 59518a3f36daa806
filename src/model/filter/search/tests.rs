//! The language of searches.

use super::*;
use crate::model::filter::Field;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    Schema::new(vec![
        Field::of_message("id", ValueType::Text, &[]),
        Field::of_message("species", ValueType::Text, &[]),
        Field::of_message("created_at", ValueType::Time, &[]),
        Field::new("n", ValueType::Integer, "pg_catalog.int8"),
        Field::new("on", ValueType::Bool, "pg_catalog.bool"),
        Field::new("doc", ValueType::Jsonb, "pg_catalog.jsonb"),
    ])
});

fn parsed(text: &str) -> Search {
    Search::parse(text, &SCHEMA).unwrap_or_else(|fault| panic!("{text}: {fault}")).unwrap()
}

fn is(field: usize, text: &str) -> Search {
    Search::Compare(field, Comparison::Equal, Operand::Text(text.to_owned()))
}

fn not(inner: Search) -> Search {
    Search::Not(Box::new(inner))
}

fn like(pattern: &str, any_case: bool) -> Search {
    Search::Like { field: 1, pattern: pattern.to_owned(), any_case }
}

#[test]
fn searches_are_read_as_sql_reads_them() {
    use Comparison::*;
    let after = |comparison| Search::Compare(2, comparison, Operand::Time(1_767_225_600_000_000));
    assert_eq!(
        parsed("species like 'T%' and created_at > '2026-01-01'"),
        Search::All(vec![like("T%", false), after(Greater)])
    );
    assert_eq!(
        parsed("id = 'a' OR id = 'b' AND NOT id = 'c'"),
        Search::Any(vec![is(0, "a"), Search::All(vec![is(0, "b"), not(is(0, "c"))])])
    );
    assert_eq!(parsed("( (species <> 'it''s') )"), not(is(1, "it's")));
    assert_eq!(parsed("species not ilike '_%'"), not(like("_%", true)));
    let texts = |texts: &[&str]| texts.iter().map(|text| Operand::Text(text.to_string())).collect();
    assert_eq!(parsed("id not in ('a','b')"), not(Search::In(0, texts(&["a", "b"]))));
    assert_eq!(parsed("species is not null"), not(Search::IsNull(1)));
    assert_eq!(parsed("\"species\" IS NULL"), Search::IsNull(1));
    let between = vec![after(AtLeast), after(AtMost)];
    assert_eq!(
        parsed("created_at between '2026-01-01 00:00:00' and '2026-01-01T00:00:00Z'"),
        Search::All(between)
    );
    assert_eq!(parsed("n >= -7"), Search::Compare(3, AtLeast, Operand::Integer(-7)));
    assert_eq!(parsed("on = TRUE"), Search::Compare(4, Equal, Operand::Bool(true)));
    assert_eq!(Search::parse(" ", &SCHEMA), Ok(None));
    assert_eq!(fields("species , id,species", &SCHEMA), Ok(vec![1, 0]));
    assert_eq!(fields("", &SCHEMA), Ok(vec![]));
}

#[test]
fn faults_say_where() {
    for (text, expected) in [
        (
            "specie = 'a'",
            "at character 1: there is no field specie; there are id, species, created_at, n, on, doc",
        ),
        (
            "species = ",
            "at character 11: the end is not expected here, but a value: a text in single quotes, a number, \
             true or false",
        ),
        ("species = 'a", "at character 11: this string has no end"),
        (
            "species 'a'",
            "at character 9: \"a\" is not expected here, but a comparison: =, !=, <, <=, >, >=, like, \
             ilike, in, between, is",
        ),
        ("(species = 'a'", "at character 15: the end is not expected here, but ')'"),
        ("species = 'a' )", "at character 15: ')' is not expected here, but and, or, or the end"),
        ("species = null", "at character 11: nothing compares with null; write is null, or is not null"),
        (
            "created_at > 'soon'",
            "at character 14: \"soon\" is no time as RFC 3339 writes it, such as 2026-11-20T08:00:00Z",
        ),
        ("on > true", "at character 4: values of this field have no order"),
        ("n like '7'", "at character 8: like goes with texts only"),
        ("n = 'x'", "at character 5: \"x\" is no whole number of 64 bits"),
        ("doc = 'x'", "at character 7: a field that holds JSON is not searched"),
        ("species like 'x\\'", "at character 14: a pattern does not end with a backslash"),
        ("species = 'a'; drop table dinosaurs", "at character 14: ';' is not expected here"),
        ("and", "at character 1: and is not expected here, but a field"),
    ] {
        assert_eq!(Search::parse(text, &SCHEMA).unwrap_err().to_string(), expected, "{text}");
    }
    let deep = format!("{}id='a'{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Search::parse(&deep, &SCHEMA).unwrap_err().problem.contains("deeper than 32"));
}

/// Mostly made of the parts of searches.
pub(super) fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        8 => prop::sample::select(vec![
            "id", "species", "created_at", "n", "on", "and", "or", "not", "in", "like", "ILIKE",
            "between", "is", "null", "(", ")", ",",
            "=", "!=", "<>", "<", "<=", ">", ">=", "'T%'", "'it''s'", "'", "\"", "'2026-01-01'",
            "7", "-1.5e+3", "true", ";", "--", "$1",
            "species = 'a'", "id in ('a','b')",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => ".{0,8}",
    ];
    prop::collection::vec(pieces, 0..30).prop_map(|parts| parts.join(" "))
}

proptest! {
    #[test]
    fn whatever_is_written_is_a_search_or_a_fault_within_it(text in texts()) {
        let characters = text.chars().count();
        if let Err(fault) = Search::parse(&text, &SCHEMA) {
            prop_assert!((1..=characters + 1).contains(&fault.position), "{text:?}: {fault}");
        }
        let _ = fields(&text, &SCHEMA);
    }
}
