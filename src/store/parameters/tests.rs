use super::*;

fn refusal(url: &str) -> String {
    match Parameters::parse(url) {
        Err(refusal) => refusal,
        Ok(_) => panic!("{url} was taken"),
    }
}

#[test]
fn both_forms_say_the_same() {
    for text in [
        "postgresql://hub:se%3Acret@db.example:6432/app?connect_timeout=7&target_session_attrs=primary",
        "postgres://db.example:6432/app?user=hub&password=se%3Acret&connect_timeout=7\
         &target_session_attrs=read-write",
        "host=db.example port=6432 user=hub password='se:cret' dbname = app connect_timeout=7 \
         target_session_attrs=primary",
    ] {
        let parsed = Parameters::parse(text).unwrap();
        assert_eq!(parsed.hosts, [Host::Tcp("db.example".into())], "{text}");
        assert_eq!(parsed.ports, [6432]);
        assert_eq!(parsed.user.as_deref(), Some("hub"));
        assert_eq!(parsed.password.as_deref(), Some(&b"se:cret"[..]));
        assert_eq!(parsed.database.as_deref(), Some("app"));
        assert_eq!(parsed.config.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(parsed.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert!(parsed.notes.is_empty());
    }
}

#[test]
fn several_hosts_and_directories() {
    let parsed = Parameters::parse("postgresql://a:1,b:2/app").unwrap();
    assert_eq!(parsed.hosts, [Host::Tcp("a".into()), Host::Tcp("b".into())]);
    assert_eq!(parsed.ports, [1, 2]);
    let parsed = Parameters::parse("postgresql:///app?host=/run/x%2Cy,c&port=5,6").unwrap();
    assert_eq!(parsed.hosts, [Host::Unix("/run/x,y".into()), Host::Tcp("c".into())]);
    assert_eq!(parsed.ports, [5, 6]);
    let parsed = Parameters::parse("postgresql://[::1]:5433/app").unwrap();
    assert_eq!((parsed.hosts, parsed.ports), (vec![Host::Tcp("::1".into())], vec![5433]));
}

#[test]
fn a_sign_in_the_wrong_place_stays_what_it_was() {
    let parsed = Parameters::parse("postgresql://hub:a?b=c@db/app?gssencmode=disable").unwrap();
    assert_eq!(parsed.password.as_deref(), Some(&b"a?b=c"[..]));
    let parsed = Parameters::parse("postgresql:///app?host=db&user=hub@example").unwrap();
    assert_eq!(parsed.user.as_deref(), Some("hub@example"));
    let parsed = Parameters::parse("host=db password='it\\'s \\\\' user=x").unwrap();
    assert_eq!(parsed.password.as_deref(), Some(&b"it's \\"[..]));
}

#[test]
fn what_changes_nothing_is_named_and_ignored() {
    let url = "postgresql://hub@db/app?schema=public&pgbouncer=true&connection_limit=5&krbsrvname=x\
               &client_encoding=LATIN1";
    let notes = Parameters::parse(url).unwrap().notes.join("\n");
    for name in ["schema", "pgbouncer", "connection_limit", "krbsrvname", "client_encoding"] {
        assert!(notes.contains(&format!("{name} is ignored: ")), "{notes}");
    }
}

#[test]
fn what_would_matter_is_refused_by_name() {
    for name in [
        "service",
        "requirepeer",
        "require_auth",
        "sslcrl",
        "sslcrldir",
        "sslpassword",
        "ssl",
        "sslaccept",
        "surprise",
    ] {
        let refusal = refusal(&format!("postgresql://hub:secret@db/app?{name}=secret"));
        assert!(refusal.starts_with(name) && !refusal.contains("secret"), "{refusal}");
    }
    for pair in [
        "gssencmode=require",
        "replication=database",
        "target_session_attrs=standby",
        "sslmode=on",
        "sslcertmode=require",
        "channel_binding=yes",
        "connect_timeout=soon",
        "port=many",
        "ssl_min_protocol_version=SSLv3",
    ] {
        let refusal = refusal(&format!("postgresql://hub:secret@db/app?{pair}"));
        let name = pair.split('=').next().unwrap();
        assert!(refusal.contains(name) && !refusal.contains("secret"), "{refusal}");
    }
}

#[test]
fn a_text_that_is_no_url_keeps_its_secrets() {
    for text in [
        "",
        "secret",
        "postgresql://hub@db/app?secret",
        "postgresql://hub@db:secret/app",
        "postgresql://hub@db/app?Secret%21=x",
        "host=db password='secret",
        "host=db password=my Secret=1",
    ] {
        assert_eq!(refusal(text), NO_URL, "{text}");
    }
}
