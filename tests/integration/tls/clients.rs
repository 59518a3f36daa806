//! TLS to clients: who gets in, what is refused, and a certificate that changes under open streams.

use crate::{
    commands::trex,
    support::{
        Database, PATIENCE, TestHub,
        certificates::{Authority, Pair},
        until, until_true,
    },
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, Streaming};
use trex::{
    app::{ListenersTls, Settings},
    client::{Access, Hub},
    faces::Registry,
    proto::rh_trex::v1::{
        DinosaurWatchEvent, WatchDinosaursRequest, dinosaur_service_client::DinosaurServiceClient,
    },
    server::{Files, MinVersion, Protocol, Tls},
};

fn files(pair: &Pair, client_authority: Option<&Authority>) -> Files {
    Files {
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
        client_authority: client_authority.map(Authority::path),
    }
}

/// A hub whose gRPC is encrypted.
async fn hub(database: &Database, files: Files, minimum: MinVersion) -> (TestHub, String) {
    let tls = Tls::new(files, Protocol::Http2, minimum).expect("a certificate");
    hub_with(database, Arc::new(tls)).await
}

async fn hub_with(database: &Database, tls: Arc<Tls>) -> (TestHub, String) {
    let reload = Duration::from_millis(20);
    let tls = ListenersTls { grpc: Some(tls), reload, ..ListenersTls::default() };
    let settings = Settings { tls, ..Settings::new(database.target()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let address = hub.app().addresses().grpc.clone().expect("gRPC is served");
    (hub, address)
}

fn trusting(authority: &Authority) -> Access {
    Access { authority: Some(authority.path()), ..Access::default() }
}

/// A watch, or why there is none.
async fn watch(address: &str, access: &Access) -> Result<Streaming<DinosaurWatchEvent>, tonic::Status> {
    let link = Hub::new(&format!("https://{address}"), access).expect("an address").connect().await?;
    let mut client = DinosaurServiceClient::new(link);
    let watch = client.watch_dinosaurs(WatchDinosaursRequest::default());
    Ok(timeout(*PATIENCE, watch).await.expect("an answer")?.into_inner())
}

/// A TLS session of our own.
async fn session(
    address: &str,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(trex::tls::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn insert(database: &Database, species: &str) {
    let sql = "INSERT INTO dinosaurs (species) VALUES ($1)";
    database.connect().await.execute(sql, &[&species]).await.unwrap();
}

async fn species(watch: &mut Streaming<DinosaurWatchEvent>) -> String {
    let event = timeout(*PATIENCE, watch.message()).await.expect("an event").unwrap().unwrap();
    event.dinosaur.map(|dinosaur| dinosaur.species).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_encrypted_and_nothing_else_gets_in() {
    let (database, authority) = (Database::create().await, Authority::new("a hub's"));
    let pair = authority.issue("hub", &["localhost"]);
    let (hub, address) = hub(&database, files(&pair, None), MinVersion::V13).await;
    let mut open = watch(&address, &trusting(&authority)).await.unwrap();
    insert(&database, "Tyrannosaurus").await;
    assert_eq!(species(&mut open).await, "Tyrannosaurus");

    let stranger = Authority::new("a stranger's");
    let refused = watch(&address, &trusting(&stranger)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("UnknownIssuer"), "{refused}");
    let plain = Hub::new(&address, &Access::default()).unwrap();
    let plain = timeout(*PATIENCE, async {
        let link = plain.connect().await?;
        DinosaurServiceClient::new(link).watch_dinosaurs(WatchDinosaursRequest::default()).await
    });
    assert!(plain.await.expect("no waiting").is_err());
    use rustls::version::{TLS12, TLS13};
    assert!(session(&address, &authority, &[&TLS13], b"h2").await.is_ok());
    assert!(session(&address, &authority, &[&TLS12], b"h2").await.is_err(), "too old");
    assert!(session(&address, &authority, &[&TLS13], b"http/1.1").await.is_err(), "another protocol");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_must_be_known() {
    let (database, authority) = (Database::create().await, Authority::new("a hub's"));
    let clients = Authority::new("of clients");
    let pair = authority.issue("hub", &["localhost"]);
    let (hub, address) = hub(&database, files(&pair, Some(&clients)), MinVersion::V12).await;
    let as_of = |pair: Pair| Access { identity: Some((pair.certificate, pair.key)), ..trusting(&authority) };
    let mut open = watch(&address, &as_of(clients.issue("known", &["spoke"]))).await.unwrap();
    insert(&database, "Triceratops").await;
    assert_eq!(species(&mut open).await, "Triceratops");
    assert!(watch(&address, &trusting(&authority)).await.is_err(), "without a certificate");
    assert!(
        watch(&address, &as_of(authority.issue("other", &["spoke"]))).await.is_err(),
        "of another authority"
    );
    assert!(watch(&address, &as_of(clients.issue_expired("old", &["spoke"]))).await.is_err(), "expired");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_changes_under_open_streams() {
    let (database, authority) = (Database::create().await, Authority::new("a hub's"));
    let pair = authority.issue("hub", &["localhost"]);
    let tls = Arc::new(Tls::new(files(&pair, None), Protocol::Http2, MinVersion::V12).unwrap());
    let (hub, address) = hub_with(&database, tls.clone()).await;
    let mut open = watch(&address, &trusting(&authority)).await.unwrap();
    let shown = async || {
        let stream = session(&address, &authority, rustls::DEFAULT_VERSIONS, b"h2").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = shown().await;
    let next = authority.issue("next", &["localhost"]);
    // Half of it: a look that began after the copy changes nothing, and one of the next two did.
    fs::copy(&next.certificate, &pair.certificate).unwrap();
    let looks = tls.looks() + 2;
    until("the half is looked at", || tls.looks() >= looks).await;
    assert_eq!(shown().await, first);
    fs::copy(&next.key, &pair.key).unwrap();
    until_true("the new certificate is shown", async || shown().await != first).await;
    insert(&database, "Stegosaurus").await;
    assert_eq!(species(&mut open).await, "Stegosaurus");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_keep_nobody_out() {
    const SILENT: usize = 2_000;
    let (database, authority) = (Database::create().await, Authority::new("a hub's"));
    let pair = authority.issue("hub", &["localhost"]);
    let (hub, address) = hub(&database, files(&pair, None), MinVersion::V12).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let began = Instant::now();
    let mut open = watch(&address, &trusting(&authority)).await.unwrap();
    let took = began.elapsed();
    println!("{took:?} beside {SILENT} silent peers");
    assert!(took < Duration::from_secs(5), "{took:?}");
    insert(&database, "Iguanodon").await;
    assert_eq!(species(&mut open).await, "Iguanodon");
    // They are given up.
    let mut byte = [0];
    let ended = timeout(*PATIENCE, silent[0].read(&mut byte)).await.expect("not for ever");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_encrypted_too() {
    let (database, authority) = (Database::create().await, Authority::new("a hub's"));
    let pair = authority.issue("hub", &["localhost"]);
    let tls = Arc::new(Tls::new(files(&pair, None), Protocol::Http1, MinVersion::V12).unwrap());
    let tls = ListenersTls { metrics: Some(tls.clone()), health: Some(tls), ..ListenersTls::default() };
    let settings = Settings { tls, ..Settings::new(database.target()) };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let addresses = hub.app().addresses();
    for (address, path, part) in
        [(&addresses.metrics, "/metrics", "hub_head_revision"), (&addresses.health, "/readyz", "ready")]
    {
        let mut stream = session(address, &authority, rustls::DEFAULT_VERSIONS, b"http/1.1").await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = timeout(*PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(part), "{answer}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_speaks_it() {
    let (database, authority) = (Database::create().await, Authority::new("a hub's"));
    let pair = authority.issue("hub", &["localhost"]);
    let (hub, address) = hub(&database, files(&pair, None), MinVersion::V12).await;
    insert(&database, "Allosaurus").await;
    let (url, file) = (format!("https://{address}"), authority.path().display().to_string());
    until("the row is sealed", || hub.metric("hub_head_revision", "") >= 1.0).await;
    let output = trex(&["export", "--server", &url, "--ca-file", &file]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("Allosaurus"), "{output:?}");
    for (arguments, part) in [
        (&["export", "--server", &address, "--ca-file", &file][..], "https://"),
        (&["export", "--server", &url, "--ca-file", "/nowhere.pem"], "/nowhere.pem"),
        (&["export", "--server", &url, "--ca-file", &file, "--client-cert", &file], "--client-key"),
    ] {
        let output = trex(arguments).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(part) && text.lines().count() == 1, "{text}");
    }
    let mut status = trex(&["status", "--server", "http://192.0.2.1:9001"]);
    let output = status.env("TREX_TOKEN", "secret").output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("plain text") && !text.contains("secret"), "{text}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_that_cannot_act_refuses_the_start() {
    let authority = Authority::new("a hub's");
    let (pair, old) =
        (authority.issue("hub", &["localhost"]), authority.issue_expired("old", &["localhost"]));
    let text = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (text(&pair.certificate), text(&pair.key));
    let expired = (text(&old.certificate), text(&old.key));
    let grpc = ["--grpc-enable-tls", "--grpc-tls-cert-file", &certificate, "--grpc-tls-key-file"];
    for (arguments, part) in [
        (vec!["--grpc-enable-tls"], "needs --grpc-tls-cert-file"),
        (vec!["--grpc-tls-cert-file", &certificate], "--grpc-tls-cert-file does nothing without"),
        (vec!["--grpc-tls-min-version", "1.3"], "--grpc-tls-min-version does nothing without"),
        ([&grpc[..], &[&expired.1]].concat(), "is not the key of"),
        (
            vec!["--grpc-enable-tls", "--grpc-tls-cert-file", &expired.0, "--grpc-tls-key-file", &expired.1],
            "expired",
        ),
        ([&grpc[..], &[&key, "--grpc-tls-enable-client-auth"]].concat(), "needs --grpc-tls-client-ca-file"),
        ([&grpc[..], &[&key, "--grpc-tls-client-ca-file", &certificate]].concat(), "does nothing without"),
        (vec!["--enable-metrics-https"], "need --https-cert-file"),
        (vec!["--enable-https"], "need --https-cert-file"),
        (vec!["--https-key-file", &key], "--https-key-file does nothing without"),
        (vec!["--grpc-server-bindaddress", "0.0.0.0:0"], "--grpc-server-bindaddress: other machines"),
        (
            [
                &grpc[..],
                &[
                    &key,
                    "--grpc-server-bindaddress",
                    "0.0.0.0:0",
                    "--metrics-server-bindaddress",
                    "0.0.0.0:0",
                ],
            ]
            .concat(),
            "--metrics-server-bindaddress: other machines",
        ),
    ] {
        let ports = ["grpc", "admin", "api", "metrics", "health-check"]
            .map(|name| format!("--{name}-server-bindaddress"));
        let mut all = vec!["serve", "--database-url", "postgresql://nobody@127.0.0.1:1/nothing"];
        for flag in &ports {
            if !arguments.contains(&flag.as_str()) {
                all.extend([flag.as_str(), "localhost:0"]);
            }
        }
        all.extend(&arguments);
        let output = timeout(*PATIENCE, trex(&all).output()).await.expect("it ends").unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(part), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
