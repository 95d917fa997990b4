//! `grid-anchor verify`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::ledger::{LedgerArguments, Notarized};
use super::{Failure, UNKNOWN};
use crate::policy::Policy;
use crate::show::date;
use crate::verify::{LedgerReport, Messages, Report, verify_log};

#[derive(Args)]
pub struct VerifyArguments {
    /// The log's folder: the one with the file `checkpoint`.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Who vouches for the log: the site's `site.policy`, from a source that you trust.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArguments,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A log's report with what the ledger says of it.
#[derive(Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    log: &'a Report,
    ledger: Option<&'a LedgerReport>,
    ledger_failure: Option<String>,
}

pub(super) fn verify(arguments: &VerifyArguments) -> Result<u8, Failure> {
    let VerifyArguments { log, policy, ledger, json } = arguments;
    let policy = policy.as_deref().map(read_policy).transpose()?;
    let (report, notarized) = if ledger.is_wanted() {
        ledger.verify(log, policy.as_ref())?
    } else {
        (verify_log(log, policy.as_ref())?, Notarized::NotAsked)
    };
    let mut out = io::stdout().lock();
    if *json {
        let (ledger, ledger_failure) = match &notarized {
            Notarized::NotAsked => (None, None),
            Notarized::Yes(ledger) => (Some(ledger), None),
            Notarized::No(failure) | Notarized::Unknown(failure) => (None, Some(failure.to_string())),
        };
        writeln!(out, "{}", serde_json::to_string(&Verified { log: &report, ledger, ledger_failure })?)?;
    } else {
        print_report(&report, &mut out)?;
        print_notarized(&notarized, &mut out)?;
        if let (Some(trail), false) = (policy.and_then(|policy| policy.trail), ledger.is_wanted()) {
            writeln!(out, "(The ledger was not asked. To ask it, add --network {}.)", trail.network)?;
        }
    }
    Ok(match (exit_code(&report), notarized) {
        (0, Notarized::Unknown(_)) => UNKNOWN,
        (0, Notarized::No(_)) => 1,
        (code, _) => code,
    })
}

fn print_notarized(notarized: &Notarized, out: &mut impl Write) -> io::Result<()> {
    match notarized {
        Notarized::NotAsked => Ok(()),
        Notarized::Yes(ledger) => {
            writeln!(out, "ledger     {} records in the sealed trail {}", ledger.records, ledger.trail)?;
            if let Some(newest) = &ledger.newest {
                let (size, at) = (newest.tree_size, date(newest.added_ms));
                writeln!(out, "           the newest, of {at}, vouches for the first {size} entries")?;
            }
            writeln!(out, "           {} entries are newer than that", ledger.not_notarized)?;
            writeln!(out, "THE LEDGER VOUCHES FOR IT")
        }
        Notarized::No(failure) => writeln!(out, "THE LEDGER DOES NOT VOUCH FOR IT: {failure}"),
        Notarized::Unknown(failure) => writeln!(out, "THE LEDGER COULD NOT BE ASKED: {failure}"),
    }
}

fn read_policy(file: &Path) -> Result<Policy, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(Policy::read(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

fn exit_code(report: &Report) -> u8 {
    match (&report.failure, report.vouched) {
        (Some(_), _) => 1,
        (None, true) => 0,
        (None, false) => UNKNOWN,
    }
}

fn print_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Messages {
        verified,
        sessions,
        duplicates,
        last_wills,
        commands,
        revocations,
        unverified,
        not_logged,
        lost,
        missing,
        gaps,
        by_sender: _,
    } = &report.messages;
    if let Some(failure) = &report.failure {
        writeln!(out, "DOES NOT HOLD: {failure}")?;
        return writeln!(out, "{} entries were looked at before that", report.entries);
    }
    writeln!(out, "log        {}", report.origin)?;
    writeln!(out, "entries    {}", report.tree_size)?;
    writeln!(out, "root       {}", report.root_hash)?;
    if report.vouched {
        writeln!(
            out,
            "messages   {verified} signed, of {sessions} sessions; {last_wills} last wills; {commands} commands"
        )?;
        if *revocations > 0 {
            writeln!(out, "revoked    {revocations} lists of revoked certificates")?;
        }
        writeln!(out, "unverified {unverified}, and {not_logged} counted but not logged; {duplicates} duplicates")?;
        writeln!(out, "missing    {missing} messages; {lost} declared lost by their senders")?;
        for gap in gaps.iter().take(20) {
            writeln!(out, "           {} session {}: {} to {}", gap.device, gap.session, gap.from_seq, gap.to_seq)?;
        }
        if gaps.len() > 20 {
            writeln!(out, "           and {} more gaps (--json names all)", gaps.len() - 20)?;
        }
    }
    if report.ahead > 0 {
        writeln!(out, "ahead      {} entries are in files that no checkpoint covers yet", report.ahead)?;
    }
    if report.vouched {
        writeln!(out, "HOLDS")
    } else {
        let keys = report.keys.join(", ");
        writeln!(out, "internally consistent, but nobody vouches for key {keys}: give --policy")
    }
}
