//! `trex import`: source → lines → items → hub; what is not imported goes to the list of rejects.

mod csv;
mod dry_run;
mod format;
mod identity;
mod patience;
mod progress;
mod records;
mod rejects;
mod report;
mod session;
mod source;

use super::access::AccessOptions;
use super::listeners::GRPC;
use crate::client::{Import as Importing, ImportNotice, ImportOptions};
use anyhow::{Context, bail};
use csv::Quoting;
pub(super) use format::Format;
use patience::Patience;
use progress::Progress;
use records::{Entry, Records};
use rejects::Rejects;
use report::{End, Report};
use session::Session;
use source::Meter;
use std::{
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tonic::Status;

/// Lines that are handed on together, at most.
const TOGETHER: usize = 512;
/// How often the progress bar moves and limits are checked.
const TICK: Duration = Duration::from_millis(200);
/// An interrupt waits this long for what was sent to be acknowledged.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Import NDJSON or CSV from a file or a pipe; resumes where an earlier run stopped
///
/// Every item is created once, or rejected once with its line and the reason, whatever happens to this
/// program, to the hub, to its database or to the connection: the same command goes on where it stopped.
/// NDJSON has an object a line, {"species":"…"} or {"id":"…","species":"…"}; CSV has a header that names the
/// columns species and, if wanted, id. Either may be compressed with gzip or zstd.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Import {
    /// What to import; `-` is standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The hub
    #[arg(long, env = "TREX_SERVER", default_value = format!("http://{GRPC}"), value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessOptions,
    /// How items are written [default: as the file's name says, else by its first byte]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Names the import: the same id goes on with the same import [default: a digest of the file's content,
    /// so that the same file resumes and is not imported twice; of a pipe a new one, which is printed when it
    /// is needed]
    #[arg(long, value_name = "ID")]
    import_id: Option<String>,
    /// Where rejected lines are listed, an object a line with number, reason and the line; made only when
    /// needed [default: FILE.rejects.ndjson, of a pipe import.rejects.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Items per transaction
    #[arg(
        long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000),
        value_name = "N"
    )]
    batch_size: u32,
    /// Give up when the hub could not be reached for this long
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    give_up_after: Duration,
    /// Read CSV whose quoting is broken as well as can be guessed, instead of rejecting its lines: a quote
    /// within a field stands for itself, text behind a closing quote belongs to the field, and an empty id
    /// within quotes is none. What is guessed may be wrong
    #[arg(long)]
    lenient: bool,
    /// Only find what would be rejected, without a hub, and list it on standard output or in the file of
    /// --rejects. What only the hub knows, such as ids that exist, is not found
    #[arg(long)]
    dry_run: bool,
    /// No progress and no summary
    #[arg(long, short)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  everything is in
  3  a part is in: some lines were rejected, or the import did not get to its end
  1  nothing is in, or nothing is known: the hub has not said how far the import is
With --dry-run they speak of what would be in.

Examples:
  trex import dinosaurs.ndjson
  trex import dinosaurs.csv.gz
  zcat *.ndjson.gz | trex import - --import-id march
  jq -r .raw dinosaurs.ndjson.rejects.ndjson > mended.ndjson   the rejected lines, to be mended
  (head -1 dinosaurs.csv; jq -r .raw dinosaurs.csv.rejects.ndjson) > mended.csv   those of CSV, with its \
  header";

type Entries = anyhow::Result<Vec<Entry>>;

impl Import {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let opened = self.open()?;
        if self.dry_run {
            return dry_run::run(&self, opened);
        }
        let Opened { records, meter, import_id } = opened;
        let is_pipe = meter.is_of_a_pipe();
        let rejects = Rejects::open(&self.rejects_path(is_pipe), &import_id)?;
        let options = ImportOptions {
            import_id: import_id.clone(),
            batch_size: self.batch_size,
            acknowledged: rejects.next_index(),
        };
        let import = Importing::new(self.access.hub(&self.server)?, options);
        let progress = Progress::new(self.quiet, meter.clone(), Instant::now());
        let mut run = Run { import, session: Session::new(rejects), progress };
        let end = run.drive(spawn_reader(records)?, self.give_up_after).await.unwrap_or_else(End::Failed);
        run.progress.end();
        let (session, grown) = (&run.session, meter.grown());
        Ok(Report { command: &self, is_pipe, grown, import_id: &import_id, session, end }.print())
    }

    fn open(&self) -> anyhow::Result<Opened> {
        let shown = || self.file.display().to_string();
        let mut opened = source::Opened::new(&self.file)?;
        // A digest of the same file, and of no more of it than is read afterwards.
        let content = match self.import_id {
            None if !self.dry_run => opened.digest().with_context(shown)?,
            _ => None,
        };
        let mut source = opened.read().with_context(shown)?;
        let format = match self.format {
            Some(format) => format,
            None => Format::guess(&self.file, source.bytes.fill_buf().with_context(shown)?),
        };
        let quoting = if self.lenient { Quoting::Lenient } else { Quoting::Strict };
        if self.lenient && format != Format::Csv {
            bail!("--lenient is about quotes in CSV, and {} is {}", shown(), format.name());
        }
        let import_id = match (&self.import_id, &content) {
            (Some(id), _) => id.clone(),
            (None, Some(content)) => identity::of_a_file(content, format, quoting),
            (None, None) => identity::of_a_pipe(),
        };
        let records = Records::new(source.bytes, format, quoting).with_context(shown)?;
        Ok(Opened { records, meter: source.meter, import_id })
    }

    fn rejects_path(&self, is_pipe: bool) -> PathBuf {
        self.rejects.clone().unwrap_or_else(|| {
            if is_pipe {
                return PathBuf::from("import.rejects.ndjson");
            }
            let mut name = OsString::from(&self.file);
            name.push(".rejects.ndjson");
            name.into()
        })
    }
}

struct Opened {
    records: Records,
    meter: Meter,
    import_id: String,
}

/// Reads and parses on its own thread, which ends with the source, or when nobody takes what it reads.
fn spawn_reader(mut records: Records) -> anyhow::Result<mpsc::Receiver<Entries>> {
    let (sender, receiver) = mpsc::channel::<Entries>(8);
    let read = move || {
        let mut entries = Vec::new();
        loop {
            let next = records.next();
            let failure = match next {
                Ok(Some(entry)) => {
                    entries.push(entry);
                    if entries.len() < TOGETHER && records.has_next() {
                        continue;
                    }
                    None
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            let is_over = entries.is_empty();
            if !is_over && sender.blocking_send(Ok(std::mem::take(&mut entries))).is_err() {
                return;
            }
            if let Some(error) = failure {
                // Nobody is told if nobody listens.
                let _ = sender.blocking_send(Err(error));
                return;
            }
            if is_over {
                return;
            }
        }
    };
    std::thread::Builder::new().name("import-source".into()).spawn(read)?;
    Ok(receiver)
}

struct Run {
    import: Importing,
    session: Session,
    progress: Progress,
}

/// What a run waits for.
enum Event {
    Notice(Result<ImportNotice, Status>),
    Entries(Option<Entries>),
    Interrupt,
    Tick,
}

impl Run {
    /// Takes, sends and lists until the end, whatever the end is.
    async fn drive(
        &mut self,
        mut source: mpsc::Receiver<Entries>,
        give_up_after: Duration,
    ) -> anyhow::Result<End> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut tick = tokio::time::interval(TICK);
        let mut patience = Patience::default();
        // Why no more is taken, and until when what was taken is waited for.
        let mut ending: Option<(End, Option<Instant>)> = None;
        let mut exhausted = false;
        loop {
            let takes = ending.is_none() && !exhausted && self.import.has_room() && self.session.has_room();
            let event = tokio::select! {
                notice = self.import.next() => Event::Notice(notice),
                entries = source.recv(), if takes => Event::Entries(entries),
                _ = interrupt.recv() => Event::Interrupt,
                _ = terminate.recv() => Event::Interrupt,
                _ = tick.tick() => Event::Tick,
            };
            let now = Instant::now();
            match event {
                Event::Notice(Ok(ImportNotice::Decided(decided))) => {
                    patience.answered(self.session.decided(decided)?, now);
                }
                Event::Notice(Ok(ImportNotice::Disconnected { why, retry_in })) => {
                    self.progress.say(&format!("disconnected: {why}; again in {} ms", retry_in.as_millis()));
                    patience.lost(why, now);
                }
                // What was interrupted may look complete: the interrupt ends the writer of a pipe as well.
                Event::Notice(Ok(ImportNotice::Finished)) => {
                    return Ok(ending.map_or(End::Complete, |(end, _)| end));
                }
                Event::Notice(Err(status)) => return Ok(End::Refused(status)),
                Event::Entries(Some(Ok(entries))) => self.session.take(entries, &mut self.import)?,
                Event::Entries(Some(Err(error))) => ending = Some((End::Broken(error), None)),
                Event::Entries(None) => {
                    exhausted = true;
                    self.import.complete();
                }
                Event::Interrupt if ending.is_some() => return Ok(End::Interrupted),
                Event::Interrupt => ending = Some((End::Interrupted, Some(now + LAST_WORD))),
                Event::Tick => {
                    if let Some(why) = patience.is_over(give_up_after, now) {
                        return Ok(End::GivenUp { after: give_up_after, why: why.to_owned() });
                    }
                }
            }
            self.progress.show(&self.session.tally(), now);
            let is_over = |until: &Option<Instant>| until.is_some_and(|until| now >= until);
            if let Some((end, _)) =
                ending.take_if(|(_, until)| self.import.undecided() == 0 || is_over(until))
            {
                return Ok(end);
            }
        }
    }
}
