//! What it reads.

use super::{World, herd, names};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_pipes_in_every_format() {
    let world = World::new().await;
    let csv = "id,species\nc1,\"Tyrannosaurus, \"\"rex\"\"\"\n,\"two\nlines\"\n";
    let csv_species = ["Tyrannosaurus, \"rex\"", "two\nlines"].map(str::to_owned).to_vec();
    let ndjson = herd(300);
    let of_ndjson = names(0..300);
    let several = [gzip(&ndjson.as_bytes()[..1000]), gzip(&ndjson.as_bytes()[1000..])].concat();
    let cases: [(&str, Vec<u8>, &Vec<String>); 7] = [
        ("plain.ndjson", ndjson.clone().into(), &of_ndjson),
        ("plain.csv", csv.into(), &csv_species),
        ("a.ndjson.gz", gzip(ndjson.as_bytes()), &of_ndjson),
        ("members.jsonl.gz", several, &of_ndjson),
        ("b.csv.zst", zstd(csv.as_bytes()), &csv_species),
        // Known by their first bytes alone.
        ("nameless", zstd(ndjson.as_bytes()), &of_ndjson),
        ("header", csv.into(), &csv_species),
    ];
    for (file, content, expected) in cases {
        for piped in [false, true] {
            world.session.batch_execute("DELETE FROM dinosaurs").await.unwrap();
            // The same content would be known as imported; what differs here is how it is read.
            let id = format!("{file}-{piped}");
            let outcome = if piped {
                world.pipe(&["import", "-", "--import-id", &id], &content).await
            } else {
                world.write(file, &content);
                world.run(&["import", file, "--import-id", &id]).await
            };
            outcome.ended_with(0).said(&format!("{} created", expected.len()));
            assert_eq!(&world.species().await, expected, "{file}, piped: {piped}");
        }
    }
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_and_nothing_is_imported() {
    let world = World::new().await;
    world.write("wrong.csv", "name\nTyrannosaurus\n");
    world
        .run(&["import", "wrong.csv"])
        .await
        .ended_with(1)
        .said("wrong.csv: line 1: there is no column \"name\": the header names species (required) and id");
    world.run(&["import", "missing.csv"]).await.ended_with(1).said("missing.csv: No such file");
    world.run(&["import", "."]).await.ended_with(1).said("is a directory");
    world.write("a.ndjson.xz", b"\xfd7zXZ\0 and so on");
    world.run(&["import", "a.ndjson.xz"]).await.ended_with(1).said("is compressed with xz");
    world.write("notes", "my own\n");
    world.write("one.ndjson", herd(1));
    world.run(&["import", "one.ndjson", "--rejects", "notes"]).await.ended_with(1).said("no list of rejects");
    world.run(&["import", "one.ndjson", "--import-id", "two words"]).await.ended_with(1).said("import_id");
    let gone = ["import", "one.ndjson", "--server", "localhost:1", "--give-up-after", "200ms"];
    world
        .run(&gone)
        .await
        .ended_with(1)
        .said("could not be reached for 200ms")
        .said("the hub has not said what is in")
        .said("the same command goes on");
    assert!(world.species().await.is_empty());
    world.write("nothing.ndjson", "");
    world.run(&["import", "nothing.ndjson"]).await.ended_with(0).said("0 created");
    world.hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_off_is_in_as_far_as_it_goes() {
    let world = World::new().await;
    let whole = gzip(herd(5000).as_bytes());
    world.write("herd.ndjson.gz", &whole[..whole.len() / 2]);
    let outcome = world.run(&["import", "herd.ndjson.gz"]).await;
    outcome.ended_with(3).said("the compressed data ends too early").said("what comes before is decided");
    let had = world.species().await;
    assert!(had.len() > 100 && had == names(0..had.len()), "{}", had.len());
    outcome.said(&format!("line {}", had.len() + 1));
    // Again: the same, and no more.
    world.run(&["import", "herd.ndjson.gz"]).await.ended_with(3);
    assert_eq!(world.species().await.len(), had.len());
    let (_, id) = outcome.stderr.split_once("--import-id ").unwrap();
    let id = id.split_whitespace().next().unwrap();
    world.write("herd.ndjson.gz", &whole);
    world.run(&["import", "herd.ndjson.gz", "--import-id", id]).await.ended_with(0).said("5,000 created");
    assert_eq!(world.species().await, names(0..5000));
    world.hub.stop().await;
}
