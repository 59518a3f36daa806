//! `trex export`: the initial state of a watch, which is the table at exactly one revision.

use super::{
    access::AccessOptions,
    failure::{Listener, explain},
    import::Format,
    listeners::GRPC,
    print::{say, unless_left},
    watch::time,
};
use crate::{
    client::{Notice, Watch, WatchOptions, WatchStart},
    proto::rh_trex::v1::{BackpressurePolicy, Dinosaur, EventType},
};
use anyhow::{Context, bail};
use serde::Serialize;
use std::{
    fs::Permissions,
    io::{self, BufWriter, Stdout, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};

/// Write every row as it is at one revision, as NDJSON or CSV
///
/// The revision is printed on standard error, with the epoch that it belongs to:
/// `trex watch --after-revision` goes on from there. What is written can be read by `trex import`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The hub
    #[arg(long, env = "TREX_SERVER", default_value = format!("http://{GRPC}"), value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// Write to this file, which appears only when it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How to write rows [default: as the file's name says, else NDJSON]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write created_at and updated_at too; an import refuses them, because the hub sets them
    #[arg(long)]
    times: bool,
    /// Give up when the hub could not be reached for this long
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    give_up_after: Duration,
}

impl Export {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let Some(path) = self.out.as_deref().filter(|path| is_compressed(path)) {
            bail!(
                "--out {}: an export is not compressed: name it without the ending, or leave out --out and \
                 pipe it through the compressor",
                path.display()
            );
        }
        let named = self.out.as_deref().map(|path| Format::guess(path, &[]));
        let format = self.format.or(named).unwrap_or(Format::Ndjson);
        let options = WatchOptions {
            types: vec![],
            resource_ids: vec![],
            filter: String::new(),
            start: WatchStart::State,
            backpressure: BackpressurePolicy::CatchUp,
        };
        let watch = Watch::new(self.access.hub(&self.server)?, options);
        let rows = Rows { format, times: self.times, count: 0, output: Output::open(self.out.as_deref())? };
        tokio::select! {
            written = self.write(watch, rows) => unless_left(written),
            stopped = self.stopped() => {
                stopped?;
                // Dropping `rows` deletes the file, which is not complete.
                bail!("interrupted: the export is not complete")
            }
        }
    }

    /// Waits until the export is to be interrupted. With standard output there is nothing to clean up: the
    /// signal itself ends the process, also within a write that nobody reads.
    async fn stopped(&self) -> io::Result<()> {
        if self.out.is_none() {
            return std::future::pending().await;
        }
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        Ok(())
    }

    async fn write(&self, mut watch: Watch, mut rows: Rows) -> anyhow::Result<()> {
        let mut of_epoch = String::new();
        let mut lost_since = None;
        loop {
            let notice = watch.next().await;
            match notice.map_err(|status| explain(&self.server, Listener::Api, &status))? {
                // A state that was cut off begins again: it would be of another revision.
                Notice::Connected { epoch, .. } => {
                    rows.begin()?;
                    of_epoch = epoch;
                }
                Notice::Event(event) if event.r#type() == EventType::Snapshot => {
                    lost_since = None;
                    let Some(row) = &event.dinosaur else {
                        bail!("the hub cannot read the row {:?}", event.resource_id)
                    };
                    rows.write(row)?;
                }
                Notice::Event(event) => bail!("an event within the state: {event:?}"),
                Notice::Complete { revision, .. } => {
                    let count = rows.finish()?;
                    say(format!("{count} rows at revision {revision} of epoch {of_epoch}"));
                    return Ok(());
                }
                Notice::Disconnected { why, retry_in } => {
                    if lost_since.get_or_insert_with(Instant::now).elapsed() > self.give_up_after {
                        let after = humantime::format_duration(self.give_up_after);
                        bail!("the hub could not be reached for {after}: {why}");
                    }
                    say(format!("disconnected: {why}; again in {} ms", retry_in.as_millis()));
                }
            }
        }
    }
}

/// By its name, as an import takes it.
fn is_compressed(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["gz", "gzip", "zst", "zstd"].iter().any(|compressed| ending.eq_ignore_ascii_case(compressed))
}

/// Rows on their way out.
struct Rows {
    format: Format,
    times: bool,
    count: u64,
    output: Output,
}

#[derive(Serialize)]
struct Object<'a> {
    id: &'a str,
    species: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<&'a str>,
}

impl Rows {
    /// Begins again at the first row, whatever was written before.
    fn begin(&mut self) -> anyhow::Result<()> {
        self.output.rewind(self.count)?;
        self.count = 0;
        Ok(())
    }

    /// Not before the first row: what a lost connection began on standard output could not be taken back.
    fn head(&mut self) -> anyhow::Result<()> {
        if self.count == 0 && self.format == Format::Csv {
            let times = if self.times { ",created_at,updated_at" } else { "" };
            self.output.write(format!("id,species{times}\n").as_bytes())?;
        }
        Ok(())
    }

    fn write(&mut self, row: &Dinosaur) -> anyhow::Result<()> {
        let metadata = row.metadata.as_ref().context("a row without metadata")?;
        let times =
            self.times.then(|| (time(metadata.created_at.as_ref()), time(metadata.updated_at.as_ref())));
        let (created_at, updated_at) =
            times.as_ref().map(|(created, updated)| (&**created, &**updated)).unzip();
        let line = match self.format {
            Format::Ndjson => {
                let row = Object { id: &metadata.id, species: &row.species, created_at, updated_at };
                let mut line = serde_json::to_vec(&row)?;
                line.push(b'\n');
                line
            }
            Format::Csv => record([Some(&*metadata.id), Some(&*row.species), created_at, updated_at]),
        };
        self.head()?;
        self.count += 1;
        self.output.write(&line)
    }

    fn finish(mut self) -> anyhow::Result<u64> {
        self.head()?;
        self.output.finish()?;
        Ok(self.count)
    }
}

/// A line of CSV.
fn record<'a>(fields: impl IntoIterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut line = String::new();
    for field in fields.into_iter().flatten() {
        if !line.is_empty() {
            line.push(',');
        }
        // A first field that is empty is quoted, or the next one would take its place.
        if field.is_empty() || field.contains(['"', ',', '\r', '\n']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(field);
        }
    }
    line.push('\n');
    line.into_bytes()
}

/// Where rows go.
enum Output {
    Stdout(BufWriter<Stdout>),
    /// A file beside the one that it becomes.
    File {
        writer: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
}

impl Output {
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout(BufWriter::new(io::stdout()))) };
        if path.exists() && !path.is_file() {
            bail!("{} is there, and is no file", path.display());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // With the permissions of any new file, and not for this user alone.
        let file = tempfile::Builder::new()
            .prefix(".trex-export-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(|| folder.display().to_string())?;
        Ok(Self::File { writer: BufWriter::new(file), path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout(writer) => writer.write_all(bytes).context("standard output"),
            Self::File { writer, path } => {
                writer.write_all(bytes).with_context(|| path.display().to_string())
            }
        }
    }

    fn rewind(&mut self, rows: u64) -> anyhow::Result<()> {
        match self {
            Self::Stdout(_) if rows == 0 => Ok(()),
            Self::Stdout(_) => {
                bail!("the connection was lost after {rows} rows, which cannot be taken back: try --out FILE")
            }
            Self::File { writer, path } => {
                let shown = || path.display().to_string();
                writer.flush().with_context(shown)?;
                let file = writer.get_mut().as_file_mut();
                file.set_len(0).and_then(|()| io::Seek::rewind(file)).with_context(shown)
            }
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut writer) => writer.flush().context("standard output"),
            Self::File { writer, path } => {
                let shown = || path.display().to_string();
                let file = writer.into_inner().map_err(io::IntoInnerError::into_error).with_context(shown)?;
                file.as_file().sync_all().with_context(shown)?;
                file.persist(&path).with_context(shown)?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let line = |fields: [&str; 2]| String::from_utf8(record(fields.map(Some))).unwrap();
        assert_eq!(line(["1", "T. rex"]), "1,T. rex\n");
        assert_eq!(line(["a,b", "5\" tall"]), "\"a,b\",\"5\"\" tall\"\n");
        assert_eq!(line(["two\nlines", ""]), "\"two\nlines\",\"\"\n");
        assert_eq!(line(["", "x"]), "\"\",x\n");
    }
}
