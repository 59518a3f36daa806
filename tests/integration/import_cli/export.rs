//! What there is, written and read again.

use super::{World, names};

const NASTY: [&str; 7] =
    ["Tyrannosaurus, \"rex\"", "two\nlines", "\r", " spaces ", "\"", "naïve 🦕", "back\\slash"];

/// Id and species, by id.
async fn rows(world: &World) -> Vec<(String, String)> {
    let rows = world.session.query("SELECT id, species FROM dinosaurs ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_imported_elsewhere() {
    let (from, to) = tokio::join!(World::new(), World::new());
    let nasty: Vec<String> = NASTY.into_iter().map(str::to_owned).chain(names(0..3000)).collect();
    from.session
        .execute(
            "INSERT INTO dinosaurs (id, species) SELECT 'id,' || s, s FROM unnest($1::text[]) s",
            &[&nasty],
        )
        .await
        .unwrap();
    for file in ["all.csv", "all.ndjson"] {
        let outcome = from.run(&["export", "--out", file]).await;
        outcome.ended_with(0).said("3007 rows at revision 3007 of epoch ");
        std::fs::copy(from.path(file), to.path(file)).unwrap();
        to.session.batch_execute("DELETE FROM dinosaurs").await.unwrap();
        to.run(&["import", file]).await.ended_with(0).said("3,007 created");
        assert_eq!(rows(&from).await, rows(&to).await, "{file}");
        // Standard output has the same lines.
        let format = file.rsplit('.').next().unwrap();
        let printed = from.run(&["export", "--format", format]).await;
        assert_eq!(sorted(&printed.ended_with(0).stdout), sorted(&from.read(file)));
    }
    assert_eq!(std::fs::read_dir(from.folder.path()).unwrap().count(), 2, "something was left behind");
    let (from, to) = (from.hub, to.hub);
    tokio::join!(from.stop(), to.stop());
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_of_the_revision_that_it_says() {
    let world = World::new().await;
    let busy = world.database.connect().await;
    let writer = tokio::spawn(async move {
        for n in 0..400 {
            busy.execute("INSERT INTO dinosaurs (id, species) VALUES ($1, 'x')", &[&format!("{n:06}")])
                .await
                .unwrap();
        }
    });
    // One row is one event here, so as many rows as the revision says.
    for _ in 0..5 {
        let outcome = world.run(&["export"]).await;
        let count = outcome.ended_with(0).stdout.lines().count();
        outcome.said(&format!("{count} rows at revision {count} of epoch "));
    }
    writer.await.unwrap();
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_alone_what_is_no_file_and_what_it_cannot_complete() {
    let world = World::new().await;
    world.session.batch_execute("INSERT INTO dinosaurs (id, species) VALUES ('1', 'x')").await.unwrap();
    world.run(&["export", "--out", "/dev/null"]).await.ended_with(1).said("is no file");
    world.write("old.csv", "old");
    let gone = ["export", "--out", "old.csv", "--server", "localhost:1", "--give-up-after", "100ms"];
    world.run(&gone).await.ended_with(1).said("could not be reached for 100ms");
    assert_eq!(world.read("old.csv"), "old");
    world.run(&["export", "--out", "old.csv", "--times"]).await.ended_with(0).said("1 rows at revision 1 ");
    let text = world.read("old.csv");
    assert!(text.starts_with("id,species,created_at,updated_at\n1,x,2"), "{text}");
    world.run(&["import", "old.csv"]).await.ended_with(1).said("there is no column \"created_at\"");
    world.hub.stop().await;
}
