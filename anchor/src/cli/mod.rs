//! The command line.

mod ledger;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use serde::Serialize;
use tokio::sync::watch;

use ledger::{InitArguments, LedgerArguments, MockArguments, Notarized, init, mock_ledger};

use crate::notary::NotarySettings;
use crate::policy::Policy;
use crate::recorder::Progress;
use crate::settings::Settings;
use crate::show::{Line, Selection, date, parse_date, show};
use crate::verify::{LedgerReport, Report, verify_log};
use crate::{service, verify};

/// Writes every message of the street into a log that nobody can rewrite unnoticed, and checks such logs.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  grid-anchor run --config /etc/grid/anchor.toml")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make keys and a sealed trail on a ledger. Interrupted anywhere, run it again.
    #[command(after_help = "Example:\n  grid-anchor init --network testnet --site main-street --ca /etc/grid/ca.pem")]
    Init(InitArguments),
    /// Run the anchor until SIGINT or SIGTERM.
    #[command(after_help = "Example:\n  grid-anchor run --config /etc/grid/anchor.toml")]
    Run {
        /// The anchor's settings (TOML). The environment goes over it: GRID__BROKER__HOST=192.0.2.7
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print the settings in force, and end.
        #[arg(long)]
        print_config: bool,
    },
    /// Check a log: every byte of every file, every signature, every sequence.
    ///
    /// Exit code 0: it holds. 1: it does not hold; what does not is named. 2: it could not be told.
    #[command(after_help = "Examples:\n  grid-anchor verify --log /var/lib/grid-anchor/log --policy site.policy\n  \
                            grid-anchor verify --log /var/lib/grid-anchor/log --policy site.policy --network testnet")]
    Verify {
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
    },
    /// Run a development double of an IOTA node: one process, state in one file. It is NOT IOTA.
    #[command(after_help = "Example:\n  grid-anchor mock-ledger --listen 127.0.0.1:50052 --state mock.state")]
    MockLedger(MockArguments),
    /// Read a log: who said what. Signatures are not checked.
    #[command(after_help = "Example:\n  grid-anchor show --log /var/lib/grid-anchor/log --device cp-3 --kind event")]
    Show(ShowArguments),
}

#[derive(Args)]
struct ShowArguments {
    /// The log's folder: the one with the file `checkpoint`.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Only what was said on this device's topics.
    #[arg(long)]
    device: Option<Name>,
    /// Only messages of this kind: measurement, setpoint, event, set/limit …
    #[arg(long)]
    kind: Option<String>,
    /// Only what was received then or later: 2026-05-01 or 2026-05-01T08:00:00Z
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    from: Option<UnixMillis>,
    /// Only what was received before.
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    to: Option<UnixMillis>,
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

/// An error for a person.
pub type Failure = Box<dyn std::error::Error>;

/// The exit code of something that could not be told or done.
pub const UNKNOWN: u8 = 2;

/// Does what the arguments say. Returns the exit code.
pub fn run(arguments: Arguments) -> Result<u8, Failure> {
    match arguments.command {
        Command::Run { config, print_config: true } => {
            println!("{}", toml::to_string(&Settings::load(&config)?)?);
            Ok(0)
        }
        Command::Run { config, print_config: false } => serve(&config),
        Command::Init(arguments) => init(&arguments),
        Command::MockLedger(arguments) => mock_ledger(&arguments),
        Command::Verify { log, policy, ledger, json } => verify_command(&log, policy.as_deref(), &ledger, json),
        Command::Show(arguments) => show_command(&arguments),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: &Path) -> Result<u8, Failure> {
    let settings = Settings::load(config)?;
    let (identity, broker) = settings.resolve()?;
    let notary = settings.ledger.as_ref().map(|ledger| NotarySettings {
        folder: settings.data_dir.clone(),
        endpoints: ledger.endpoints(),
        interval: ledger.interval(),
    });
    let summary = service::run(
        settings,
        identity,
        broker,
        notary,
        watch::Sender::new(Progress::default()),
        grid_service::shutdown::signalled(),
    )
    .await?;
    tracing::info!(entries = summary.progress.entries, "ended; everything is under the last checkpoint");
    Ok(0)
}

/// A log's report with what the ledger says of it.
#[derive(Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    log: &'a Report,
    ledger: Option<&'a LedgerReport>,
    ledger_failure: Option<String>,
}

fn verify_command(log: &Path, policy: Option<&Path>, ledger: &LedgerArguments, json: bool) -> Result<u8, Failure> {
    let policy = policy.map(read_policy).transpose()?;
    let (report, notarized) = if ledger.is_wanted() {
        ledger.verify(log, policy.as_ref())?
    } else {
        (verify_log(log, policy.as_ref())?, Notarized::NotAsked)
    };
    let mut out = io::stdout().lock();
    if json {
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
    let verify::Messages {
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

fn show_command(arguments: &ShowArguments) -> Result<u8, Failure> {
    let selection = Selection {
        device: arguments.device.clone(),
        kind: arguments.kind.clone(),
        from: arguments.from,
        to: arguments.to,
    };
    let mut written = Ok(());
    let mut print = printer(arguments)?;
    show(&arguments.log, &selection, |line| {
        written = print(&line);
        written.is_ok()
    })?;
    match written {
        // A reader that has seen enough, such as head.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => other.map(|()| 0).map_err(Into::into),
    }
}

type Printer = Box<dyn FnMut(&Line) -> io::Result<()>>;

fn printer(arguments: &ShowArguments) -> io::Result<Printer> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.csv {
        let mut csv = csv::Writer::from_writer(out);
        return Ok(Box::new(move |line| csv.serialize(line).map_err(io::Error::from)));
    }
    if arguments.json {
        return Ok(Box::new(move |line| writeln!(out, "{}", serde_json::to_string(line)?)));
    }
    writeln!(out, "{:<24}  {:<12}  {:<12}  {:<12}  message", "time", "device", "kind", "from")?;
    Ok(Box::new(move |line| {
        let Line { time, device, kind, from, message, .. } = line;
        writeln!(out, "{time:<24}  {device:<12}  {kind:<12}  {from:<12}  {message}")
    }))
}
