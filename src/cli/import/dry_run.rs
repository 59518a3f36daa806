//! `trex import --dry-run`: what the hub would refuse, as far as can be known without it.

use super::{
    Import, Opened,
    progress::{Progress, Tally, grouped},
    rejects::{Reject, Rejects},
    session::UNREADABLE,
};
use crate::{cli::print::say, faces::dinosaurs};
use std::{process::ExitCode, time::Instant};

pub(super) fn run(command: &Import, opened: Opened) -> anyhow::Result<ExitCode> {
    let Opened { mut records, meter, .. } = opened;
    let at_the_end = meter.clone();
    let mut rejects = match &command.rejects {
        Some(path) => Rejects::of_dry_run(path)?,
        None => Rejects::to_stdout(),
    };
    let mut progress = Progress::new(command.quiet, meter, Instant::now());
    let (mut tally, mut index) = (Tally::default(), 0);
    let broken = loop {
        let entry = match records.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        let mut list = |index, code, reason: &str| {
            rejects.add(&Reject { line: entry.line, index, code, reason, raw: &entry.raw })
        };
        match &entry.item {
            Ok(item) => {
                match dinosaurs::check_new(&item.id, &item.species) {
                    Ok(()) => tally.created += 1,
                    Err(error) => {
                        tally.failed += 1;
                        list(Some(index), "INVALID_FIELD", &error.to_string())?;
                    }
                }
                index += 1;
            }
            Err(why) => {
                tally.unreadable += 1;
                list(None, UNREADABLE, why)?;
            }
        }
        progress.show(&tally, Instant::now());
    };
    rejects.flush()?;
    progress.end();
    if !command.quiet {
        let (good, bad) = (grouped(tally.created), grouped(tally.rejected()));
        say(format!("{good} would be created, {bad} rejected"));
    }
    if at_the_end.grown() > 0 {
        say(format!("trex: {}: what was added meanwhile was not looked at", command.file.display()));
    }
    if let Some(error) = &broken {
        say(format!("trex: {}: {error:#}", command.file.display()));
    }
    Ok(super::report::exit_code(tally.created, tally.rejected() > 0 || broken.is_some()))
}
