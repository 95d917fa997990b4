//! `grid-broker ca`: the site's certificate authority, a folder of files.
//!
//! | file | what it is | who reads it |
//! |---|---|---|
//! | `ca.pem` | the authority's certificate | everybody on the site trusts it |
//! | `ca.key` | its private key | `ca` alone; mode 0600 |
//! | `broker.pem`, `broker.key` | the broker's TLS certificate and key (0600) | the broker |
//! | `revoked.json` | which certificates are revoked: what is published at `grid/{site}/ca/revoked` | the broker |
//! | `issued/NAME-SERIAL.pem` | a copy of each certificate, without keys | `ca list`, `ca revoke` |
//!
//! What a device needs is one file, `NAME.bundle`, which is carried to it and kept nowhere else
//! ([`grid_protocol::identity::Bundle`]). Every file is written whole or not at all ([`grid_service::file`]); `ca.pem` is
//! the last of its folder, so that an authority is there completely or not at all.

mod error;
mod folder;
mod hosts;
mod list;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use grid_broker::Source;
use grid_protocol::identity::{Endpoint, Issuer, Serial, serial_of};
use grid_protocol::message::Role;
use grid_protocol::revocation::authority_name;
use grid_protocol::topic::Name;
use grid_service::clock::unix_now;

pub use error::CaError;
pub use folder::{Folder, read};
use folder::{Issued, write_secret};
use hosts::is_of_use_elsewhere;
pub use hosts::{HostList, Hosts};

/// Where the authority is.
pub const DEFAULT_FOLDER: &str = "/var/lib/grid/ca";
/// The port that IANA assigned to MQTT over TLS.
pub const TLS_PORT: u16 = 8883;

/// Arguments of `grid-broker ca`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grid-broker ca init --site main-street\n  grid-broker ca issue cp-1 --role \
                        device\n\nExit codes: 0 done, 2 wrong arguments or not done.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the site's authority, and a TLS certificate for its broker.
    #[command(after_help = "Example:\n  grid-broker ca init --site main-street --host broker.local --host \
                            192.168.1.10\n\nWhat is there already is never overwritten.")]
    Init {
        /// The site: the street, car park or model. 1 to 32 of a-z, 0-9 and '-'.
        #[arg(long)]
        site: Name,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        hosts: Hosts,
    },
    /// Make a new TLS certificate for the broker, for other host names or in place of one that is over.
    #[command(after_help = "Example:\n  grid-broker ca issue-server --host broker.local --host 192.168.1.10\n\nThe \
                            broker takes it at its next start, or at SIGHUP.")]
    IssueServer {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        hosts: Hosts,
    },
    /// Make certificate and keys for a device, the anchor or a person: one file to carry there.
    #[command(after_help = "Example:\n  grid-broker ca issue cp-1 --role device\n  scp cp-1.bundle pi@cp-1.local: && \
                            shred -u cp-1.bundle\nand there:\n  grid-agent setup cp-1.bundle\n\nMosquitto's clients can use the file \
                            too:\n  mosquitto_sub -h broker.local -p 8883 --cafile anna.bundle --cert anna.bundle \
                            --key anna.bundle -i anna -t 'grid/#'")]
    Issue {
        /// Its name on the site. 1 to 32 of a-z, 0-9 and '-'.
        name: Name,
        /// What it may do.
        #[arg(long, value_parser = roles())]
        role: Role,
        #[command(flatten)]
        at: At,
        /// Where to write the bundle. Default: NAME.bundle in this folder.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Also if there is a certificate for this name, which stays valid until it is revoked by its serial number.
        #[arg(long)]
        renew: bool,
        /// The port at which the broker takes MQTT over TLS, which the bundle says together with the names in the broker's
        /// certificate. Default: that of `mqtts` in /etc/grid/broker.toml, or else 8883.
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
    },
    /// Declare a certificate invalid: all of a name, or the one with a serial number.
    #[command(after_help = "Example:\n  grid-broker ca revoke cp-3\n  grid-broker ca revoke \
                            4a1f00c35d9e42b7810c6e5f2d3a9b04")]
    Revoke {
        /// A name, or a serial number as `ca list` shows it.
        #[arg(value_name = "NAME|SERIAL")]
        which: String,
        #[command(flatten)]
        at: At,
    },
    /// Show all certificates: name, role, serial number, dates, whether revoked.
    #[command(after_help = "Example:\n  grid-broker ca list --json")]
    List {
        #[command(flatten)]
        at: At,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

/// Where the authority is.
#[derive(Debug, Args)]
struct At {
    /// The authority's folder.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_FOLDER)]
    dir: PathBuf,
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).map(|text| {
        let named = Role::ALL.into_iter().find(|role| role.as_str() == text);
        named.unwrap_or_else(|| unreachable!("only the names of roles are possible"))
    })
}

/// Does what the arguments say, tells it on standard output, and returns the program's exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    allow_others_to_read();
    let done = match arguments.command {
        Command::Init { site, at, hosts } => init(&site, at.dir, hosts),
        Command::IssueServer { at, hosts } => issue_server(at.dir, hosts),
        Command::Issue { name, role, at, out, renew, port } => issue(&name, role, at.dir, (out, renew), port),
        Command::Revoke { which, at } => revoke(&which, at.dir),
        Command::List { at, json } => list(at.dir, json),
    };
    match done {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("grid-broker: {}", grid_service::chain(&error));
            ExitCode::from(2)
        }
    }
}

/// What is no secret is read by the broker's user, also if whoever gives the command keeps his files to himself.
pub fn allow_others_to_read() {
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
}

/// Who reads may have had enough: a closed pipe is no failure of what was done.
fn print(text: &str) {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).unwrap_or(());
}

fn init(site: &Name, dir: PathBuf, hosts: Hosts) -> Result<String, CaError> {
    let folder = Folder::make(dir)?;
    if folder.is_there()? {
        let issuer = folder.issuer()?;
        if issuer.site() != site {
            return Err(CaError::OtherSite {
                folder: folder.path().to_owned(),
                theirs: issuer.site().clone(),
                wanted: site.clone(),
            });
        }
        let count = folder.issued()?.len();
        return Ok(format!(
            "The authority of the site {site} is there already; nothing was changed.\n  {}\n  {count} certificates issued \
             (grid-broker ca list)\n",
            folder.certificate().display()
        ));
    }
    let hosts = hosts.or_this_machine();
    let issuer = Issuer::create(site, unix_now()).map_err(CaError::Issue)?;
    let server = issuer.issue_server(&hosts, unix_now()).map_err(CaError::Issue)?;
    folder.create(&issuer, &server)?;
    Ok(format!(
        "The authority of the site {site}:\n  {}  give it to everybody who is to trust the site\n  {}  keep it secret: who \
         has it can be anybody\nThe broker's TLS certificate, for {}:\n  {}\n  {}\nNext: grid-broker ca issue trafo-1 \
         --role transformer{}\n",
        folder.certificate().display(),
        folder.key().display(),
        hosts.join(", "),
        folder.server_certificate().display(),
        folder.server_key().display(),
        dir_argument(folder.path()),
    ))
}

fn issue_server(dir: PathBuf, hosts: Hosts) -> Result<String, CaError> {
    let folder = Folder::open(dir)?;
    let hosts = hosts.or_this_machine();
    let server = folder.issuer()?.issue_server(&hosts, unix_now()).map_err(CaError::Issue)?;
    folder.put_server(&server)?;
    Ok(format!(
        "A new TLS certificate for the broker, for {}:\n  {}\n  {}\nThe broker takes it at its next start, or at SIGHUP. If \
         grid-broker setup was used, run it again: it puts a copy into /etc/grid.\n",
        hosts.join(", "),
        folder.server_certificate().display(),
        folder.server_key().display(),
    ))
}

fn issue(
    name: &Name,
    role: Role,
    dir: PathBuf,
    (out, renew): (Option<PathBuf>, bool),
    port: Option<u16>,
) -> Result<String, CaError> {
    if *name == authority_name() {
        return Err(CaError::Reserved(name.clone()));
    }
    let folder = Folder::open(dir)?;
    let issuer = folder.issuer()?;
    let revoked = folder.revocations(&issuer)?;
    let valid = |issued: &Issued| issued.identity.name == *name && !revoked.body.contains(&issued.serial);
    let earlier: Vec<Serial> = folder.issued()?.into_iter().filter(valid).map(|issued| issued.serial).collect();
    if let (Some(serial), false) = (earlier.first(), renew) {
        return Err(CaError::Taken { name: name.clone(), serial: serial.clone() });
    }
    let out = out.unwrap_or_else(|| format!("{name}.bundle").into());
    if out.exists() {
        return Err(CaError::Exists(out));
    }
    let bundle = issuer.issue_bundle(name.clone(), role, unix_now()).map_err(CaError::Issue)?;
    let brokers = brokers(&folder, issuer.site(), port)?;
    let text = bundle.to_pem_with(&brokers).map_err(CaError::Bundle)?;
    // First the record, so that there is no certificate that nobody could revoke.
    let record = folder.record(name, &bundle.certificate)?;
    if let Err(error) = write_secret(&out, text.as_bytes()).and_then(|()| give_to_caller_of_sudo(&out)) {
        folder.forget(&record)?;
        return Err(error);
    }
    let serial = serial_of(&bundle.certificate).map_err(|why| CaError::Certificate { file: record, why })?;
    let mut said = format!(
        "{}  everything that {name} ({role}) needs; carry it there, and keep it nowhere else\nserial number {serial}\n",
        out.display()
    );
    let program = match role {
        Role::Device | Role::Transformer => Some("grid-agent"),
        Role::Anchor => Some("grid-anchor"),
        Role::Operator | Role::Guest => None,
    };
    if let Some(program) = program {
        said += &format!("Next, there: sudo {program} setup {name}.bundle\n");
    }
    for serial in earlier {
        said += &format!(
            "The earlier certificate is still valid. When the new one is in place: grid-broker ca revoke {serial}{}\n",
            dir_argument(folder.path())
        );
    }
    Ok(said)
}

/// Whoever issues a bundle with sudo carries it to its machine without.
fn give_to_caller_of_sudo(bundle: &Path) -> Result<(), CaError> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u32>().ok());
    match (number("SUDO_UID"), number("SUDO_GID")) {
        (Some(user), Some(group)) if rustix::process::geteuid().is_root() => {
            let failed = |source| CaError::File { verb: "give away", path: bundle.to_owned(), source };
            std::os::unix::fs::chown(bundle, Some(user), Some(group)).map_err(failed)
        }
        (_, _) => Ok(()),
    }
}

/// Where clients on other machines find the broker.
fn brokers(folder: &Folder, site: &Name, port: Option<u16>) -> Result<Vec<Endpoint>, CaError> {
    let configured = || {
        let config = folder.machine()?.join("etc/grid/broker.toml");
        let settings = Source { config: Some(config), ..Source::default() }.read().ok()?;
        settings.listen.mqtts.filter(|_| settings.site == *site).map(|address| address.port())
    };
    let port = port.or_else(configured).unwrap_or(TLS_PORT);
    let mut hosts = folder.hosts()?;
    hosts.retain(|host| is_of_use_elsewhere(host));
    Ok(hosts.into_iter().map(|host| Endpoint { host, port }).collect())
}

fn revoke(which: &str, dir: PathBuf) -> Result<String, CaError> {
    let folder = Folder::open(dir)?;
    let issuer = folder.issuer()?;
    let list = folder.revocations(&issuer)?;
    let all = folder.issued()?;
    let has_serial = |issued: &&Issued| issued.serial.to_string() == which;
    let has_name = |issued: &&Issued| issued.identity.name.as_str() == which;
    let mut meant: Vec<&Issued> = all.iter().filter(has_serial).collect();
    if meant.is_empty() {
        meant = all.iter().filter(has_name).collect();
    }
    if meant.is_empty() {
        return Err(CaError::Unknown { which: which.to_owned(), folder: folder.issued_folder() });
    }
    meant.retain(|issued| !list.body.contains(&issued.serial));
    if meant.is_empty() {
        return Ok(format!("{which} is revoked already; nothing was changed.\n"));
    }
    let told: String =
        meant.iter().map(|issued| format!("revoked {} {}\n", issued.identity.name, issued.serial)).collect();
    folder.revoke(&issuer, list, &meant)?;
    let file = folder.revocations_file();
    Ok(format!(
        "{told}A running broker with [access] revocations = {file:?} notices within 5 s, cuts them off and publishes the \
         list.\n"
    ))
}

fn list(dir: PathBuf, json: bool) -> Result<String, CaError> {
    let folder = Folder::open(dir)?;
    let issuer = folder.issuer()?;
    let revoked = folder.revocations(&issuer)?.body;
    let rows = list::rows(folder.issued()?, &revoked);
    if json { list::json(&rows) } else { Ok(list::table(&rows)) }
}

/// What a person must add to a command for another folder than the usual one.
fn dir_argument(folder: &Path) -> String {
    if folder == Path::new(DEFAULT_FOLDER) { String::new() } else { format!(" --dir {}", folder.display()) }
}
