//! `grid-anchor fsck`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::fsck::{FsckError, Report, fsck};

#[derive(Args)]
pub struct FsckArguments {
    /// The anchor's folder: the one with `log.key` and `log`. No anchor may be running in it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only look, change nothing.
    #[arg(long)]
    check: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn check_folder(arguments: &FsckArguments) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    match fsck(&arguments.data_dir, arguments.check) {
        Ok(report) if arguments.json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        Ok(report) => print_report(&report, &mut out)?,
        Err(FsckError::Refused { path, why }) if arguments.json => {
            writeln!(out, "{}", serde_json::json!({"refused": path, "why": why}))?;
            return Ok(1);
        }
        Err(refused @ FsckError::Refused { .. }) => {
            writeln!(out, "REFUSED: {refused}")?;
            return Ok(1);
        }
        Err(error @ (FsckError::Durable(_) | FsckError::Verify(_))) => return Err(error.into()),
    }
    Ok(0)
}

fn print_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report { checkpoint_size, root_hash, in_journal, left, done } = report;
    let Some(root) = root_hash else {
        return writeln!(out, "no log was begun here");
    };
    writeln!(out, "checkpoint {checkpoint_size} entries, root {root}")?;
    writeln!(out, "journal    {in_journal} entries more")?;
    for left in left {
        writeln!(out, "left       {left}")?;
    }
    match (left.is_empty(), done) {
        (true, _) => writeln!(out, "IN ORDER"),
        (false, true) => writeln!(out, "PUT IN ORDER"),
        (false, false) => {
            writeln!(out, "CONSISTENT; without --check, fsck puts it in order, and so does the next start")
        }
    }
}
