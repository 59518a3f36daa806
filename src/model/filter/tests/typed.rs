//! Columns of every type, on rows as Postgres writes them.

use super::*;

const ROW: &str = concat!(
    r#"{"n":7,"big":9007199254740993,"price":12.50,"nan":"NaN","f4":0.1,"f8":1e+300"#,
    r#","on":true,"name":"a \"b\" é","pad":"x   ","u":"0199a1c2-7d5e-7cc0-a1b2-9f3b5c6d7e8f""#,
    r#","mood":"sad","day":"0044-03-15 BC","at":"2026-11-20T08:00:00""#,
    r#","seen":"2026-11-20T09:00:00.5+01:00","never":"infinity""#,
    r#","doc":{"status": "open", "n": 5, "deep": [1, {"k": null}], "yes": true, "status": "open"}"#,
    r#","raw":{"s":"\ud83d\ude00"},"list":["a",null],"odd name":1,"gone":null,"empty":""}"#,
);

fn schema() -> Arc<Schema> {
    let labels = ["ok", "sad"].map(str::to_owned).to_vec();
    let columns = [
        ("n", ValueType::of("int4")),
        ("big", ValueType::of("int8")),
        ("price", ValueType::of("numeric")),
        ("nan", ValueType::of("numeric")),
        ("f4", ValueType::of("float4")),
        ("f8", ValueType::of("float8")),
        ("on", ValueType::of("bool")),
        ("name", ValueType::of("text")),
        ("pad", ValueType::of("bpchar")),
        ("u", ValueType::of("uuid")),
        ("mood", ValueType::Enum(labels)),
        ("day", ValueType::of("date")),
        ("at", ValueType::of("timestamp")),
        ("seen", ValueType::of("timestamptz")),
        ("never", ValueType::of("timestamptz")),
        ("doc", ValueType::of("jsonb")),
        ("raw", ValueType::of("json")),
        ("list", ValueType::of("_text")),
        ("odd name", ValueType::of("int2")),
        ("gone", ValueType::of("text")),
        ("empty", ValueType::of("text")),
    ];
    Schema::new(columns.into_iter().map(|(name, value)| Field::new(name, value, "")).collect())
}

fn event(row: &str) -> RowEvent<'_> {
    RowEvent { change: ChangeType::Created, resource_id: "7", occurred_at: None, old: None, new: Some(row) }
}

fn holds(text: &str) -> bool {
    let filter =
        Filter::parse(text, &schema(), Scope::Events).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    filter.unwrap().judge_rows(event(ROW)).unwrap() == Verdict::Same
}

#[test]
fn values_compare_by_type() {
    for text in [
        "n = 7",
        "n < 100000",
        "big = 9007199254740993 big != 9007199254740992",
        "price = 12.5 price > 9 price <= 1.25e1",
        "nan > 1e300 nan = NaN",
        "f4 = 0.1",
        "f8 = 1e300 f8 < Infinity",
        "on = true NOT on = false",
        r#"name = "a \"b\" é" name = "a*" name > "a""#,
        "pad = x pad = 'x '",
        "u = '0199A1C27D5E7CC0A1B29F3B5C6D7E8F'",
        "mood = sad mood != ok",
        "day < 0001-01-01 day = '0044-03-15 BC'",
        "at = 2026-11-20T08:00:00 at > 2026-11-20",
        "seen = 2026-11-20T08:00:00.5Z",
        "never > 9999-12-31T23:59:59Z never = infinity never:*",
        "doc.status = open doc.status = \"op*\" doc.n > 4.5 doc.n = 5.0 doc.yes = true doc.deep.0 = 1 \
         doc.deep.\"-2\" = 1",
        "doc.\"status\" = open \"doc\".deep:* NOT doc.deep.1.k:* NOT doc.n = \"5\"",
        "raw.s = \"😀\" raw:*",
        r#"list = "[\"a\",null]""#,
        "\"odd name\" = 1 -'odd name' = 2",
        "n IN (1, 7, 9) name IN (x, \"a \\\"b\\\" é\") NOT n IN (8) price IN (1, 12.500) doc.n IN (x, 5)",
        "NOT gone:* NOT gone = '' gone != x empty:* empty = ''",
        "type = CREATED resource_id = 7",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn values_must_fit_their_columns() {
    for (text, expected) in [
        ("n = 7.5", "at character 5: \"7.5\" is no whole number of 64 bits"),
        ("price > x", "at character 9: \"x\" is no number"),
        ("f4 = 1e99", "at character 6: \"1e99\" is no floating-point number of 32 bits"),
        ("on > true", "at character 4: a truth value is not compared by >, but by = and !="),
        ("on = 1", "at character 6: \"1\" is neither true nor false"),
        ("mood = glad", "at character 8: \"glad\" is no label; there are ok, sad"),
        ("u = 7", "at character 5: \"7\" is no uuid"),
        (
            "u = 7*",
            "at character 5: wildcards go with texts only; as a character the star is written \"\\*\"",
        ),
        ("day = 2026-02-30", "at character 7: \"2026-02-30\" is no date, such as 2026-11-20"),
        (
            "seen > 2026-11-20T08:00:00",
            "at character 8: \"2026-11-20T08:00:00\" is no time as RFC 3339 writes it, such as \
             2026-11-20T08:00:00Z",
        ),
        ("name.x = 1", "at character 1: name is no JSON, so there is nothing within it"),
        ("list < x", "at character 6: a value of this type is not compared by <, but by = and !="),
        ("n IN ()", "at character 7: a value is expected here, and not ')'"),
        ("n IN (1 2)", "at character 9: between the values of a list there are commas"),
        ("n IN 1", "at character 6: after IN there are values in parentheses, as in IN (a, b)"),
        (
            "name IN (a*)",
            "at character 10: a list has no wildcards; as a character the star is written \"\\*\"",
        ),
    ] {
        let fault = Filter::parse(text, &schema(), Scope::Events).unwrap_err();
        assert_eq!(fault.to_string(), expected, "{text}");
    }
}

#[test]
fn policies_show_what_is_true_and_nothing_unknown() {
    let claims = |name: &[String]| match name.join(".").as_str() {
        "sub" => Some(ClaimValue::Text("a \"b\" é".to_owned())),
        "n" => Some(ClaimValue::Text("7".to_owned())),
        "list" => Some(ClaimValue::List(vec![ClaimValue::Integer(3), ClaimValue::Integer(7)])),
        "stars" => Some(ClaimValue::Text("*".to_owned())),
        _ => None,
    };
    let verdict = |text: &str| {
        let filter = Filter::parse(text, &schema(), Scope::Policy).unwrap().unwrap();
        let bound = filter.bind(claims)?;
        Some(filter.evaluate3(&filter.view(ROW).unwrap(), &bound).unwrap())
    };
    for (text, expected) in [
        ("name = $sub", Some(Some(true))),
        ("name != $sub", Some(Some(false))),
        ("n = $n n IN $list", Some(Some(true))),
        ("gone = $sub", Some(None)),
        ("gone != $sub", Some(None)),
        ("NOT gone = x", Some(None)),
        ("gone = x OR n = 7", Some(Some(true))),
        ("gone = x AND n = 8", Some(Some(false))),
        ("NOT gone:*", Some(Some(true))),
        ("name = $stars", Some(Some(false))),
        ("n = $sub", None),
        ("name = $none", None),
        ("n = $list", None),
        ("n IN $n", None),
        ("name = '$sub'", Some(Some(false))),
    ] {
        assert_eq!(verdict(text), expected, "{text}");
    }
    for text in ["type = CREATED", "occurred_at:*", "doc.x = $sub"] {
        assert!(Filter::parse(text, &schema(), Scope::Policy).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_row_makes_the_scan_panic(row in r#"[{}\[\]:,"\\ a-z0-9u\u{e9}]{0,40}"#, n in 0..ROW.len()) {
        let filter = Filter::parse("n = 7 doc.a.0 = x raw.s = y", &schema(), Scope::Events).unwrap().unwrap();
        let _ = filter.judge_rows(event(&row));
        if let Some(cut) = ROW.get(..n) {
            let _ = filter.judge_rows(event(cut));
        }
    }
}
