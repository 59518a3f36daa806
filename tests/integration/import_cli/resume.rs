//! Every item once, whatever is killed.

use super::{World, herd, listed, name, names, outcome};
use crate::support::{Database, PATIENCE, TestHub, until};
use std::time::Duration;
use tokio::time::sleep;
use trex::{app::Settings, embedded::testing::EphemeralPostgres, store::Driven};

const ITEMS: usize = 30_000;

/// A file whose lines are good but for every hundredth, which repeats an id that is there already.
fn file_with_repeats() -> (String, Vec<u64>) {
    let mut lines = String::new();
    let mut repeats = Vec::new();
    for n in 0..ITEMS {
        if n % 100 == 99 {
            repeats.push(n as u64 + 1);
            lines += &format!("{{\"id\":\"{}\",\"species\":\"again\"}}\n", n - 50);
        } else {
            lines += &format!("{{\"id\":\"{n}\",\"species\":\"{}\"}}\n", name(n));
        }
    }
    (lines, repeats)
}

async fn all_once(world: &World) {
    let expected = names((0..ITEMS).filter(|n| n % 100 != 99));
    let species = world.species().await;
    assert!(species == expected, "{} of {}", species.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_and_started_again() {
    let world = World::new().await;
    let (file, repeats) = file_with_repeats();
    world.write("herd.ndjson", file);
    let arguments = ["import", "herd.ndjson", "--batch-size", "100"];
    let (mut kills, mut unfinished) = (0, 0);
    let end = loop {
        let mut child = world.start(&arguments);
        let killed = async {
            // Some are killed before they have said anything, most of them at work.
            sleep(Duration::from_millis(fastrand::u64(10..400))).await;
        };
        tokio::select! {
            _ = child.wait() => break outcome(world.start(&arguments)).await,
            () = killed, if kills < 12 => {}
        }
        child.kill().await.unwrap();
        kills += 1;
        let rows = world.species().await.len();
        unfinished += usize::from(rows > 0 && rows < ITEMS * 99 / 100);
    };
    end.ended_with(3).said("29,700 created, 300 rejected").said("by an earlier run");
    assert!(unfinished > 0, "{kills} kills, none in the middle");
    println!("{kills} kills, {unfinished} in the middle");
    all_once(&world).await;
    // A list that survives its writer: in order, nothing missing, nothing twice.
    let list = listed(&world.path("herd.ndjson.rejects.ndjson"));
    assert_eq!(list.iter().map(|reject| reject.0).collect::<Vec<_>>(), repeats);
    assert!(list.iter().all(|reject| reject.2 == "ALREADY_EXISTS"));
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_at_a_hub_that_was_started_again() {
    let World { hub, database, session, folder } = World::new().await;
    let address = hub.app().addresses().grpc.clone().unwrap();
    let mut world = World { hub, database, session, folder };
    let (file, repeats) = file_with_repeats();
    world.write("herd.ndjson", file);
    let child = world.start(&["import", "herd.ndjson", "--batch-size", "100"]);
    for _ in 0..3 {
        let seen = world.hub.metric("hub_bulk_items_total", "created") + 2000.0;
        let hub = &world.hub;
        until("more items", || {
            let created = hub.metric("hub_bulk_items_total", "created");
            created >= seen || created >= 8000.0
        })
        .await;
        let World { hub, database, session, folder } = world;
        hub.stop().await;
        let hub = TestHub::start_at(Settings::new(database.target()), &address).await;
        world = World { hub, database, session, folder };
    }
    let outcome = outcome(child).await;
    outcome.ended_with(3).said("disconnected: ").said("29,700 created, 300 rejected");
    all_once(&world).await;
    let list = listed(&world.path("herd.ndjson.rejects.ndjson"));
    assert_eq!(list.iter().map(|reject| reject.0).collect::<Vec<_>>(), repeats);
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_at_a_postgres_that_was_killed() {
    let cluster = EphemeralPostgres::start(vec![]).await.unwrap();
    let mut world = World::on(Database::create_on(&cluster).await).await;
    let (file, repeats) = file_with_repeats();
    world.write("herd.ndjson", file);
    let child = world.start(&["import", "herd.ndjson", "--batch-size", "100"]);
    for kill in 1..=3 {
        let hub = &world.hub;
        until("more items", || hub.metric("hub_bulk_items_total", "created") >= 6000.0 * f64::from(kill))
            .await;
        cluster.kill().await.unwrap();
        cluster.restart().await.unwrap();
    }
    let outcome = outcome(child).await;
    outcome.ended_with(3).said("disconnected: ").said("29,700 created, 300 rejected");
    world.session = world.database.connect().await;
    all_once(&world).await;
    let list = listed(&world.path("herd.ndjson.rejects.ndjson"));
    assert_eq!(list.iter().map(|reject| reject.0).collect::<Vec<_>>(), repeats);
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_says_where_it_stands_and_how_to_go_on() {
    let world = World::new().await;
    world.write("herd.ndjson", herd(ITEMS));
    let arguments = ["import", "herd.ndjson", "--batch-size", "10"];
    let child = world.start(&arguments);
    let hub = &world.hub;
    until("some items", || hub.metric("hub_bulk_items_total", "created") > 100.0).await;
    std::process::Command::new("kill").args(["-INT", &child.id().unwrap().to_string()]).status().unwrap();
    let interrupted = outcome(child).await;
    interrupted.ended_with(3).said("stopped after line ").said("the same command goes on from there");
    // What it says is what there is: it has waited for its acknowledgements.
    let there = world.species().await.len();
    assert!(there < ITEMS);
    interrupted.said(&format!("stopped after line {there};"));
    world.run(&arguments).await.ended_with(0).said("30,000 created");
    assert_eq!(world.species().await, names(0..ITEMS));
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_the_same_import_and_no_other_is() {
    let world = World::new().await;
    world.write("a.ndjson", herd(100));
    world.run(&["import", "a.ndjson"]).await.ended_with(0).said("100 created");
    world.write("copy.ndjson", herd(100));
    world.run(&["import", "copy.ndjson"]).await.ended_with(0).said("all of it by an earlier run");
    assert_eq!(world.species().await.len(), 100);
    // The same length, and the same but for its last line.
    world.write("other.ndjson", herd(99) + "{\"species\":\"species 000777\"}\n");
    world.run(&["import", "other.ndjson"]).await.ended_with(0).said("100 created");
    assert_eq!(world.species().await.len(), 200);
    // Fewer items than the import of that name has: it cannot be the same source.
    let fewer = ["import", "-", "--import-id", "mine"];
    world.pipe(&fewer, herd(10).as_bytes()).await.ended_with(0);
    world.pipe(&fewer, herd(5).as_bytes()).await.ended_with(3).said("these are others");
    world.hub.stop().await;
}

/// Waits until the import waits for the table, which `held` locks: it has not read the file to its end then.
async fn held_up(world: &World, held: &Driven, arguments: &[&str]) -> tokio::process::Child {
    held.batch_execute("BEGIN; LOCK TABLE dinosaurs").await.unwrap();
    let child = world.start(arguments);
    let waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'dinosaurs'::regclass";
    let deadline = std::time::Instant::now() + *PATIENCE;
    while world.session.query(waiting, &[]).await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the import does not wait");
        sleep(Duration::from_millis(5)).await;
    }
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_grows_the_part_that_was_named_is_imported_and_the_rest_is_told() {
    const MANY: usize = 60_000;
    let world = World::new().await;
    let held = world.database.connect().await;
    world.write("herd.ndjson", herd(MANY));
    let child = held_up(&world, &held, &["import", "herd.ndjson"]).await;
    let mut file = std::fs::File::options().append(true).open(world.path("herd.ndjson")).unwrap();
    std::io::Write::write_all(&mut file, &herd(MANY + 10).as_bytes()[herd(MANY).len()..]).unwrap();
    held.batch_execute("COMMIT").await.unwrap();
    let first = outcome(child).await;
    first
        .ended_with(3)
        .said("60,000 created")
        .said("290 bytes were added since the import began, and not imported");
    assert_eq!(world.species().await, names(0..MANY));
    let (_, id) = first.stderr.split_once("--import-id ").unwrap();
    let id = id.split_whitespace().next().unwrap();
    world.run(&["import", "herd.ndjson", "--import-id", id]).await.ended_with(0).said("60,010 created");
    assert_eq!(world.species().await, names(0..MANY + 10));
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_imported_is_noticed() {
    let world = World::new().await;
    let held = world.database.connect().await;
    for (name, change) in [("shrinks.ndjson", None), ("changes.ndjson", Some(herd(60_000).replace('s', "S")))]
    {
        world.write(name, herd(60_000));
        let child = held_up(&world, &held, &["import", name]).await;
        match change {
            None => {
                let file = std::fs::File::options().write(true).open(world.path(name)).unwrap();
                file.set_len(100_000).unwrap();
            }
            Some(content) => world.write(name, content),
        }
        held.batch_execute("COMMIT").await.unwrap();
        let said =
            if name == "shrinks.ndjson" { "the file has become shorter" } else { "the file has changed" };
        let outcome = outcome(child).await;
        assert_ne!(outcome.code, Some(0), "{outcome:?}");
        outcome.said(said);
    }
    world.hub.stop().await;
}
