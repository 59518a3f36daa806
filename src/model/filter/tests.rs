//! The language, and its meaning for events.

use super::{predicate::Comparison::*, *};
use proptest::prelude::*;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    Schema::new(vec![
        Field::of_message("species", ValueType::Text, &[]),
        Field::of_message("created_at", ValueType::Time, &["metadata.created_at"]),
    ])
});

fn parsed(text: &str) -> Predicate {
    let filter =
        Filter::parse(text, &SCHEMA, Scope::Events).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    filter.expect("something").predicate().clone()
}

fn fault(text: &str) -> String {
    match Filter::parse(text, &SCHEMA, Scope::Events) {
        Err(fault) => fault.to_string(),
        Ok(filter) => panic!("{text} is {filter:?}"),
    }
}

fn is(species: &str) -> Predicate {
    Predicate::Test(Subject::Field(0), Test::Compare(Equal, Operand::Text(species.to_owned())))
}

fn not(inner: Predicate) -> Predicate {
    Predicate::Not(Box::new(inner))
}

fn matches(pattern: Pattern) -> Predicate {
    Predicate::Test(Subject::Field(0), Test::Matches(pattern))
}

/// An event of rows with a species each, and a time of creation.
struct Dummy {
    change: ChangeType,
    old: Option<&'static str>,
    new: Option<&'static str>,
    created_at: Option<i64>,
}

impl Event for Dummy {
    fn change(&self) -> ChangeType {
        self.change
    }

    fn resource_id(&self) -> &str {
        "r1"
    }

    fn occurred_at(&self) -> Result<Option<i64>, Malformed> {
        Ok((self.change != ChangeType::Snapshot).then_some(1_000_000))
    }

    fn value(&self, row: Which, field: usize) -> Result<Option<Value<'_>>, Malformed> {
        let row = match row {
            Which::Old => self.old,
            Which::New => self.new,
        };
        Ok(match field {
            0 => row.map(Value::Text),
            _ => self.created_at.map(Value::Time),
        })
    }
}

fn judged(text: &str, change: ChangeType, old: Option<&'static str>, new: Option<&'static str>) -> Verdict {
    let filter = Filter::parse(text, &SCHEMA, Scope::Events).unwrap().unwrap();
    filter.judge(&Dummy { change, old, new, created_at: None }).unwrap()
}

fn updated(text: &str, old: &'static str, new: &'static str) -> Verdict {
    judged(text, ChangeType::Updated, Some(old), Some(new))
}

#[test]
fn or_binds_tighter_than_and() {
    let (a, b, c) = (is("a"), is("b"), is("c"));
    let expected = Predicate::All(vec![a.clone(), Predicate::Any(vec![b.clone(), c.clone()])]);
    assert_eq!(parsed("species = a AND species = b OR species = c"), expected);
    assert_eq!(parsed("species=a species=b OR species=c"), expected, "side by side is AND");
    assert_eq!(
        parsed("(species=a AND species=b) OR species=c"),
        Predicate::Any(vec![Predicate::All(vec![a.clone(), b.clone()]), c])
    );
    assert_eq!(parsed("NOT species=a AND -species=b"), Predicate::All(vec![not(a.clone()), not(b)]));
    assert_eq!(parsed(" ( ( species != 'a' ) ) "), not(a));
}

#[test]
fn strings_have_quotes_escapes_and_wildcards() {
    assert_eq!(parsed(r#"species = "a \"b\" \\ \* \n é""#), is("a \"b\" \\ * \n é"));
    assert_eq!(parsed(r#"species = 'it\'s "so"'"#), is("it's \"so\""));
    assert_eq!(parsed("species = T*"), matches(Pattern::Begins("T".into())));
    assert_eq!(parsed("species = \"*é\""), matches(Pattern::Ends("é".into())));
    assert_eq!(parsed("species = '*a b*'"), matches(Pattern::Contains("a b".into())));
    assert_eq!(parsed("species:rex"), is("rex"), "what a row has, it is");
    assert_eq!(parsed("species:*rex"), matches(Pattern::Ends("rex".into())));
    assert_eq!(parsed(r#"species = "T\*""#), is("T*"));
    let present = Predicate::Test(Subject::Field(0), Test::Present);
    assert_eq!(parsed("species:*"), present);
    for text in ["species = *", "species = '**'"] {
        assert_eq!(parsed(text), matches(Pattern::Contains(String::new())), "{text}");
    }
    assert_eq!(parsed("species = ''"), is(""));
}

#[test]
fn types_and_times_are_checked() {
    let test = |subject, test| Predicate::Test(subject, test);
    assert_eq!(parsed("type != DELETED"), not(test(Subject::Type, Test::Type(ChangeType::Deleted))));
    assert_eq!(parsed("type = \"EVENT_TYPE_CREATED\""), test(Subject::Type, Test::Type(ChangeType::Created)));
    let created =
        |comparison, micros| test(Subject::Field(1), Test::Compare(comparison, Operand::Time(micros)));
    assert_eq!(parsed("created_at >= 1970-01-01T00:00:01.5Z"), created(AtLeast, 1_500_000));
    assert_eq!(parsed("metadata.created_at<'1970-01-01T02:00:00+02:00'"), created(Less, 0));
    assert_eq!(parsed("created_at:*"), test(Subject::Field(1), Test::Present));
    assert_eq!(
        parsed("occurred_at > 1969-12-31T23:59:59Z"),
        test(Subject::OccurredAt, Test::Compare(Greater, Operand::Time(-1_000_000)))
    );
}

#[test]
fn faults_say_where() {
    for (text, expected) in [
        (
            "specie = a",
            "at character 1: there is no field specie; there are species, created_at, type, resource_id, \
             occurred_at",
        ),
        ("species = a AND ", "at character 17: more is expected"),
        ("species = a AND AND", "at character 17: AND is not expected here"),
        ("é", "at character 1: 'é' is not expected here"),
        (
            "species = 'é' AND rex",
            "at character 19: rex stands alone; compare a field with a value, as in field = \"rex\"",
        ),
        ("'rex'", "at character 1: a value stands alone; compare a field with it, as in field = \"value\""),
        ("lower(species) = 'a'", "at character 1: there is no function lower, nor any other"),
        ("species = (a OR b)", "at character 11: one value is expected here; write field IN (a, b)"),
        ("species = 'a", "at character 11: this string has no end"),
        ("species = 'a\\x'", "at character 13: after a backslash there may be \\ \" ' * n r t"),
        ("species ! 'a'", "at character 9: '!' is not expected here; write NOT, or !="),
        ("species = ", "at character 11: a value is missing"),
        ("species = AND", "at character 11: a value is missing; if AND is it, write \"AND\""),
        ("= a", "at character 1: \"=\" has no field before it"),
        ("(species = a", "at character 1: this parenthesis has no end"),
        ("species = a)", "at character 12: ')' is not expected here"),
        (
            "species = T*x",
            "at character 11: a wildcard stands at the beginning or the end; as a character it is \
             written \"\\*\"",
        ),
        (
            "species > T*",
            "at character 11: wildcards go with = and != only; as a character the star is written \"\\*\"",
        ),
        ("type = GONE", "at character 8: \"GONE\" is no type; there are CREATED, UPDATED, DELETED, SNAPSHOT"),
        ("type > CREATED", "at character 6: a type is not compared by >, but by = and !="),
        (
            "created_at = soon",
            "at character 14: \"soon\" is no time as RFC 3339 writes it, such as 2026-11-20T08:00:00Z",
        ),
        (
            "created_at = 2026-11-20T08:00:00.0000001Z",
            "at character 14: a time has no more than microseconds",
        ),
        ("created_at > 0000-01-01T00:00:00Z", "at character 14: a time is of the years 1 to 9999"),
        ("species = 'a\0'", "at character 13: there is a NUL"),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
    let row = Filter::parse("type = CREATED", &SCHEMA, Scope::Rows).unwrap_err();
    assert_eq!(row.to_string(), "at character 1: type is a field of events, and a list has none");
}

#[test]
fn sizes_are_bounded() {
    let deep = |depth| format!("{}species=a{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(parsed(&deep(MAX_DEPTH)), is("a"));
    assert_eq!(fault(&deep(MAX_DEPTH + 1)), "at character 33: parentheses go deeper than 32");
    let many = |tests| vec!["species=a"; tests].join(" ");
    parsed(&many(MAX_TESTS));
    assert_eq!(fault(&many(MAX_TESTS + 1)), "at character 1001: there are more than 100 comparisons");
    parsed(&format!("species={}", "x".repeat(MAX_BYTES - 8)));
    assert!(fault(&format!("species={}", "x".repeat(MAX_BYTES - 7))).contains("4097 bytes"));
    assert_eq!(fault(&deep(2000)), "at character 33: parentheses go deeper than 32");
    assert!(Filter::parse(" \n ", &SCHEMA, Scope::Events).unwrap().is_none());
}

#[test]
fn updates_enter_and_leave() {
    use ChangeType::{Created, Deleted, Snapshot};
    const T: &str = "species = T*";
    assert_eq!(updated(T, "Trex", "Tyrex"), Verdict::Same);
    assert_eq!(updated(T, "Rex", "Trex"), Verdict::Enters);
    assert_eq!(updated(T, "Trex", "Rex"), Verdict::Leaves);
    assert_eq!(updated(T, "Rex", "Max"), Verdict::Unwanted);
    assert_eq!(judged(T, Created, None, Some("Trex")), Verdict::Same);
    assert_eq!(judged(T, Created, None, Some("Rex")), Verdict::Unwanted);
    assert_eq!(judged(T, Deleted, Some("Trex"), None), Verdict::Same);
    assert_eq!(judged(T, Deleted, Some("Rex"), None), Verdict::Unwanted);
    assert_eq!(judged(T, Snapshot, None, Some("Trex")), Verdict::Same);
    assert_eq!(judged("NOT species = T*", Deleted, Some("Rex"), None), Verdict::Same);
}

#[test]
fn the_type_is_the_one_that_is_seen() {
    const COMING: &str = "species = T* AND type = CREATED";
    assert_eq!(updated(COMING, "Rex", "Trex"), Verdict::Enters);
    assert_eq!(updated(COMING, "Trex", "Tyrex"), Verdict::Unwanted);
    const STAYING: &str = "species = T* AND type != DELETED";
    assert_eq!(updated(STAYING, "Trex", "Rex"), Verdict::Unwanted);
    assert_eq!(updated(STAYING, "Trex", "Tyrex"), Verdict::Same);
    assert_eq!(judged(STAYING, ChangeType::Snapshot, None, Some("Trex")), Verdict::Same);
    // Every row may have an event that matches, so none enters or leaves.
    const GOING: &str = "species = T* OR type = DELETED";
    assert_eq!(updated(GOING, "Trex", "Rex"), Verdict::Unwanted);
    assert_eq!(updated(GOING, "Rex", "Trex"), Verdict::Same);
    assert_eq!(judged(GOING, ChangeType::Deleted, Some("Rex"), None), Verdict::Same);
    assert_eq!(updated("NOT type = DELETED", "a", "b"), Verdict::Same);
    assert_eq!(updated("occurred_at = 1970-01-01T00:00:01Z AND species = b", "a", "b"), Verdict::Enters);
    assert_eq!(updated("occurred_at > 1970-01-01T00:00:01Z AND species = b", "a", "b"), Verdict::Unwanted);
    assert_eq!(updated("resource_id = r1 AND species = b", "a", "b"), Verdict::Enters);
    assert_eq!(updated("resource_id = r2", "a", "b"), Verdict::Unwanted);
}

#[test]
fn what_is_unset_fails_every_test_and_no_negation() {
    for (text, expected) in [
        ("created_at < 2026-01-01T00:00:00Z", Verdict::Unwanted),
        ("created_at = 2026-01-01T00:00:00Z", Verdict::Unwanted),
        ("created_at != 2026-01-01T00:00:00Z", Verdict::Same),
        ("NOT created_at < 2026-01-01T00:00:00Z", Verdict::Same),
        ("created_at:2026-01-01T00:00:00Z", Verdict::Unwanted),
        ("created_at:*", Verdict::Unwanted),
        ("NOT created_at:*", Verdict::Same),
    ] {
        assert_eq!(updated(text, "a", "b"), expected, "{text}");
    }
}

#[test]
fn the_same_filter_written_otherwise_is_the_same() {
    let filter = |text| Filter::parse(text, &SCHEMA, Scope::Events).unwrap();
    assert_eq!(filter("species = 'a' AND type = CREATED"), filter("(species=a) type = EVENT_TYPE_CREATED"));
    assert_ne!(filter("species = a"), filter("species = b"));
}

#[test]
fn orders_name_fields_and_directions() {
    let order = |field, descending| Order { field, descending };
    assert_eq!(order_by("", &SCHEMA), Ok(vec![]));
    assert_eq!(order_by(" species desc ,created_at asc", &SCHEMA), Ok(vec![order(0, true), order(1, false)]));
    for (text, expected) in [
        ("species, size", "at character 10: there is no field size; there are species, created_at"),
        ("species,", "at character 9: a field is missing"),
        ("species down", "at character 1: after species there may be asc or desc"),
        ("species desc desc", "at character 1: after species there may be asc or desc"),
        ("created_at, metadata.created_at", "at character 13: metadata.created_at is named twice"),
    ] {
        assert_eq!(order_by(text, &SCHEMA).unwrap_err().to_string(), expected, "{text}");
    }
}

/// Mostly made of the parts of filters, so that many inputs reach deep into the grammar.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        8 => prop::sample::select(vec![
            "species", "type", "created_at", "metadata.created_at", "resource_id", "occurred_at",
            "AND", "OR", "NOT", "-", "(", ")",
            "=", "!=", "<", "<=", ">", ">=", ":", "*", "\"", "'", "\\", "\\*", "a", "T*", "\"x\"",
            "'*y*'", "DELETED", "EVENT_TYPE_CREATED",
            "2026-11-20T08:00:00Z", "9999-12-31T23:59:59Z", "species=a", ",", ".", "!",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => ".{0,8}",
    ];
    let spaces = prop_oneof![2 => Just(" "), 1 => Just(""), 1 => Just("\n\t")];
    prop::collection::vec((pieces, spaces), 0..40)
        .prop_map(|parts| parts.into_iter().map(|(piece, space)| piece + space).collect())
}

proptest! {
    // More by hand: PROPTEST_CASES=10000000 cargo test --release --lib filter::tests::whatever
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn whatever_is_written_is_a_filter_or_a_fault_within_it(text in texts()) {
        let characters = text.chars().count();
        match Filter::parse(&text, &SCHEMA, Scope::Events) {
            Err(fault) => prop_assert!((1..=characters + 1).contains(&fault.position), "{text:?}: {fault}"),
            Ok(None) => prop_assert!(text.trim().is_empty()),
            Ok(Some(filter)) => {
                let judge = |change, old, new| {
                    filter.judge(&Dummy { change, old, new, created_at: Some(0) }).unwrap()
                };
                let as_old = judge(ChangeType::Deleted, Some("T"), None);
                let as_new = judge(ChangeType::Created, None, Some("T"));
                if !filter.0.on_event {
                    prop_assert_eq!(as_old, as_new, "one row, one verdict");
                    let stays = judge(ChangeType::Updated, Some("T"), Some("T"));
                    prop_assert_eq!(stays, as_new);
                }
                let again = Filter::parse(&format!("({text})"), &SCHEMA, Scope::Events);
                if let Ok(again) = again {
                    prop_assert_eq!(again, Some(filter), "parentheses around it change nothing");
                }
            }
        }
        let _ = order_by(&text, &SCHEMA);
    }
}

mod typed;
