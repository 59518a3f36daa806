//! What is not in, and why.

use super::{World, herd, listed, name, names, outcome};

/// Line, index and code of a reject.
type Bad = (u64, Option<u64>, String);

/// A file in which every hundredth line is bad, each in another way; what is expected of those; and the
/// species in the others.
fn mixed(count: usize) -> (Vec<u8>, Vec<Bad>, Vec<String>) {
    let (mut text, mut bad, mut good) = (Vec::new(), Vec::new(), Vec::new());
    let (mut index, mut wrong) = (0, 0);
    for n in 0..count {
        let line = n as u64 + 1;
        if n % 100 != 17 {
            text.extend(format!("{{\"id\":\"{n}\",\"species\":\"{}\"}}\n", name(n)).into_bytes());
            good.push(name(n));
            index += 1;
            continue;
        }
        let refused = |code: &str| (line, Some(index), code.to_owned());
        let unread = (line, None, "UNREADABLE".to_owned());
        let (content, expected): (Vec<u8>, _) = match wrong % 7 {
            0 => (b"{\"species\":\"\"}".to_vec(), refused("INVALID_FIELD")),
            1 => (format!("{{\"species\":\"{}\"}}", "x".repeat(256)).into(), refused("INVALID_FIELD")),
            2 => (b"{\"species\":\"a\\u0000b\"}".to_vec(), refused("INVALID_FIELD")),
            // Of this batch or of one before.
            3 => (b"{\"id\":\"3\",\"species\":\"again\"}".to_vec(), refused("ALREADY_EXISTS")),
            4 => (b"{\"species\":\"\xff\xfe\"}".to_vec(), unread),
            5 => (b"{\"name\":\"Tyrannosaurus\"}".to_vec(), unread),
            _ => (b"half a li".to_vec(), unread),
        };
        wrong += 1;
        index += u64::from(expected.1.is_some());
        text.extend(content);
        text.push(b'\n');
        bad.push(expected);
    }
    (text, bad, good)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_listed_with_number_and_reason_and_the_others_are_in() {
    let world = World::new().await;
    let (text, bad, good) = mixed(20_000);
    world.write("mixed.ndjson", &text);
    let outcome = world.run(&["import", "mixed.ndjson"]).await;
    outcome.ended_with(3).said("19,800 created, 200 rejected: see mixed.ndjson.rejects.ndjson");
    assert_eq!(world.species().await, good);
    let list = world.path("mixed.ndjson.rejects.ndjson");
    let told: Vec<_> = listed(&list).into_iter().map(|(line, index, code, _)| (line, index, code)).collect();
    assert_eq!(told, bad);
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    for (line, _, _, raw) in listed(&list) {
        assert_eq!(raw, String::from_utf8_lossy(lines[line as usize - 1]), "line {line}");
    }
    // The second time there is nothing to do, and nothing more to list.
    let before = world.read("mixed.ndjson.rejects.ndjson");
    world.run(&["import", "mixed.ndjson"]).await.ended_with(3).said("all of it by an earlier run");
    assert_eq!(world.read("mixed.ndjson.rejects.ndjson"), before);
    assert_eq!(world.species().await.len(), good.len());
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_failures_than_the_hub_tells_are_listed_all_the_same() {
    let world = World::new().await;
    world.write("bad.ndjson", "{\"species\":\"\"}\n".repeat(5000));
    let outcome = world.run(&["import", "bad.ndjson", "--batch-size", "5000"]).await;
    outcome.ended_with(1).said("0 created, 5,000 rejected");
    let lines: Vec<_> =
        listed(&world.path("bad.ndjson.rejects.ndjson")).into_iter().map(|all| all.0).collect();
    assert_eq!(lines, (1..=5000).collect::<Vec<_>>());
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_written_ends_the_run_and_the_next_one_completes_it() {
    let world = World::new().await;
    world.write("three.ndjson", herd(2) + "{\"species\":\"\"}\n");
    world.run(&["import", "three.ndjson", "--rejects", "no/such/list"]).await.ended_with(1).said("no folder");
    let full = world.run(&["import", "three.ndjson", "--rejects", "/dev/full"]).await;
    full.ended_with(3).said("2 created").said("No space left").said("the same command goes on");
    world.run(&["import", "three.ndjson"]).await.ended_with(3).said("by an earlier run");
    assert_eq!(listed(&world.path("three.ndjson.rejects.ndjson")).len(), 1);
    assert_eq!(world.species().await, names(0..2));
    world.hub.stop().await;
}

/// Such as `head`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_a_dry_run_does_not_change_its_verdict() {
    let world = World::new().await;
    world.write("bad.ndjson", "{\"species\":\"\"}\n".repeat(10_000) + &herd(1));
    let mut child = world.start(&["import", "bad.ndjson", "--dry-run"]);
    drop(child.stdout.take());
    let outcome = outcome(child).await;
    outcome.ended_with(3).said("1 would be created, 10,000 rejected");
    assert!(!outcome.stderr.contains("pipe"), "{outcome:?}");
    world.hub.stop().await;
}

/// Whatever its name: a FIFO, or what a shell makes of `<(…)`.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_with_a_name_is_a_pipe() {
    let world = World::new().await;
    let text = herd(2) + "{\"species\":\"\"}\n";
    let failed = world.pipe(&["import", "/dev/fd/0", "--rejects", "/dev/full"], text.as_bytes()).await;
    failed.ended_with(3).said("the same input with --import-id pipe-");
    let (_, id) = failed.stderr.split_once("--import-id ").unwrap();
    let again = ["import", "/dev/fd/0", "--import-id", id.split_whitespace().next().unwrap()];
    let outcome = world.pipe(&again, text.as_bytes()).await;
    outcome
        .ended_with(3)
        .said("2 created, 1 rejected: see import.rejects.ndjson; all of it by an earlier run");
    assert_eq!(listed(&world.path("import.rejects.ndjson")).len(), 1);
    assert_eq!(world.species().await, names(0..2));
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_rejected_and_needs_no_hub() {
    let world = World::new().await;
    let (text, bad, _) = mixed(2000);
    world.write("mixed.ndjson", &text);
    let outcome = world.run(&["import", "mixed.ndjson", "--dry-run", "--server", "localhost:1"]).await;
    // It cannot know which ids exist.
    let exists = bad.iter().filter(|(_, _, code)| code == "ALREADY_EXISTS").count();
    outcome.ended_with(3).said(&format!("1,98{exists} would be created, {} rejected", 20 - exists));
    world.write("told", &outcome.stdout);
    let told: Vec<_> =
        listed(&world.path("told")).into_iter().map(|(line, index, code, _)| (line, index, code)).collect();
    let expected: Vec<_> = bad.into_iter().filter(|(_, _, code)| code != "ALREADY_EXISTS").collect();
    assert_eq!(told, expected);
    world.write("good.ndjson", herd(10));
    world
        .run(&["import", "good.ndjson", "--dry-run"])
        .await
        .ended_with(0)
        .said("10 would be created, 0 rejected");
    assert_eq!(world.species().await, names([]));
    assert!(!world.path("mixed.ndjson.rejects.ndjson").exists());
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_quoting_costs_its_line_only() {
    let world = World::new().await;
    world.write("a.csv", "species\n\"Rex\nTrike\n\"Stego\"  \n\"Bronto\"\n");
    world.run(&["import", "a.csv"]).await.ended_with(3).said("2 created, 2 rejected");
    assert_eq!(world.species().await, ["Bronto", "Trike"]);
    let raw: Vec<_> =
        listed(&world.path("a.csv.rejects.ndjson")).into_iter().map(|all| (all.0, all.3)).collect();
    assert_eq!(raw, [(2, "\"Rex".to_owned()), (4, "\"Stego\"  ".to_owned())]);
    assert!(
        world.read("a.csv.rejects.ndjson").contains("line 4 has text behind the quote that closes a field")
    );
    world.session.batch_execute("DELETE FROM dinosaurs").await.unwrap();
    world.run(&["import", "a.csv", "--lenient"]).await.ended_with(0).said("2 created");
    assert_eq!(world.species().await, ["Bronto", "Rex\nTrike\nStego\"  "]);
    world.write("a.ndjson", herd(1));
    world
        .run(&["import", "a.ndjson", "--lenient"])
        .await
        .ended_with(1)
        .said("--lenient is about quotes in CSV");
    world.hub.stop().await;
}
