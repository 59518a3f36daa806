//! The commands that ask a hub, as processes: what they print, and to whom.

use crate::support::{Database, PATIENCE, TestHub};
use serde_json::Value;
use std::{
    fs::File,
    process::{Output, Stdio},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::timeout,
};
use trex::proto::rh_trex::v1::WatchDinosaursRequest;

/// The program, with nothing of this process's environment.
pub(crate) fn trex(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trex"));
    command.args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

async fn run(arguments: &[&str]) -> Output {
    trex(arguments).output().await.expect("a run")
}

/// What a successful run has printed: whole lines, and nothing that controls a terminal.
async fn printed(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with('\n') && !text.contains('\x1b'), "{text:?}");
    text
}

/// The one line on standard error of a run that failed.
async fn complaint(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert!(!output.status.success() && output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_subscriptions_are_for_people_and_for_programs() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let admin = &hub.app().addresses().admin;
    let request = WatchDinosaursRequest { resource_ids: vec!["a".into()], ..Default::default() };
    let watch = hub.client().await.watch_dinosaurs(request).await.unwrap();

    let status = printed(&["status", "--server", admin]).await;
    for part in
        [", ready\n", "\nepoch      ", "\nrevisions  head 0, sealed 0", "1 listening", "\nDinosaur        1 "]
    {
        assert!(status.contains(part), "{part}: {status}");
    }
    let json: Value =
        serde_json::from_str(&printed(&["status", "--server", admin, "--output", "json"]).await).unwrap();
    assert_eq!((&json["ready"], &json["database"]["listening_hubs"]), (&true.into(), &1.into()));
    assert_eq!(json["kinds"][0]["subscriptions"], 1);

    let table = printed(&["subscriptions", "--server", admin]).await;
    let [heading, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(heading.starts_with("PEER "), "{table}");
    for part in ["127.0.0.1:", " Dinosaur ", " 1 id ", " drop ", " live "] {
        assert!(row.contains(part), "{part}: {table}");
    }
    let none = printed(&["subscriptions", "--server", admin, "--min-lag", "1"]).await;
    assert_eq!(none.lines().count(), 1, "{none}");
    let line = printed(&["subscriptions", "--server", admin, "--output", "json", "--state", "live"]).await;
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line.lines().count(), &json["total_size"]), (1, &1.into()));
    assert_eq!(json["subscriptions"][0]["state"], "live");

    drop(watch);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_status_steers_no_pipe_and_ends_with_its_reader() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let admin = hub.app().addresses().admin.clone();
    for arguments in [["status", "--watch=10ms"], ["subscriptions", "--watch=10ms"]] {
        let mut process = trex(&[&arguments[..], &["--server", &admin]].concat()).spawn().unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let mut text = vec![0; 2_000];
        stdout.read_exact(&mut text).await.unwrap();
        assert!(!text.contains(&0x1b));
        drop(stdout);
        assert!(process.wait().await.unwrap().success(), "{arguments:?}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn complaints_are_one_line_with_the_remedy() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let nobody = complaint(&["status", "--server", "localhost:1"]).await;
    assert!(nobody.contains("localhost:1") && nobody.contains("--server"), "{nobody}");
    let api = hub.app().addresses().grpc.clone().unwrap();
    let other = complaint(&["subscriptions", "--server", &api]).await;
    assert!(other.contains("not the admin listener"), "{other}");
    let addresses = hub.app().addresses();
    for command in [&["watch"][..], &["export"], &["audit"], &["audit", "--follow"]] {
        let admin = complaint(&[command, &["--server", &addresses.admin]].concat()).await;
        assert!(admin.contains("not the gRPC listener") && admin.contains("--server"), "{admin}");
    }
    let metrics = complaint(&["status", "--server", &addresses.metrics]).await;
    assert!(metrics.contains("does not answer as the admin listener"), "{metrics}");
    let audit = complaint(&["audit", "--server", &api]).await;
    assert!(audit.contains("--audit"), "{audit}");
    for command in ["watch", "export", "audit", "status", "subscriptions"] {
        let tls = complaint(&[command, "--server", &format!("https://{api}")]).await;
        assert!(tls.contains("does not speak https") && tls.contains("no TLS"), "{tls}");
    }
    let kind =
        complaint(&["subscriptions", "--server", &hub.app().addresses().admin, "--kind", "Unicorn"]).await;
    assert!(kind.contains("Unicorn"), "{kind}");
    complaint(&["subscriptions", "--limit", "0"]).await;
    complaint(&["status", "--watch=0s"]).await;
    complaint(&["man", "unicorn"]).await;
    hub.stop().await;
}

/// A hub that begins on a server that takes connections and says nothing, and that server.
async fn on_a_silent_server() -> (Command, TcpListener) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("postgresql://hub@{}/app", silent.local_addr().expect("an address"));
    let listeners = ["grpc", "admin", "api", "metrics", "health-check"]
        .map(|name| format!("--{name}-server-bindaddress=localhost:0"));
    let mut hub = trex(&["serve", "--log", "warn", "--database-url", &url]);
    hub.args(listeners).stderr(Stdio::piped());
    (hub, silent)
}

#[tokio::test]
async fn a_silent_database_ends_the_start() {
    let (mut hub, _silent) = on_a_silent_server().await;
    let output = timeout(*PATIENCE, hub.output()).await.expect("an end").unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("127.0.0.1, database app") && text.contains("does not answer"), "{text}");
}

#[tokio::test]
async fn a_start_on_a_silent_database_can_be_stopped() {
    for signal in ["-TERM", "-INT"] {
        let (mut hub, silent) = on_a_silent_server().await;
        let mut hub = hub.spawn().unwrap();
        let (mut connection, _) = timeout(*PATIENCE, silent.accept()).await.expect("a connection").unwrap();
        // It has sent its greeting, and waits for the answer.
        connection.read_exact(&mut [0; 8]).await.unwrap();
        let sent = Command::new("kill").args([signal, &hub.id().unwrap().to_string()]).status().await;
        assert!(sent.unwrap().success());
        let ended = timeout(*PATIENCE, hub.wait()).await.expect("an end").unwrap();
        assert_eq!(ended.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]).await;
        for word in ["subscriptions", "new-epoch", "min-lag"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    let script = printed(&["completions", "bash"]).await;
    bash.stdin.take().unwrap().write_all(script.as_bytes()).await.unwrap();
    assert!(bash.wait().await.unwrap().success(), "bash reads it");
}

#[tokio::test]
async fn the_manual_has_a_page_for_each_command() {
    let page = printed(&["man"]).await;
    assert!(page.starts_with(".ie") && page.contains(".TH trex 1"), "{}", &page[..200]);
    for command in ["serve", "watch", "subscriptions", "status", "migrate", "new-epoch", "completions", "man"]
    {
        assert!(page.contains(&format!("trex\\-{}(1)", command.replace('-', "\\-"))), "{command}");
        let page = printed(&["man", command]).await;
        assert!(page.contains(&format!(".TH trex-{command} 1")), "{}", &page[..200]);
    }
}

/// What cannot be written to: a pipe that nobody reads any more, and a full disk.
fn deaf() -> [Stdio; 2] {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    [writer.into(), File::options().write(true).open("/dev/full").expect("a device").into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_listen_stops_no_command() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let url = database.url();
    for command in [&["migrate"][..], &["new-epoch"], &["dead-letters", "discard", "--all"]] {
        let codes = deaf().map(|stdout| {
            let arguments = [command, &["--database-url", url]].concat();
            trex(&arguments).stdout(stdout).stderr(Stdio::null()).spawn().expect("a run")
        });
        for (mut run, code) in codes.into_iter().zip([0, 1]) {
            assert_eq!(run.wait().await.unwrap().code(), Some(code), "{command:?}");
        }
    }
    for stderr in deaf() {
        let watch = trex(&["watch", "--after-revision", "99"])
            .args(["--server", hub.app().addresses().grpc.as_ref().unwrap()])
            .stderr(stderr)
            .output();
        assert_eq!(watch.await.unwrap().status.code(), Some(1));
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_serves_though_nobody_reads_what_it_says() {
    for (stdout, stderr) in deaf().into_iter().zip(deaf()) {
        let database = Database::create().await;
        let session = database.connect().await;
        let mut serve = trex(&["serve", "--database-url", database.url(), "--log", "debug"]);
        for listener in ["grpc", "admin", "api", "metrics", "health-check"] {
            serve.args([format!("--{listener}-server-bindaddress"), "localhost:0".to_owned()]);
        }
        let mut hub = serve.stdout(stdout).stderr(stderr).spawn().expect("a hub");
        // The welcome comes before it is stopped, however early that is.
        let connected = "SELECT count(*) > 0 FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'";
        timeout(*PATIENCE, async {
            while !session.query_one(connected, &[]).await.unwrap().get::<_, bool>(0) {
                assert_eq!(hub.try_wait().unwrap(), None);
            }
        })
        .await
        .expect("a hub in time");
        let pid = hub.id().expect("a process").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let ended = timeout(*PATIENCE, hub.wait()).await.expect("its end in time").unwrap();
        assert_eq!(ended.code(), Some(0));
    }
}

#[tokio::test]
async fn only_a_hub_reads_the_file_of_a_hub() {
    let with_file = async |arguments: &[&str]| {
        trex(arguments)
            .env("TREX_CONFIG", "/nowhere/trex.toml")
            .stderr(Stdio::piped())
            .output()
            .await
            .unwrap()
    };
    assert!(with_file(&["completions", "bash"]).await.status.success());
    for arguments in [&[][..], &["serve"], &["--log", "info"]] {
        let output = with_file(arguments).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("/nowhere/trex.toml"), "{arguments:?}: {text}");
    }
}
