//! `grid-anchor verify`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

use super::ledger::{Asked, LedgerArguments, Notarized};
use super::progress::ProgressLine;
use super::report::{print_notarized, print_report};
use super::verify_proof::verify_proof;
use super::{Failure, UNKNOWN};
use crate::policy::Policy;
use crate::show::parse_date;
use crate::source::open;
use crate::verify::{LedgerReport, Questions, Report, Span, verify as verify_log};

pub const EXAMPLES: &str = "\
Examples:
  grid-anchor verify --log /var/lib/grid-anchor/log --policy site.policy
  grid-anchor verify --log https://anchor.example/log --token-file token --policy site.policy --network testnet
  grid-anchor verify --log log --network testnet --trail 0x385307… --ca ca.pem
  grid-anchor verify --log log --policy site.policy --since checkpoint-of-last-year
  grid-anchor verify cp-3-9f1c2e7a00b4d611-841.tlog-proof --policy site.policy";

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["proof", "log"]))]
pub struct VerifyArguments {
    /// The proof of one message, as `prove` writes it.
    #[arg(value_name = "PROOF")]
    proof: Option<PathBuf>,
    /// The log: the folder with the file `checkpoint`, or its URL.
    #[arg(long, value_name = "DIR|URL")]
    log: Option<String>,
    /// Who vouches for the log: the site's `site.policy`, from a source that you trust.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The token for entries on a server: a file with one line.
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    token_file: Option<PathBuf>,
    /// A checkpoint of this log that somebody kept: the log must continue it.
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    since: Option<PathBuf>,
    /// Count messages, and list gaps of sessions, received from then on (2026-05-01 or 2026-05-01T08:00:00Z). All is
    /// checked all the same.
    #[arg(long, value_name = "TIME", value_parser = parse_date, conflicts_with = "proof")]
    from: Option<UnixMillis>,
    /// … and before then.
    #[arg(long, value_name = "TIME", value_parser = parse_date, conflicts_with = "proof")]
    to: Option<UnixMillis>,
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

pub(super) fn verify(arguments: &VerifyArguments, out: &mut impl Write) -> Result<u8, Failure> {
    let given = arguments.policy.as_deref().map(read_policy).transpose()?;
    let (policy, asked) = arguments.ledger.ask(given)?;
    if let Some(proof) = &arguments.proof {
        return verify_proof(proof, policy.as_ref(), asked, arguments.json, out);
    }
    let log = arguments.log.as_deref().ok_or("what is to be verified? Give a proof or --log")?;
    let token = arguments.token_file.as_deref().map(read_token).transpose()?;
    let source = open(log, token.as_deref())?;
    let since = arguments.since.as_deref().map(read).transpose()?;
    let line = ProgressLine::start();
    let watch = |progress| line.show(progress);
    let questions = Questions {
        policy: policy.as_ref(),
        since: since.as_deref(),
        reported: Span { from: arguments.from, to: arguments.to },
        watch: Some(&watch),
        ..Questions::default()
    };
    let questions = match &asked {
        Asked::Records(records) => records.questions(questions),
        Asked::Not | Asked::Failed(_) => questions,
    };
    let (report, roots) = verify_log(source.as_ref(), &questions)?;
    drop(line);
    let was_asked = !matches!(asked, Asked::Not);
    let notarized = match asked {
        Asked::Records(records) if report.holds => {
            records.compare(&report, &roots).map_or_else(Notarized::failed, Notarized::Yes)
        }
        Asked::Not | Asked::Records(_) => Notarized::NotAsked,
        Asked::Failed(failure) => Notarized::failed(failure),
    };
    if arguments.json {
        let (ledger, ledger_failure) = match &notarized {
            Notarized::NotAsked => (None, None),
            Notarized::Yes(ledger) => (Some(ledger), None),
            Notarized::No(failure) | Notarized::Unknown(failure) => (None, Some(failure.to_string())),
        };
        writeln!(out, "{}", serde_json::to_string(&Verified { log: &report, ledger, ledger_failure })?)?;
    } else {
        print_report(&report, out)?;
        print_notarized(&notarized, out)?;
        if let (Some(trail), false) = (policy.and_then(|policy| policy.trail), was_asked) {
            writeln!(out, "(The ledger was not asked. To ask it, add --network {}.)", trail.network)?;
        }
    }
    Ok(exit_code(&report, &notarized))
}

fn exit_code(report: &Report, notarized: &Notarized) -> u8 {
    let cannot_tell = !report.vouched || report.since.is_some_and(|since| !since.continued);
    match (report.failure.is_some(), notarized) {
        (true, _) | (false, Notarized::No(_)) => 1,
        (false, Notarized::Unknown(_)) => UNKNOWN,
        (false, Notarized::Yes(ledger)) if ledger.untold.is_some() || ledger.newest.is_none() => UNKNOWN,
        (false, Notarized::NotAsked | Notarized::Yes(_)) if cannot_tell => UNKNOWN,
        (false, Notarized::NotAsked | Notarized::Yes(_)) => 0,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()).into())
}

pub(super) fn read_policy(file: &Path) -> Result<Policy, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(Policy::read(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

pub(super) fn read_token(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()).into())
}
