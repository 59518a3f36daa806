//! `trex watch` and `trex export`, as programs of their own, of a hub that says what is seldom said.

use crate::{
    commands::trex,
    support::{
        PATIENCE,
        scripted::{Script, ScriptedHub},
    },
};
use serde_json::Value;
use std::process::{Output, Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};
use tonic::Code;
use trex::proto::rh_trex::v1::{Dinosaur, DinosaurWatchEvent, EventType, ObjectReference};

fn event(kind: EventType, id: &str, species: &str) -> DinosaurWatchEvent {
    let metadata = ObjectReference { id: id.into(), ..Default::default() };
    let dinosaur = Dinosaur { metadata: Some(metadata), species: species.into() };
    let (r#type, resource_id) = (kind.into(), id.into());
    DinosaurWatchEvent { r#type, resource_id, revision: 8, dinosaur: Some(dinosaur), ..Default::default() }
}

fn bookmark(dropped_before: u64) -> DinosaurWatchEvent {
    let r#type = EventType::Bookmark.into();
    DinosaurWatchEvent { r#type, revision: 9, dropped_before, ..Default::default() }
}

async fn run(scripts: impl IntoIterator<Item = Script>, arguments: &[&str]) -> Output {
    let hub = ScriptedHub::start(scripts).await;
    let mut command = trex(arguments);
    timeout(*PATIENCE, command.args(["--server", &hub.address]).stderr(Stdio::piped()).output())
        .await
        .expect("its end")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_is_told_though_no_event_follows() {
    let script = || Script { events: vec![bookmark(0), bookmark(4)], end: Code::InvalidArgument };
    let text = run([script()], &["watch", "--backpressure", "drop"]).await.stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().count() == 1 && text.contains("(4 dropped before this)"), "{text}");
    let json = run([script()], &["watch", "--backpressure", "drop", "--output", "json"]).await.stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["type"], &json["revision"]), (&"BOOKMARK".into(), &9.into()));
    assert_eq!(json["dropped_before"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_one_header_however_often_it_began() {
    for (rows, expected) in [(vec![("a", "T. rex")], "id,species\na,T. rex\n"), (vec![], "id,species\n")] {
        let lost = || Script { events: vec![], end: Code::Unavailable };
        let rows = rows.into_iter().map(|(id, species)| event(EventType::Snapshot, id, species));
        let whole = Script { events: rows.chain([bookmark(0)]).collect(), end: Code::Unavailable };
        let output = run([lost(), lost(), whole], &["export", "--format", "csv"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_a_line_whatever_its_row_says() {
    let nasty = event(EventType::Created, "a\x1b[2J", "rex\n         9  DELETED  b\x07");
    let script = Script { events: vec![nasty], end: Code::InvalidArgument };
    let text = String::from_utf8(run([script], &["watch"]).await.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(!text.trim_end().contains(char::is_control), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_may_begin_with_a_minus() {
    let output =
        run([Script { events: vec![], end: Code::InvalidArgument }], &["watch", "--filter", "-id=\"a\""]);
    let text = String::from_utf8(output.await.stderr).unwrap();
    assert!(text.starts_with("watching after revision 7 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_reader_has_had_enough_says_nothing_more() {
    let rows = vec![event(EventType::Snapshot, "a", "T. rex"), bookmark(0)];
    let hub = ScriptedHub::start([Script { events: rows, end: Code::Unavailable }]).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = trex(&["export", "--server", &hub.address]);
    let process = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = timeout(*PATIENCE, process.wait_with_output()).await.expect("its end").unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_stopped_or_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let found = || std::fs::read_dir(folder.path()).unwrap().count();
    let compressed = folder.path().join("all.csv.gz");
    let output = run([], &["export", "--out", compressed.to_str().unwrap()]).await;
    assert_eq!((output.status.code(), found()), (Some(1), 0));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("an export is not compressed"), "{text}");

    let out = folder.path().join("all.csv");
    let mut command = trex(&["export", "--server", "localhost:1", "--out", out.to_str().unwrap()]);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    // It is at work.
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = timeout(*PATIENCE, said.next_line()).await.expect("a line in time").unwrap().unwrap();
    assert!(line.starts_with("disconnected: ") && found() == 1, "{line}");
    let pid = process.id().expect("a process").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let ended = timeout(*PATIENCE, process.wait()).await.expect("its end").unwrap();
    assert_eq!((ended.code(), found()), (Some(1), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initial_state_that_always_fails_is_asked_for_less_and_less_often() {
    let rows = || vec![event(EventType::Snapshot, "a", "T. rex")];
    let failing = (0..5).map(|_| Script { events: rows(), end: Code::Unavailable });
    let whole = Script {
        events: vec![event(EventType::Snapshot, "a", "T. rex"), bookmark(0)],
        end: Code::Unavailable,
    };
    let last = Script { events: vec![], end: Code::InvalidArgument };
    let output = run(failing.chain([whole, last]), &["watch", "--initial-state"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    let pauses: Vec<u64> = text
        .lines()
        .filter_map(|line| line.split("; again in ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    // From 100 ms, doubled each time, and between half and all of that.
    assert_eq!(pauses.len(), 6, "{text}");
    assert!(pauses[0] <= 100 && pauses[4] >= 800, "{pauses:?}");
    assert!(pauses[5] <= 100, "a state that is complete begins again: {pauses:?}");
}
