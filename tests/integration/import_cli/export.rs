//! What there is, written and read again.

use super::{World, listed, names};
use proptest::{
    prelude::{Just, Strategy, any, prop_oneof},
    strategy::ValueTree,
    test_runner::TestRunner,
};

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

/// Any text that the database takes, the odd ones more often than chance would have it.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[\"',;\\\\ \t\r\n{}x]{0,8}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
        "\u{feff}?[é🦕 ]{1,90}",
        "[a-z]{240,270}",
        (1000_usize..1100).prop_map(|length| "k".repeat(length)),
        (65_000_usize..70_000, "[a,\"\r\n]{1,4}").prop_map(|(length, part)| part.repeat(length / part.len())),
    ]
}

/// A row comes in as it was exported, or is rejected; the API's rules say which.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_comes_in_as_it_was_or_is_rejected() {
    let (from, to) = tokio::join!(World::new(), World::new());
    let mut runner = TestRunner::default();
    let mut expected = 0;
    for n in 0..300 {
        let id = if n == 0 { String::new() } else { any_text().new_tree(&mut runner).unwrap().current() };
        let species = any_text().new_tree(&mut runner).unwrap().current();
        let insert = "INSERT INTO dinosaurs (id, species) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        // An index takes no long key.
        expected += from.session.execute(insert, &[&id, &species]).await.unwrap_or(0);
    }
    let fits = |(id, species): &(String, String)| {
        (1..=1024).contains(&id.len()) && (1..=255).contains(&species.len())
    };
    let kept: Vec<_> = rows(&from).await.into_iter().filter(fits).collect();
    for file in ["all.csv", "all.ndjson"] {
        from.run(&["export", "--out", file])
            .await
            .ended_with(0)
            .said(&format!("{expected} rows at revision "));
        std::fs::copy(from.path(file), to.path(file)).unwrap();
        to.session.batch_execute("DELETE FROM dinosaurs").await.unwrap();
        let said = format!("{} created, {} rejected", kept.len(), expected - kept.len() as u64);
        to.run(&["import", file]).await.ended_with(3).said(&said);
        assert_eq!(rows(&to).await, kept, "{file}");
        let rejects = listed(&to.path(&format!("{file}.rejects.ndjson")));
        assert_eq!(rejects.len() as u64, expected - kept.len() as u64, "{file}");
    }
    // What was rejected is listed as it stands, but for what is shown in part.
    let exported = from.read("all.ndjson");
    let lines: Vec<&str> = exported.split('\n').collect();
    for (line, _, _, raw) in listed(&to.path("all.ndjson.rejects.ndjson")) {
        let stands = lines[line as usize - 1];
        assert!(
            raw == stands || stands.len() > 65_536 && stands.starts_with(raw.trim_end_matches('\u{fffd}'))
        );
    }
    let (from, to) = (from.hub, to.hub);
    tokio::join!(from.stop(), to.stop());
}
