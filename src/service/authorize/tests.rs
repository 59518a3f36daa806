use super::{
    sights::{is_same, mark},
    *,
};
use crate::{
    auth::{Claims, Method},
    call::Particulars,
    catalog::Kinds,
    model::{AttachedTable, Revision, TableColumn, TableName},
};

fn table(columns: &[(&str, &str)]) -> Kind {
    let column = |(number, (name, of)): (usize, &(&str, &str))| TableColumn {
        name: (*name).to_owned(),
        type_name: (*of).to_owned(),
        sql_type: format!("pg_catalog.{of}"),
        base_type: (*of).to_owned(),
        number: number as u32 + 1,
        nullable: true,
        generated: false,
        enum_labels: Vec::new(),
        is_long_number: false,
        sortable: true,
        visible: true,
        comment: None,
    };
    Kind::attached(AttachedTable {
        id: 1,
        kind: KindName::new("#1"),
        name: TableName::new("public", "notes"),
        schema_version: 1,
        attached_revision: Revision::ZERO,
        columns: columns.iter().enumerate().map(column).collect(),
        key: vec!["id".to_owned()],
        comment: None,
    })
}

const COLUMNS: &[(&str, &str)] = &[("id", "int4"), ("owner", "text"), ("team", "text"), ("notes", "text")];

fn door(policy: &str) -> Door {
    let door = Door::new(
        PolicyCell::new(Policy::parse(policy).unwrap()),
        Catalog::new(Kinds::new([table(COLUMNS)])),
    );
    door.share([7; 32]);
    door
}

fn call(claims: &str) -> Call {
    let principal = Principal {
        method: Method::Jwt,
        issuer: "i".into(),
        subject: "ann".into(),
        claims: Claims::parse(claims.as_bytes()).unwrap(),
        expires: None,
        key: None,
        scopes: Vec::new(),
    };
    Call::from(Particulars { principal: Some(Arc::new(principal)), ..Particulars::default() })
}

fn rule(name: &str, rest: &str) -> String {
    format!(
        "[[rule]]\nname = '{name}'\nwhen = {{}}\nkinds = ['public.*']\nverbs = ['get', 'watch']\n{rest}\n"
    )
}

const ANN: &str = r#"{"sub":"ann","teams":["a","b"],"number":7,"half":0.5,"none":"","empty":[]}"#;

/// What is seen of a note of this owner and team; `None`: nothing is granted.
fn sees(policy: &str, owner: &str, team: &str) -> Option<bool> {
    let grant = door(policy).authorize(&call(ANN), Action::Get, Some(&KindName::new("#1"))).ok()?;
    let row = format!(r#"{{"id":1,"owner":{owner},"team":{team},"notes":"x"}}"#);
    Some(grant.sight().shows(&row).unwrap())
}

#[test]
fn rules_that_apply_add_their_rows() {
    let (own, teams) = (rule("own", "rows = 'owner = $sub'"), rule("teams", "rows = 'team IN $teams'"));
    assert_eq!(sees(&own, r#""ann""#, r#""a""#), Some(true));
    assert_eq!(sees(&own, r#""bob""#, r#""a""#), Some(false));
    for unset in ["null", r#""""#, r#""ANN""#, r#""ann ""#, r#""*""#] {
        assert_eq!(sees(&own, unset, "null"), Some(false), "{unset}");
    }
    let both = own.clone() + &teams;
    assert_eq!(sees(&both, r#""bob""#, r#""b""#), Some(true));
    assert_eq!(sees(&both, r#""bob""#, r#""c""#), Some(false));
    assert_eq!(sees(&(own + &rule("all", "rows = '*'")), r#""bob""#, "null"), Some(true));
    // What is unknown is not shown, and neither is its opposite.
    for odd in ["owner != $sub", "NOT owner = $sub"] {
        let policy = rule("odd", &format!("rows = '{odd}'"));
        assert_eq!(
            (sees(&policy, "null", "null"), sees(&policy, r#""bob""#, "null")),
            (Some(false), Some(true))
        );
    }
}

#[test]
fn a_rule_that_does_not_fit_grants_nothing() {
    for rows in [
        "owner = $missing",
        "owner = $none",
        "owner = $number",
        "id = $half",
        "id = $sub",
        "team IN $empty",
        "team IN $sub",
        "owner = $teams",
        "nothing = $sub",
        "type = CREATED",
    ] {
        assert_eq!(sees(&rule("odd", &format!("rows = '{rows}'")), r#""ann""#, r#""a""#), None, "{rows}");
    }
    assert_eq!(sees(&rule("number", "rows = 'id != $number'"), "null", "null"), Some(true));
    for hidden in ["hide = ['nothing']", "hide = ['id']", "show = ['nothing']"] {
        let policy = rule("odd", &format!("rows = '*'\n{hidden}"));
        assert_eq!(sees(&policy, "null", "null"), None, "{hidden}");
    }
    let apart = rule("a", "rows = '*'\nhide = ['notes']") + &rule("b", "rows = '*'\nhide = ['team']");
    assert_eq!(sees(&apart, "null", "null"), None, "they contradict each other");
}

#[test]
fn columns_are_left_out_and_the_key_is_not() {
    for (shown, left) in [
        ("hide = ['notes']", &["id", "owner", "team"][..]),
        ("show = ['team']", &["id", "team"]),
        ("hide = []", &["id", "owner", "team", "notes"]),
    ] {
        let door = door(&rule("a", &format!("rows = '*'\n{shown}")));
        let grant = door.authorize(&call(ANN), Action::Get, Some(&KindName::new("#1"))).unwrap();
        let kinds = door.0.catalog.kinds();
        let attached = kinds.get("#1").unwrap().attached.clone().unwrap();
        let reduced = door.reduced(&attached, grant.sight());
        let names: Vec<_> = reduced.rows.schema.fields.iter().map(|field| &*field.column).collect();
        assert_eq!(names, left, "{shown}");
        assert!(Arc::ptr_eq(&reduced, &door.reduced(&attached, grant.sight())), "filters of it are equal");
    }
}

#[test]
fn the_mark_changes_with_what_is_seen_and_with_nothing_else() {
    let of = |policy: &str, claims: &str| {
        let grant = door(policy).authorize(&call(claims), Action::Watch, Some(&KindName::new("#1"))).unwrap();
        (grant.mark().to_owned(), grant.sight().clone())
    };
    let policy = rule("teams", "rows = 'team IN $teams'");
    let (mark_one, one) = of(&policy, r#"{"teams":["a","b"]}"#);
    let (mark_other, other) = of(&policy, r#"{"teams":["b","a","b"],"more":1}"#);
    assert!(mark_one == mark_other && is_same(&one, &other), "order and other claims do not matter");
    assert_eq!(mark_one.len(), 32);
    for (policy, claims) in [
        (policy.clone(), r#"{"teams":["a"]}"#),
        (policy.replace("rows", "hide = ['notes']\nrows"), r#"{"teams":["a","b"]}"#),
        (policy.replace("'team IN $teams'", "'*'"), r#"{"teams":["a","b"]}"#),
    ] {
        let (mark, sight) = of(&policy, claims);
        assert!(mark != mark_one && !is_same(&sight, &one), "{policy}");
    }
    assert_ne!(mark(&[8; 32], Some(&KindName::new("#1")), &one), mark_one, "it is nobody else's to make");
}

#[test]
fn who_is_not_known_may_do_nothing() {
    let door = door(&rule("all", "rows = '*'"));
    for kind in [None, Some(KindName::new("#1")), Some(KindName::new("#2"))] {
        let refused = door.authorize(&Call::default(), Action::Get, kind.as_ref()).unwrap_err();
        assert!(matches!(refused, Error::Denied { revoked: false, .. }), "{refused}");
    }
    assert!(door.knock(&Call::default()).is_err());
    assert!(door.authorize(&call(ANN), Action::Get, None).is_err(), "for all kinds a rule for all is needed");
    let open = Door::new(PolicyCell::default(), Catalog::new(Kinds::default()));
    assert!(open.authorize(&Call::default(), Action::Admin, None).is_ok(), "without a policy everybody may");
}

#[test]
fn calls_in_a_second_are_counted_for_each_principal() {
    let door = door(&rule("few", "rows = '*'\nlimits = { calls_per_second = 3 }"));
    let made =
        (0..20).filter(|_| door.authorize(&call(ANN), Action::Get, Some(&KindName::new("#1"))).is_ok());
    let made = made.count();
    assert!((3..=6).contains(&made), "{made}: the second may end in between");
}
