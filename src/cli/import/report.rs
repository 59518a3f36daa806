//! The report at the end: what was imported, what was not, and how to go on.

use super::{Import, progress::grouped, session::Session};
use crate::cli::{
    failure::{Listener, explain},
    print::say,
};
use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// How a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// Everything in the source is decided.
    Complete,
    /// The source broke off; everything before that is decided.
    Broken(anyhow::Error),
    /// This program cannot go on: its list of rejects cannot be written, say.
    Failed(anyhow::Error),
    /// It was interrupted.
    Interrupted,
    /// The hub could not be reached for too long.
    GivenUp {
        /// How long.
        after: Duration,
        /// Why, the last time.
        why: String,
    },
    /// The hub does not let it go on.
    Refused(Status),
}

/// A part was imported.
const PARTIAL: u8 = 3;

/// The outcome of a run that has created this many items, and perhaps not all.
pub(super) fn exit_code(created: u64, is_partial: bool) -> ExitCode {
    match (created, is_partial) {
        (_, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::FAILURE,
        (_, true) => ExitCode::from(PARTIAL),
    }
}

/// The report of a run.
pub(super) struct Report<'a> {
    /// The command as it was started.
    pub(super) command: &'a Import,
    /// Whether its source cannot be read again.
    pub(super) is_pipe: bool,
    /// Bytes that were added to the file while it was imported, and were not imported.
    pub(super) grown: u64,
    /// The import.
    pub(super) import_id: &'a str,
    /// Its state.
    pub(super) session: &'a Session,
    /// How it ended.
    pub(super) end: End,
}

impl Report<'_> {
    /// Prints it on standard error; the summary goes to standard output, because it is the result.
    pub(super) fn print(self) -> ExitCode {
        let tally = self.session.tally();
        if !self.command.quiet {
            // The reader may have gone; the exit code says enough.
            let _ = writeln!(io::stdout(), "{}", self.summary());
        }
        let (import_id, file) = (self.import_id, self.command.file.display());
        let stopped = match &self.end {
            End::Complete if self.grown > 0 => Some(self.rest()),
            End::Complete => None,
            End::Broken(error) => Some(format!(
                "{file}: {error:#}; what comes before is decided. Once it is mended, and nothing before it \
                 changed, --import-id {import_id} goes on from there"
            )),
            End::Failed(error) => Some(format!("{error:#}; {}", self.again())),
            End::Interrupted => {
                Some(format!("stopped after line {}; {}", self.session.last_line(), self.again()))
            }
            End::GivenUp { after, why } => Some(format!(
                "the hub could not be reached for {}: {why}; {}",
                humantime::format_duration(*after),
                self.again()
            )),
            End::Refused(status) => Some(self.refused(status)),
        };
        if let Some(stopped) = &stopped {
            say(format!("trex: {stopped}"));
        }
        exit_code(tally.created, stopped.is_some() || tally.rejected() > 0)
    }

    fn summary(&self) -> String {
        if !self.session.is_known() {
            return "the hub has not said what is in".to_owned();
        }
        let tally = self.session.tally();
        let mut text = format!("{} created", grouped(tally.created));
        if tally.rejected() > 0 {
            let list = self.session.rejects();
            text += &format!(", {} rejected: see {}", grouped(tally.rejected()), list.path().display());
            let unlisted = tally.rejected().saturating_sub(list.listed());
            if unlisted > 0 && matches!(self.end, End::Complete) {
                text += &format!(
                    " ({} of them are not listed: the hub lists a bounded number at a time)",
                    grouped(unlisted)
                );
            }
        }
        if matches!(self.end, End::Complete) && self.session.found_all_done() {
            text += "; all of it by an earlier run (another --import-id imports it again)";
        }
        text
    }

    /// What to do about what was added.
    fn rest(&self) -> String {
        let (file, import_id) = (self.command.file.display(), self.import_id);
        let added = match self.grown {
            1 => "1 byte was added".to_owned(),
            bytes => format!("{} bytes were added", grouped(bytes)),
        };
        let advice = if self.command.import_id.is_some() {
            "the same command goes on with them".to_owned()
        } else {
            format!("--import-id {import_id} goes on with them, and without it all is imported again")
        };
        format!(
            "{file}: {added} since the import began, and not imported; when the file is complete, {advice}"
        )
    }

    fn again(&self) -> String {
        if self.is_pipe && self.command.import_id.is_none() {
            format!("the same input with --import-id {} goes on from there", self.import_id)
        } else {
            "the same command goes on from there".to_owned()
        }
    }

    fn refused(&self, status: &Status) -> String {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        let advice = match (status.code(), &*reason) {
            (Code::Aborted, _) => "; another process imports the same".to_owned(),
            (Code::OutOfRange, _) => format!(
                "; {} lists rejects of this import that this hub knows nothing of: if it is another hub, \
                 name another list with --rejects; if it \
                 has forgotten the import, --import-id begins a new one, which creates again what is in",
                self.session.rejects().path().display()
            ),
            (Code::Unimplemented, _) => {
                return explain(&self.command.server, Listener::Api, status).to_string();
            }
            _ => String::new(),
        };
        format!("{:?}: {}{advice}", status.code(), status.message())
    }
}
