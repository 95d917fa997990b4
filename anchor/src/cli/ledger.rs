//! Commands that have to do with the ledger.

use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use grid_ledger::mock::{FaultPlan, Faults};
use grid_ledger::{Endpoints, InitReport, Network, ObjectId, Packages, Step, TrailReader, Watch, mock};
use grid_protocol::topic::Name;
use grid_service::identity::read_authority;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{Failure, iota};
use crate::checkpoint::LogKey;
use crate::initialise::{Continuation, Predecessor, continue_trail, initialise};
use crate::keys::MESSAGE_KEY;
use crate::policy::Policy;
use crate::settings::endpoints;
use crate::verify::{LedgerFailure, LedgerReport, Records};
use grid_durable::{Durable, Stop};

pub const INIT_EXAMPLES: &str = "\
Examples:
  grid-anchor init --network testnet --site main-street --ca /etc/grid/ca.pem
  grid-anchor init --network testnet --site main-street --ca /etc/grid/ca.pem --continues 0x385307…
  grid-anchor init --network testnet --site main-street --ca /etc/grid/ca.pem --continues 0x385307… \\
      --data-dir NEW --old-log-key OLD/log.key";

/// What a link is worth that the old log's key did not sign.
pub const UNSIGNED: &str = "whoever made the new trail says so, nobody else";

#[derive(Args)]
pub struct InitArguments {
    /// mainnet, testnet, devnet, localnet, or mock, which is not IOTA.
    #[arg(long)]
    network: Network,
    /// The site whose messages are logged.
    #[arg(long)]
    site: Name,
    /// The certificate of the site's authority, PEM or DER.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Where keys, log and state are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/grid-anchor")]
    data_dir: PathBuf,
    /// The gRPC services of nodes, if others than the network's own. The next is asked when one does not answer.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    grpc: Vec<String>,
    /// Who gives gas away, if another than the network's own.
    #[arg(long, value_name = "URL")]
    faucet: Option<String>,
    /// The log's name: a URL without scheme, spaces or `+`. It cannot change [default: made from site and log key].
    #[arg(long)]
    origin: Option<String>,
    /// The new trail continues this one, whose ledger key or log key is lost, stolen or to be left.
    ///
    /// With the old trail's data_dir, the log goes on under a new ledger key and a new trail. With a new data_dir there is
    /// a new log, too. The new trail's first record names the old trail, its last checkpoint and the new keys.
    #[arg(long, value_name = "TRAIL")]
    continues: Option<ObjectId>,
    /// The old log's key (its log.key), if it survives and another log goes on: it signs that, too. Without it nobody but
    /// you says that the new trail continues the old one.
    #[arg(long, value_name = "FILE", requires = "continues")]
    old_log_key: Option<PathBuf>,
    #[command(flatten)]
    packages: PackageArguments,
}

impl InitArguments {
    /// For a new trail, with keys and log in `data_dir`.
    pub fn new(
        network: Network,
        site: Name,
        (ca, data_dir): (PathBuf, PathBuf),
        (grpc, faucet): (Vec<String>, Option<String>),
    ) -> Self {
        let packages = PackageArguments { audit_trails: None, tf_components: None };
        Self { network, site, ca, data_dir, grpc, faucet, origin: None, continues: None, old_log_key: None, packages }
    }
}

/// Where the packages are, on a network that has none of its own.
#[derive(Args)]
struct PackageArguments {
    /// The address of the Audit Trails package, where the network has none of its own.
    #[arg(long, value_name = "ID", requires = "tf_components")]
    audit_trails: Option<ObjectId>,
    /// The address of the tf_components package that goes with it.
    #[arg(long, value_name = "ID", requires = "audit_trails")]
    tf_components: Option<ObjectId>,
}

impl PackageArguments {
    fn put_into(&self, endpoints: &mut Endpoints) {
        if let (Some(audit_trails), Some(tf_components)) = (self.audit_trails, self.tf_components) {
            endpoints.packages = Some(Packages { audit_trails, audit_trails_called: audit_trails, tf_components });
        }
    }
}

#[derive(Args)]
pub struct MockArguments {
    /// Where it listens, with gRPC, faucet and pages.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    listen: SocketAddr,
    /// The file that it keeps its state in.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// What goes wrong, and how often, as in drop-answer:0.2,delay:500ms:0.1.
    ///
    /// Faults stand between commas, and are KIND[:CHANCE][:after=N][:first=N][:on=CALL]:
    ///
    ///   refuse       do nothing, and answer UNAVAILABLE: an overloaded node
    ///   rate-limit   do nothing, and answer RESOURCE_EXHAUSTED: too many questions; with a
    ///                time, as in rate-limit:2s, say to come again after that
    ///   delay:500ms  wait before doing anything (also in s)
    ///   drop-answer  do everything, and break the connection instead of answering
    ///   time-out     execute, and answer UNAVAILABLE: the node does not know what became of it
    ///   abort        execute, but let the first Move call abort; it is paid for
    ///
    /// CHANCE is how often, from 0 to 1; always without it. after=N lets the first N calls
    /// pass, first=N ends it after N calls, and on=execute, on=simulate or on=read (everything
    /// else) choose the calls. Without on=, the first three concern all calls, and the others
    /// what is executed. seed=N among the faults makes the same calls in the same order meet
    /// the same faults again; without it, one is chosen and printed.
    #[arg(long, value_name = "FAULT[,FAULT…]", verbatim_doc_comment)]
    fail: Option<FaultPlan>,
}

/// Which ledger to ask about a log.
#[derive(Args)]
pub struct LedgerArguments {
    /// Ask this ledger too: mainnet, testnet, devnet, localnet, or mock, which is not IOTA.
    #[arg(long)]
    network: Option<Network>,
    /// The audit trail, if another than the policy's.
    #[arg(long, value_name = "ID")]
    trail: Option<ObjectId>,
    /// The gRPC services of nodes, if others than the network's own. The next is asked when one does not answer.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    grpc: Vec<String>,
    /// Without --policy: the certificate of the site's authority, PEM or DER. The trail says who else vouches, and of
    /// this certificate its SHA-256.
    #[arg(long, value_name = "FILE", conflicts_with = "policy", requires_all = ["network", "trail"])]
    ca: Option<PathBuf>,
    #[command(flatten)]
    packages: PackageArguments,
}

/// What came of asking a ledger.
pub enum Asked {
    /// It was not asked.
    Not,
    /// These are the records of the log's trail.
    Records(Records),
    /// It has no trail that vouches for the log, or could not be asked.
    Failed(LedgerFailure),
}

/// What a ledger says of a log.
pub enum Notarized {
    /// It was not asked, or the log by itself does not hold.
    NotAsked,
    /// It vouches for the log.
    Yes(LedgerReport),
    /// It does not.
    No(LedgerFailure),
    /// It could not be told.
    Unknown(LedgerFailure),
}

impl LedgerArguments {
    /// Whether the ledger is to be asked.
    pub fn is_wanted(&self) -> bool {
        self.network.is_some() || self.trail.is_some() || !self.grpc.is_empty()
    }

    /// Asks the ledger. Returns the policy as well: the given one, or the one that the trail gives.
    #[tokio::main(flavor = "current_thread")]
    pub async fn ask(&self, given: Option<Policy>) -> Result<(Option<Policy>, Asked), Failure> {
        if !self.is_wanted() {
            return Ok((given, Asked::Not));
        }
        let known = given.as_ref().and_then(|policy| policy.trail.as_ref());
        let network = self.network.or(known.map(|known| known.network));
        let network = network.ok_or("which ledger? The policy names none: give --network")?;
        let trail = self.trail.or(known.map(|known| known.trail));
        let trail = trail.ok_or("which trail? The policy names none: give --trail")?;
        let chain = known.filter(|known| known.network == network && known.trail == trail);
        let mut endpoints = endpoints(network, &self.grpc);
        self.packages.put_into(&mut endpoints);
        let opened = TrailReader::open(&endpoints, chain.map(|known| known.chain.as_str()), trail).await;
        let policy = match (given, &self.ca) {
            (Some(policy), _) => policy,
            (None, Some(ca)) => {
                let authority = read_authority(ca)?;
                let seal = match &opened {
                    Ok(reader) => reader.seal().await?,
                    Err(error) => return Err(error.to_string().into()),
                };
                let (name, description) = (seal.name.unwrap_or_default(), seal.description.unwrap_or_default());
                Policy::from_trail(&name, &description, authority)?
            }
            (None, None) => {
                let ways = "--policy, or --ca with the certificate of the site's authority";
                return Err(format!("to ask a ledger about a log, say who vouches for the log: {ways}").into());
            }
        };
        let asked = match opened {
            Ok(reader) => match Records::read(&policy, &reader).await {
                Ok(records) => Asked::Records(records),
                Err(failure) => Asked::Failed(failure),
            },
            Err(error) => Asked::Failed(error.into()),
        };
        Ok((Some(policy), asked))
    }
}

impl Notarized {
    /// What a failure means.
    pub fn failed(failure: LedgerFailure) -> Self {
        if failure.is_unknown() { Self::Unknown(failure) } else { Self::No(failure) }
    }
}

/// Makes keys and trail.
#[tokio::main(flavor = "current_thread")]
pub async fn init(arguments: &InitArguments) -> Result<u8, Failure> {
    let authority = read_authority(&arguments.ca)?;
    let mut endpoints = endpoints(arguments.network, &arguments.grpc);
    if arguments.faucet.is_some() {
        endpoints.faucet.clone_from(&arguments.faucet);
    }
    arguments.packages.put_into(&mut endpoints);
    let message_key = message_key(&arguments.data_dir)?;
    let site = (&arguments.site, arguments.origin.as_deref());
    let (data_dir, watch) = (&arguments.data_dir, Some(narrator()));
    match arguments.continues {
        None => {
            let report = initialise(data_dir, site, &authority, &endpoints, watch).await?;
            print_init(&report, &endpoints, data_dir, &message_key);
        }
        Some(trail) => {
            let log_key = arguments.old_log_key.as_deref().map(read_log_key).transpose()?;
            let predecessor = Predecessor { trail, log_key: log_key.as_ref() };
            let made = continue_trail(data_dir, site, &authority, &endpoints, &predecessor, watch).await?;
            print_init(&made.report, &endpoints, data_dir, &message_key);
            print_continuation(&made);
        }
    }
    Ok(0)
}

fn read_log_key(path: &Path) -> Result<LogKey, Failure> {
    let line = fs::read_to_string(path).map(Zeroizing::new);
    let line = line.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(LogKey::read(&line).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Reads or makes the key that signs the anchor's messages, and returns its public half as certificates name it.
fn message_key(data_dir: &Path) -> Result<String, Failure> {
    let mut durable = Durable::open(data_dir, Stop::never())?;
    if durable.read(MESSAGE_KEY)?.is_none() {
        let pem = SigningKey::generate(&mut rand::rngs::OsRng).to_pkcs8_pem(LineEnding::LF)?;
        durable.place_secret(MESSAGE_KEY, pem.as_bytes())?;
        durable.settle()?;
    }
    let path = data_dir.join(MESSAGE_KEY);
    let key = grid_service::identity::read_message_key(&path)?;
    Ok(URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes()))
}

/// Tells a person each step.
fn narrator() -> Watch {
    Box::new(|step| {
        eprintln!("{step}");
        if let Step::NewKey { words, .. } = step {
            eprintln!("\n  {}\n", words.expose());
            eprintln!("These words are the ledger key. Write them down: they are not shown again.");
        }
        ControlFlow::Continue(())
    })
}

fn print_init(report: &InitReport, endpoints: &Endpoints, data_dir: &Path, message_key: &str) {
    let cost = report.create.nanos + report.sealing.nanos;
    if endpoints.network == Network::Mock {
        println!("{}", mock::NOT_IOTA);
    }
    println!("trail        {}", report.trail);
    println!("             {}", report.links.trail);
    println!("created in   {}", report.links.create);
    println!("sealed in    {}", report.links.seal);
    println!("cost         {cost} NANOS");
    println!("address      {} holds {}", report.address, iota(report.balance));
    println!("             {}", report.links.address);
    println!("message key  {message_key}");
    println!("policy       {}", data_dir.join("site.policy").display());
}

fn print_continuation(made: &Continuation) {
    let Continuation { report: _, statement, is_signed, link, is_same_log, other_authority, kept } = made;
    println!("continues    {}", statement.trail.trail);
    match &statement.last {
        Some((number, head)) => {
            println!("             from its record {number}, which vouches for the first {} entries", head.size);
        }
        None => println!("             which holds no checkpoint"),
    }
    if let Some(link) = link {
        println!("             said in {link}");
    }
    match (is_same_log, is_signed) {
        (true, _) => println!("             SIGNED: the same log goes on"),
        (false, true) => println!("             SIGNED by the old log's key: another log goes on"),
        (false, false) => {
            println!("             UNSIGNED: {UNSIGNED}");
            eprintln!("\nThe old log's key did not sign that this trail continues the old one: {UNSIGNED}.");
        }
    }
    if let Some(digest) = other_authority {
        println!("             the old trail is that of another authority (certificate with SHA-256 {digest})");
    }
    if !kept.is_empty() {
        println!("kept aside   {}", kept.join(", "));
    }
}

/// Runs the development double of a node.
#[tokio::main]
pub async fn mock_ledger(arguments: &MockArguments) -> Result<u8, Failure> {
    let listen = arguments.listen;
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| format!("cannot listen on {listen}: {error}; choose another --listen"))?;
    println!("mock ledger on http://{} ({})", listener.local_addr()?, mock::NOT_IOTA);
    let faults = Faults::default();
    if let Some(plan) = &arguments.fail {
        faults.set(plan.clone());
        println!("faults on demand: {} ({})", faults.plan(), mock::NOT_IOTA);
    }
    mock::run_with_faults(listener, &arguments.state, &faults, grid_service::shutdown::signalled()).await?;
    Ok(0)
}
