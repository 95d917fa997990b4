//! The command line.

mod check;
mod fsck;
mod keys;
mod ledger;
mod progress;
mod prove;
mod report;
mod setup;
mod show;
mod status;
#[cfg(test)]
mod tests;
mod verify;
mod verify_proof;

use std::io;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::sync::watch;

use check::CheckArguments;
use fsck::FsckArguments;
use keys::KeysCommand;
use ledger::{InitArguments, MockArguments, init, mock_ledger};
use prove::ProveArguments;
use setup::SetupArguments;
use show::ShowArguments;
use status::StatusArguments;
use verify::VerifyArguments;

use crate::notary::NotarySettings;
use crate::recorder::Progress;
use crate::service;
use crate::settings::Settings;

/// Writes every message of the street into a log that nobody can rewrite unnoticed, and checks such logs.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  grid-anchor run --config /etc/grid/anchor.toml")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up the anchor on this machine: keys and a trail, credentials, settings, service.
    ///
    /// Takes the bundle that `grid-broker ca issue` made. Asks what is not given, if there is a terminal; else takes the
    /// defaults, and names what has none. It may be run again: what is there and the same is left alone, and so is what says
    /// otherwise, which is then told.
    #[command(after_help = setup::EXAMPLES)]
    Setup(SetupArguments),
    /// Tell what is configured, valid and reachable: one line a thing, `ok`, `--` (not configured, or not running) or `WRONG`
    /// with what to do.
    ///
    /// It changes nothing and disturbs nothing that runs: the broker is greeted but not logged in to. Exit code 0: nothing is
    /// wrong. 1: something is. 2: the settings cannot be used.
    #[command(after_help = "Example:\n  sudo grid-anchor check")]
    Check(CheckArguments),
    /// Make keys and a sealed trail on a ledger. Interrupted anywhere, run it again.
    #[command(after_help = ledger::INIT_EXAMPLES)]
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
    /// Make a proof of one message: a file that a stranger can check with nothing but site.policy.
    #[command(after_help = prove::EXAMPLES)]
    Prove(ProveArguments),
    /// Check a log, or the proof of one message.
    ///
    /// Of a log: every byte of every file, every signature, every sequence, and every record on the ledger if that is
    /// asked. Exit code 0: it holds. 1: it does not hold; what does not is named. 2: it could not be told.
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArguments),
    /// Put the anchor's folder in order after a crash. What the log says is never changed.
    ///
    /// Exit code 0: it is in order now, or with --check, it is consistent. 1: it cannot be proven consistent; the file is
    /// named, and nothing was changed. 2: it could not be told: an anchor is running in it, or it cannot be read.
    #[command(after_help = "Example:\n  grid-anchor fsck --data-dir /var/lib/grid-anchor --check")]
    Fsck(FsckArguments),
    /// Keep the anchor's keys elsewhere, and put them back.
    ///
    /// The log's key signs checkpoints, the message key what the anchor says, and the ledger key its records and the gas
    /// for them. Without the first two of them the log cannot go on; without the last the trail cannot, and another one must
    /// continue it (init --continues).
    #[command(subcommand, after_help = "Example:\n  grid-anchor keys export keys.pem --data-dir /var/lib/grid-anchor")]
    Keys(KeysCommand),
    /// Run a development double of an IOTA node: one process, state in one file. It is NOT IOTA.
    #[command(after_help = "Examples:\n  grid-anchor mock-ledger --listen 127.0.0.1:50052 --state mock.state\n  \
                            grid-anchor mock-ledger --state mock.state --fail refuse:0.1,drop-answer:0.2,seed=7")]
    MockLedger(MockArguments),
    /// Read a log: who said what; with --sessions who charged when, how much, and what held them back.
    ///
    /// Signatures are not checked, unless a policy is given.
    #[command(
        after_help = "Examples:\n  grid-anchor show --log /var/lib/grid-anchor/log --device cp-3 --kind event\n  \
                            grid-anchor show --log /var/lib/grid-anchor/log --sessions --from 2026-05-01 --csv"
    )]
    Show(ShowArguments),
    /// Say how far the log is, what is on the ledger, and how long disk and money last.
    ///
    /// Everything is read from the files, so an anchor may run meanwhile, or not. Exit code 0: all is well. 1: something
    /// needs a person, and is named. 2: it could not be told.
    #[command(after_help = "Example:\n  grid-anchor status --config /etc/grid/anchor.toml")]
    Status(StatusArguments),
    /// Write the manual pages into a folder, as the packages have them.
    #[command(hide = true)]
    Man {
        /// The folder. It must be there.
        folder: PathBuf,
    },
}

/// An error for a person.
pub type Failure = Box<dyn std::error::Error>;

/// The exit code of something that could not be told or done.
pub const UNKNOWN: u8 = 2;

/// An amount of NANOS, of which an IOTA has 10^9, for a person.
fn iota(nanos: u64) -> String {
    format!("{}.{:09} IOTA", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Does what the arguments say. Returns the exit code.
pub fn run(arguments: Arguments) -> Result<u8, Failure> {
    match arguments.command {
        Command::Run { config, print_config: true } => {
            println!("{}", toml::to_string(&Settings::load(&config)?)?);
            Ok(0)
        }
        Command::Run { config, print_config: false } => serve(&config),
        Command::Setup(arguments) => setup::set_up(arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Init(arguments) => init(&arguments),
        Command::Keys(command) => keys::keys(&command),
        Command::MockLedger(arguments) => mock_ledger(&arguments),
        Command::Prove(arguments) => prove::prove_message(&arguments, &mut io::stdout().lock()),
        Command::Verify(arguments) => verify::verify(&arguments, &mut io::stdout().lock()),
        Command::Fsck(arguments) => fsck::check_folder(&arguments),
        Command::Show(arguments) => show::show_log(&arguments, &mut io::stdout().lock(), &mut io::stderr()),
        Command::Status(arguments) => status::status(&arguments),
        Command::Man { folder } => Ok(clap_mangen::generate_to(Arguments::command(), folder).map(|()| 0)?),
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
        on_event: ledger.on_event,
        most_nanos_per_record: ledger.most_nanos_per_record,
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
