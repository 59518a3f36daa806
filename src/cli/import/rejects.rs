//! The list of what was rejected: one JSON object a line, in the order of the source, so that a later run
//! learns from the list itself what it holds, and adds what is missing. The file is created when there is
//! something to list.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

/// How every line of the list begins.
const BEGINNING: &[u8] = b"{\"import_id\":";
/// Stands in place of an import's id in the list of a dry run: with an id, that import would take the list
/// for what the hub has said.
const DRY_RUN: &str = "dry-run";

/// A line of the source that was not imported.
#[derive(Debug, Clone)]
pub(super) struct Reject<'a> {
    /// Its number; the first is 1.
    pub(super) line: u64,
    /// The item's index in the import; none if the line could not be read: then the hub never saw it.
    pub(super) index: Option<u64>,
    /// Why, for programs.
    pub(super) code: &'a str,
    /// Why, for people.
    pub(super) reason: &'a str,
    /// Its text in the source.
    pub(super) raw: &'a [u8],
}

#[derive(Serialize)]
struct Written<'a> {
    import_id: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    code: &'a str,
    reason: &'a str,
    raw: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Known {
    import_id: String,
    line: u64,
    index: Option<u64>,
}

/// The list of one import, in a file that may hold those of others.
pub(super) struct Rejects {
    path: PathBuf,
    import_id: String,
    output: Option<Box<dyn Write + Send>>,
    /// Every reject up to this line is in the list.
    last_line: u64,
    /// Every failure below this index is in the list.
    next_index: u64,
    listed: u64,
    /// Whether the file holds lists of others too.
    shared: bool,
}

impl Rejects {
    /// The list in a file, which need not exist. A half-written last line of an earlier run that was killed
    /// is removed.
    pub(super) fn open(path: &Path, import_id: &str) -> anyhow::Result<Self> {
        let mut rejects = Self::empty(path.to_owned(), import_id, None);
        let shown = || path.display().to_string();
        match std::fs::metadata(path) {
            Ok(there) if there.is_file() => {}
            // A device or a pipe knows nothing of earlier runs.
            Ok(_) => return Ok(rejects),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                    bail!("{}: there is no folder {}", shown(), folder.display());
                }
                return Ok(rejects);
            }
            Err(error) => return Err(error).with_context(shown),
        }
        let file = File::open(path).with_context(shown)?;
        if let Some(whole) = rejects.read(BufReader::new(file)).with_context(shown)? {
            let shortened = File::options().write(true).open(path).and_then(|file| file.set_len(whole));
            shortened.with_context(shown)?;
        }
        Ok(rejects)
    }

    /// The list of a dry run, in place of that of an earlier one, which is out of date.
    pub(super) fn of_dry_run(path: &Path) -> anyhow::Result<Self> {
        let earlier = Self::open(path, DRY_RUN)?;
        let shown = || path.display().to_string();
        if earlier.shared {
            bail!("{}: lists what an import has rejected: name another file with --rejects", shown());
        }
        if earlier.listed > 0 {
            File::options().write(true).truncate(true).open(path).with_context(shown)?;
        }
        Self::open(path, DRY_RUN)
    }

    /// A dry run's list that goes to standard output, and is not read again.
    pub(super) fn to_stdout() -> Self {
        let output = Box::new(BufWriter::new(Shown(io::stdout())));
        Self::empty("standard output".into(), DRY_RUN, Some(output))
    }

    fn empty(path: PathBuf, import_id: &str, output: Option<Box<dyn Write + Send>>) -> Self {
        let import_id = import_id.to_owned();
        Self { path, import_id, output, last_line: 0, next_index: 0, listed: 0, shared: false }
    }

    /// Learns what is listed. Returns the length of the whole lines, if the last line is incomplete.
    fn read(&mut self, mut file: impl BufRead) -> anyhow::Result<Option<u64>> {
        let (mut line, mut length) = (Vec::new(), 0);
        loop {
            // Checked before the line is read: another kind of file may have no line ends.
            let next = file.fill_buf()?;
            let beginning = next.get(..BEGINNING.len()).unwrap_or(next);
            if !BEGINNING.starts_with(beginning) {
                bail!("is there, and is no list of rejects: name another one with --rejects");
            }
            if file.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') {
                return Ok(Some(length));
            }
            let known: Known = serde_json::from_slice(&line)?;
            if known.import_id == self.import_id {
                self.count(known.line, known.index);
            } else {
                self.shared = true;
            }
            length += line.len() as u64;
            line.clear();
        }
    }

    fn count(&mut self, line: u64, index: Option<u64>) {
        self.listed += 1;
        self.last_line = self.last_line.max(line);
        self.next_index = self.next_index.max(index.map_or(0, |index| index + 1));
    }

    /// Every failure below this index of the import is in the list.
    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// How many are in the list, those of earlier runs included.
    pub(super) fn listed(&self) -> u64 {
        self.listed
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lists a line, unless an earlier run has done so. Lines come in order.
    pub(super) fn add(&mut self, reject: &Reject<'_>) -> anyhow::Result<()> {
        if reject.line <= self.last_line {
            return Ok(());
        }
        let output = match &mut self.output {
            Some(output) => output,
            None => {
                let file = File::options().append(true).create(true).open(&self.path);
                let file = file.with_context(|| self.path.display().to_string())?;
                self.output.insert(Box::new(BufWriter::new(file)))
            }
        };
        let written = Written {
            import_id: &self.import_id,
            line: reject.line,
            index: reject.index,
            code: reject.code,
            reason: reject.reason,
            raw: String::from_utf8_lossy(reject.raw),
        };
        let mut line = serde_json::to_vec(&written)?;
        line.push(b'\n');
        output.write_all(&line).with_context(|| self.path.display().to_string())?;
        self.count(reject.line, reject.index);
        Ok(())
    }

    /// Hands what was added to the operating system, so that a killed process loses none of it.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.output {
            Some(output) => output.flush().with_context(|| self.path.display().to_string()),
            None => Ok(()),
        }
    }
}

/// Standard output, whose reader may leave when it has seen enough: a closed pipe is no error.
struct Shown(io::Stdout);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64, index: Option<u64>) -> Reject<'static> {
        Reject { line, index, code: "INVALID_FIELD", reason: "species: is required", raw: b"{}" }
    }

    fn lines(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<Known>(line).unwrap().line).collect()
    }

    #[test]
    fn a_later_run_lists_no_line_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects");
        let mut first = Rejects::open(&path, "one").unwrap();
        assert!(!path.exists(), "made before it was needed");
        first.add(&reject(3, None)).unwrap();
        first.add(&reject(5, Some(3))).unwrap();
        first.flush().unwrap();
        drop(first);
        // Killed in the middle of a line.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"import_id\":\"one\",\"li").unwrap();
        let mut second = Rejects::open(&path, "one").unwrap();
        assert_eq!((second.next_index(), second.listed()), (4, 2));
        for line in [3, 5, 9] {
            second.add(&reject(line, None)).unwrap();
        }
        drop(second);
        assert_eq!(lines(&path), [3, 5, 9]);
        let mut other = Rejects::open(&path, "two").unwrap();
        assert_eq!((other.next_index(), other.listed()), (0, 0));
        other.add(&reject(1, None)).unwrap();
        drop(other);
        assert_eq!(lines(&path), [3, 5, 9, 1], "the lists of other imports stay");
    }

    #[test]
    fn a_dry_run_begins_its_list_anew_and_leaves_that_of_an_import_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects");
        for numbers in [[2, 9], [1, 3]] {
            let mut list = Rejects::of_dry_run(&path).unwrap();
            numbers.iter().for_each(|&line| list.add(&reject(line, Some(line))).unwrap());
            drop(list);
            assert_eq!(lines(&path), numbers);
        }
        Rejects::open(&path, "one").unwrap().add(&reject(7, None)).unwrap();
        assert!(Rejects::of_dry_run(&path).is_err());
        assert_eq!(lines(&path), [1, 3, 7]);
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        for content in ["my notes", "my notes\n", "{\"species\":\"x\"}\n"] {
            std::fs::write(&path, content).unwrap();
            assert!(Rejects::open(&path, "one").is_err(), "{content:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }
}
