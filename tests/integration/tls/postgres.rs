//! Every mode, with what is right and what is wrong.

use super::{Secured, encrypted, relay::answering, secured};
use crate::support::certificates::Authority;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

fn refused(outcome: Result<bool, String>, parts: &[&str]) {
    let line = outcome.expect_err("a refusal");
    println!("{line}");
    for part in parts {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains('\n') && !line.contains("secret") && !line.contains("postgresql://"), "{line}");
}

#[tokio::test]
async fn modes_mean_what_they_mean_to_libpq() {
    let server = secured().await;
    let root = format!("sslrootcert={}", server.authority.path().display());
    let other = Authority::new("another");
    let wrong = format!("sslrootcert={}", other.path().display());
    let by = async |user: &str, parameters: &str| encrypted(&server.url(user, "postgres", parameters)).await;

    for mode in ["allow", "prefer", "require"] {
        assert_eq!(by("postgres", &format!("sslmode={mode}")).await, Ok(true), "{mode}");
    }
    assert_eq!(by("postgres", "").await, Ok(true));
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(by("postgres", &format!("sslmode={mode}&{root}")).await, Ok(true), "{mode}");
        refused(by("postgres", &format!("sslmode={mode}&{wrong}")).await, &["sslrootcert", "authority"]);
    }
    refused(by("postgres", "sslmode=disable").await, &["no encryption"]);
    // Whom the server takes in plain text only.
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(by("clear", &format!("sslmode={mode}")).await, Ok(false), "{mode}");
    }
    refused(by("clear", "sslmode=require").await, &["SSL encryption"]);
    // By its address, which is not in the certificate.
    let bare = |parameters: &str| format!("postgresql://postgres@{}/postgres?{parameters}", server.address);
    assert_eq!(encrypted(&bare(&format!("sslmode=verify-ca&{root}"))).await, Ok(true));
    refused(
        encrypted(&bare(&format!("sslmode=verify-full&{root}"))).await,
        &[&server.address, "but for db.test", "verify-ca"],
    );
    refused(by("postgres", "sslmode=verify-full").await, &["sslrootcert", "system"]);
    refused(by("postgres", "sslmode=require&sslrootcert=system").await, &["verify-full"]);
    refused(
        by("postgres", "sslrootcert=/nowhere.crt").await,
        &["sslrootcert /nowhere.crt", "cannot be read"],
    );
    refused(by("postgres", "sslmode=prefer&sslnegotiation=direct").await, &["sslnegotiation", "require"]);
}

#[tokio::test]
async fn versions_are_bounded() {
    let server = secured().await;
    for (bounds, version) in [
        ("ssl_min_protocol_version=TLSv1.3", "TLSv1.3"),
        ("ssl_max_protocol_version=TLSv1.2", "TLSv1.2"),
        ("ssl_min_protocol_version=TLSv1", "TLSv1.3"),
    ] {
        let url = server.url("postgres", "postgres", &format!("sslmode=require&{bounds}"));
        let session = trex::store::Target::parse(&url).unwrap().open().await.unwrap();
        let sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(session.query_one(sql, &[]).await.unwrap().get::<_, String>(0), version, "{bounds}");
    }
}

#[tokio::test]
async fn a_password_is_bound_to_the_channel() {
    let server = secured().await;
    let by = async |parameters: &str| {
        let url = server.url("scram:secret", "postgres", parameters);
        encrypted(&url).await
    };
    for binding in ["disable", "prefer", "require"] {
        let parameters = format!("{}&channel_binding={binding}", server.strict());
        assert_eq!(by(&parameters).await, Ok(true), "{binding}");
    }
    // Somebody in the middle, whose own certificate nobody looks at, gets no proof that the password is
    // known.
    let url = server.url("postgres", "postgres", "sslmode=require&channel_binding=require");
    refused(encrypted(&url).await, &["channel binding"]);
    let url = server.url("scram:wrong", "postgres", &server.strict());
    refused(encrypted(&url).await, &["password authentication failed"]);
}

#[tokio::test]
async fn a_client_says_who_it_is() {
    let server = secured().await;
    let by = async |certificate: &Path, key: &Path| {
        let files = format!("sslcert={}&sslkey={}", certificate.display(), key.display());
        encrypted(&server.url("mutual", "postgres", &format!("{}&{files}", server.strict()))).await
    };
    let pair = server.authority.issue("client", &["mutual"]);
    assert_eq!(by(&pair.certificate, &pair.key).await, Ok(true));
    let without = encrypted(&server.url("mutual", "postgres", &server.strict())).await;
    refused(without, &["valid client certificate"]);
    let strangers = Authority::new("a stranger's");
    let stranger = strangers.issue("client", &["mutual"]);
    refused(by(&stranger.certificate, &stranger.key).await, &["sslcert and sslkey"]);
    refused(by(&pair.certificate, &stranger.key).await, &["does not fit"]);
    fs::set_permissions(&stranger.key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(by(&stranger.certificate, &stranger.key).await, &["chmod 06"]);
    refused(by(&pair.certificate, Path::new("/nowhere.key")).await, &["/nowhere.key"]);
    refused(by(&pair.key, &pair.key).await, &["no certificate"]);
}

#[tokio::test]
async fn a_server_that_is_not_what_it_should_be() {
    // Of its own, for its certificate changes.
    let server = Secured::start().await;
    let account = fs::metadata(server.cluster.socket_dir()).unwrap();
    let present = async |pair: &crate::support::certificates::Pair| {
        use std::os::unix::fs::{MetadataExt, chown};
        chown(&pair.key, Some(account.uid()), Some(account.gid())).unwrap();
        server.present(&pair.certificate, &pair.key).await;
    };
    let strict = server.url("postgres", "postgres", &server.strict());
    present(&server.authority.issue_expired("old", &["db.test"])).await;
    refused(encrypted(&strict).await, &["has expired"]);
    present(&server.authority.issue_by_common_name("named", "db.test")).await;
    assert_eq!(encrypted(&strict).await, Ok(true));
    present(&server.authority.issue_by_common_name("misnamed", "db.example")).await;
    refused(encrypted(&strict).await, &["not for host db.test"]);

    for (answer, parts) in [
        (&b"N"[..], &["does not speak TLS", "ssl=on"][..]),
        (b"E", &["no Postgres"]),
        (b"", &["closed the connection"]),
        (b"S", &["closed the connection"]),
    ] {
        let port = answering(answer).await;
        let url = format!("postgresql://hub:secret@127.0.0.1:{port}/app?sslmode=require");
        refused(encrypted(&url).await, parts);
    }
}
