use super::*;
use std::io::{Cursor, Read};

/// Gives few bytes at a time, as a pipe may.
struct Trickle(Cursor<Vec<u8>>, usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let few = buffer.len().min(self.1);
        self.0.read(&mut buffer[..few])
    }
}

/// Id and species.
type Item = Result<(String, String), String>;

fn entries(text: &[u8], format: Format) -> Vec<(u64, String, Item)> {
    entries_of(text, format, Quoting::Strict)
}

fn entries_of(text: &[u8], format: Format, quoting: Quoting) -> Vec<(u64, String, Item)> {
    let all = |bytes: Box<dyn BufRead + Send>| {
        let mut records = Records::new(bytes, format, quoting).unwrap();
        std::iter::from_fn(|| records.next().unwrap())
            .map(|Entry { line, raw, item }| {
                (line, String::from_utf8_lossy(&raw).into_owned(), item.map(|item| (item.id, item.species)))
            })
            .collect::<Vec<_>>()
    };
    let whole = all(Box::new(Cursor::new(text.to_vec())));
    let trickle = Trickle(Cursor::new(text.to_vec()), 3 + text.len() / 1000);
    let trickled = all(Box::new(io::BufReader::new(trickle)));
    assert_eq!(whole, trickled, "it depends on how the bytes come");
    whole
}

fn lines(text: &str, format: Format) -> Vec<(u64, Item)> {
    entries(text.as_bytes(), format).into_iter().map(|(line, _, item)| (line, item)).collect()
}

fn item(id: &str, species: &str) -> Item {
    Ok((id.to_owned(), species.to_owned()))
}

fn refused(text: &str, format: Format) -> String {
    Records::new(Box::new(Cursor::new(text.as_bytes().to_vec())), format, Quoting::Strict)
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn lines_of_json_have_their_numbers() {
    let text = "\u{feff}{\"species\":\"a\"}\r\n\n  \n{\"id\":\"7\",\"species\":\"b\"}\nnonsense\n{\"species\":\"c\",\"id\":null}";
    let seen = lines(text, Format::Ndjson);
    assert_eq!(seen[0], (1, item("", "a")));
    assert_eq!(seen[1], (4, item("7", "b")));
    assert_eq!(seen[2].0, 5);
    assert!(seen[2].1.as_ref().unwrap_err().ends_with("at column 2"), "{:?}", seen[2]);
    assert_eq!(seen[3], (6, item("", "c")));
    assert_eq!(seen.len(), 4);
}

#[test]
fn json_that_is_no_item_says_why() {
    let why = |line: &str| lines(line, Format::Ndjson)[0].1.clone().unwrap_err();
    assert!(why("{\"specis\":\"a\"}").contains("unknown field `specis`"));
    assert!(why("{}").contains("missing field `species`"));
    assert!(why(" [\"a\"]").contains("is an array"));
    assert!(why("{\"species\":7}").contains("expected a string"));
    assert!(why("{\"species\":\"a\",\"species\":\"b\"}").contains("duplicate field"));
    let bad = entries(b"{\"species\":\"\xff\"}\n{\"species\":\"a\"}", Format::Ndjson);
    assert!(bad[0].2.is_err());
    assert_eq!(bad[1].2, item("", "a"));
}

#[test]
fn records_may_span_lines() {
    let text =
        "species,id\r\nTyrannosaurus,1\r\n\"two\nlines, \"\"quoted\"\"\",2\n\n\"5\"\" tall\",3\n,4\nlast,5";
    let seen = lines(text, Format::Csv);
    let expected = [
        (2, item("1", "Tyrannosaurus")),
        (3, item("2", "two\nlines, \"quoted\"")),
        (6, item("3", "5\" tall")),
        (7, item("4", "")),
        (8, item("5", "last")),
    ];
    assert_eq!(seen, expected);
}

/// Else what a slow pipe has already given would wait for what comes next.
#[test]
fn whether_more_is_there_is_known_without_waiting() {
    for (format, text) in [(Format::Ndjson, "{\"species\":\"a\"}\r\n"), (Format::Csv, "species\r\na\r\n")] {
        for (more, expected) in [("", false), (&text[text.len() / 2..], true)] {
            let text = format!("{text}{more}").into_bytes();
            let mut records = Records::new(Box::new(Cursor::new(text)), format, Quoting::Strict).unwrap();
            assert_eq!(records.next().unwrap().unwrap().item.unwrap().species, "a");
            assert_eq!(records.has_next(), expected, "{format:?}");
        }
    }
}

/// Some spreadsheets write such files.
#[test]
fn carriage_returns_alone_end_lines_of_csv() {
    let seen = lines("id,species\r1,a\r2\r3,\"two\rlines\"\r\r4,b\r\n5,c\n\r6,\"open\r7,d", Format::Csv);
    let expected = [
        (2, item("1", "a")),
        (3, Err("has 1 fields, and the header 2".to_owned())),
        (4, item("3", "two\rlines")),
        (7, item("4", "b")),
        (8, item("5", "c")),
        (10, Err("begins a quoted field that never ends".to_owned())),
        (11, item("7", "d")),
    ];
    assert_eq!(seen, expected);
    let seen = lines("{\"species\":\r\"a\"}\r\n{\"species\":\"b\"}", Format::Ndjson);
    assert_eq!(seen, [(1, item("", "a")), (2, item("", "b"))]);
}

#[test]
fn a_bad_record_costs_no_other() {
    let seen = entries(b"id,species\n1\n2,b,c\n3,\xff\n4,d\n", Format::Csv);
    let lines: Vec<_> = seen.iter().map(|(line, raw, _)| (*line, raw.as_str())).collect();
    assert_eq!(lines, [(2, "1"), (3, "2,b,c"), (4, "3,\u{fffd}"), (5, "4,d")]);
    assert_eq!(seen[0].2, Err("has 1 fields, and the header 2".to_owned()));
    assert_eq!(seen[1].2, Err("has 3 fields, and the header 2".to_owned()));
    assert_eq!(seen[2].2, Err("species: is not UTF-8".to_owned()));
    assert_eq!(seen[3].2, item("4", "d"));
}

#[test]
fn a_quote_that_is_never_closed_costs_its_line_only() {
    let seen = lines("id,species\n1,\"open\n2,b\n3,c\n", Format::Csv);
    assert_eq!(seen[0], (2, Err("begins a quoted field that never ends".to_owned())));
    assert_eq!(seen[1..], [(3, item("2", "b")), (4, item("3", "c"))]);
    let many = "4,d\n".repeat(LONGEST);
    let seen = lines(&format!("id,species\n1,\"open\n{many}"), Format::Csv);
    assert_eq!(seen.len(), LONGEST + 1);
    assert!(seen[0].1.as_ref().unwrap_err().contains("never ends"));
}

#[test]
fn a_line_has_a_bound() {
    for (format, header) in [(Format::Ndjson, ""), (Format::Csv, "species\n")] {
        let long = "x".repeat(5 * LONGEST);
        let good = if format == Format::Csv { "a" } else { "{\"species\":\"a\"}" };
        let seen = entries(format!("{header}{long}\n{good}\n{long}").as_bytes(), format);
        assert_eq!(seen.len(), 3, "{format:?}");
        for n in [0, 2] {
            assert!(seen[n].2.as_ref().unwrap_err().starts_with("is longer than"), "{:?}", seen[n].2);
            assert_eq!(seen[n].1.len(), SHOWN);
        }
        assert_eq!(seen[1].2, item("", "a"));
    }
}

#[test]
fn a_wrong_header_names_the_columns() {
    let known = "the header names species (required) and id";
    assert_eq!(
        refused("id,name\n1,a\n", Format::Csv),
        format!("line 1: there is no column \"name\": {known}")
    );
    assert_eq!(refused("id\n1\n", Format::Csv), format!("line 1: there is no column \"species\": {known}"));
    assert_eq!(refused("species,species\n", Format::Csv), "line 1: column \"species\" is there twice");
    assert_eq!(lines("", Format::Csv), []);
    assert_eq!(lines("\n\nspecies\n", Format::Csv), []);
}

#[test]
fn what_was_cut_off_is_not_taken_for_whole() {
    struct Torn(Cursor<Vec<u8>>);
    impl Read for Torn {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                count => Ok(count),
            }
        }
    }
    let torn = Torn(Cursor::new(b"species\na\nb\nhalf a na".to_vec()));
    let mut records = Records::new(Box::new(io::BufReader::new(torn)), Format::Csv, Quoting::Strict).unwrap();
    assert_eq!(records.next().unwrap().unwrap().line, 2);
    assert_eq!(records.next().unwrap().unwrap().line, 3);
    assert_eq!(records.next().unwrap_err().to_string(), "line 4: the compressed data ends too early");
}

#[test]
fn the_format_is_known_by_name_or_by_the_first_byte() {
    use std::path::Path;
    let guess = |name: &str, first: &str| Format::guess(Path::new(name), first.as_bytes());
    assert_eq!(guess("a/b.CSV.gz", "{"), Format::Csv);
    assert_eq!(guess("b.jsonl.zst", "x"), Format::Ndjson);
    assert_eq!(guess("-", "{\"species\":1}"), Format::Ndjson);
    assert_eq!(guess("-", "species"), Format::Csv);
}

/// An input from the field: three lines that became one row.
#[test]
fn broken_quoting_costs_its_line_only() {
    let seen = entries(b"species\n\"Rex\nTrike\n\"Stego\"\n5\" tall\n\"a\" \n x \n", Format::Csv);
    let expected = [
        (2, "\"Rex", Err("begins a quoted field, and line 4 has text behind the quote that closes a field")),
        (3, "Trike", Ok("Trike")),
        (4, "\"Stego\"", Ok("Stego")),
        (5, "5\" tall", Err("has a quote in a field that does not begin with one")),
        (6, "\"a\" ", Err("has text behind the quote that closes a field")),
        (7, " x ", Ok(" x ")),
    ];
    let expected = expected.map(|(line, raw, item)| {
        let item = item.map(|species| (String::new(), species.to_owned())).map_err(str::to_owned);
        (line, raw.to_owned(), item)
    });
    assert_eq!(seen, expected);
    let guessed = entries_of(b"species\n\"Rex\nTrike\n\"Stego\"\n5\" tall\n", Format::Csv, Quoting::Lenient);
    assert_eq!(
        guessed.iter().map(|entry| entry.2.clone()).collect::<Vec<_>>(),
        [item("", "Rex\nTrike\nStego\""), item("", "5\" tall"),]
    );
}

/// A row that somebody else wrote: another id would make it another row.
#[test]
fn an_id_that_is_empty_is_not_one_that_is_left_out() {
    let csv = b"id,species\n,a\n\"\",b\n";
    let seen = entries(csv, Format::Csv);
    assert_eq!(seen[0].2, item("", "a"));
    assert!(seen[1].2.as_ref().unwrap_err().starts_with("id: is there and empty"));
    assert_eq!(entries_of(csv, Format::Csv, Quoting::Lenient)[1].2, item("", "b"));
    let seen = entries(b"{\"id\":\"\",\"species\":\"a\"}\n{\"species\":\"b\"} \t\n", Format::Ndjson);
    assert!(seen[0].2.is_err());
    assert_eq!((&*seen[1].1, &seen[1].2), ("{\"species\":\"b\"} \t", &item("", "b")), "as it stands");
}

/// Its lines look like records, but are not.
#[test]
fn of_a_record_that_is_too_long_no_line_is_taken_for_a_record() {
    let long = "7,inside\r\n".repeat(LONGEST / 4);
    let text = format!(
        "id,species\n1,a\n2,\"{long}\"\n3,b\n4,\"{long}\",{long}5,c\n\"x\n\",{}\n",
        "y".repeat(3 * LONGEST)
    );
    let seen = lines(&text, Format::Csv);
    let inside = (LONGEST / 4) as u64;
    assert_eq!(seen[0], (2, item("1", "a")));
    assert_eq!(seen[1].0, 3);
    assert!(seen[1].1.as_ref().unwrap_err().starts_with("is longer than"));
    assert_eq!(seen[2], (4 + inside, item("3", "b")));
    // One field too many, on one line: what follows is sound.
    assert_eq!(seen[3].0, 5 + inside);
    assert!(seen[3].1.as_ref().unwrap_err().starts_with("is longer than"));
    assert_eq!(seen[4], (6 + 2 * inside, item("7", "inside")));
    let rest = seen.len() - 2;
    assert_eq!(seen[rest], (5 + 3 * inside, item("5", "c")));
    assert_eq!(seen[rest + 1].0, 6 + 3 * inside);
    assert!(seen[rest + 1].1.as_ref().unwrap_err().starts_with("is longer than"));
    // A stray quote, far before the next one.
    let text = format!("id,species\n1,\"a\n{long}8,\"b\n9,\"{long}\nend,\"x");
    let seen = lines(&text, Format::Csv);
    assert_eq!(seen.len() as u64, 1 + inside + 1 + 1 + (inside - 1) + 1);
    assert_eq!(seen.iter().filter(|(_, item)| item.is_err()).count(), 4);
}
