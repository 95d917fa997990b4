//! `grid-anchor prove`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use grid_protocol::message::Session;
use grid_protocol::topic::Name;

use super::Failure;
use super::verify::{read_policy, read_token};
use crate::checkpoint::read_unsigned;
use crate::entry::{self, Payload};
use crate::policy::Policy;
use crate::proof::{Proof, Wanted, find, prove};
use crate::recorder::POLICY;
use crate::source::{ReadError, Source, open};
use crate::speech::{Heard, hear};

pub const EXAMPLES: &str = "\
Examples:
  grid-anchor prove --log /var/lib/grid-anchor/log --device cp-3 --session 9f1c2e7a00b4d611 --seq 841
  grid-anchor prove --log https://anchor.example/log --policy site.policy --token-file token --index 73894

A proof is under the log's newest checkpoint. To have one under a checkpoint that the ledger holds, save the text of \
its record, and give it with --checkpoint.";

#[derive(Args)]
pub struct ProveArguments {
    /// The log: the folder with the file `checkpoint`, or its URL.
    #[arg(long, value_name = "DIR|URL")]
    log: String,
    /// Who said it.
    #[arg(long, requires_all = ["session", "seq"], required_unless_present = "index")]
    device: Option<Name>,
    /// In which session.
    #[arg(long, requires = "device")]
    session: Option<Session>,
    /// The how manieth message there.
    #[arg(long, requires = "device")]
    seq: Option<u64>,
    /// Which entry of the log, from 0, if not a device's message.
    #[arg(long, conflicts_with = "device")]
    index: Option<u64>,
    /// Who vouches for the log [default: site.policy beside the log's folder].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The token for entries on a server: a file with one line.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An older checkpoint of this log to prove it under.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Where to write the proof [default: <device>-<session>-<seq>.tlog-proof, or entry-<index>.tlog-proof].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn prove_message(arguments: &ProveArguments, to: &mut impl Write) -> Result<u8, Failure> {
    let token = arguments.token_file.as_deref().map(read_token).transpose()?;
    let log = open(&arguments.log, token.as_deref())?;
    let policy = policy(arguments)?;
    let checkpoint = match &arguments.checkpoint {
        Some(file) => fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?,
        None => log.read("checkpoint").map_err(|why| match why {
            ReadError::Missing => format!("there is no log in {}: it has no file checkpoint", log.place()),
            other => format!("checkpoint: {other}"),
        })?,
    };
    policy.log.open(&checkpoint).map_err(|why| format!("the checkpoint: {why}"))?;
    let (proof, name) = match (&arguments.device, arguments.session, arguments.seq, arguments.index) {
        (Some(device), Some(session), Some(seq), _) => {
            let wanted = Wanted { device: device.clone(), session, seq };
            let found = find(log.as_ref(), &checkpoint, &policy, &wanted, None)?;
            let proof = prove(log.as_ref(), &checkpoint, found.index)?;
            let name = format!("{device}-{session}-{seq}.tlog-proof");
            (Proof { certificate: Some(found.certificate), ..proof }, name)
        }
        (_, _, _, Some(index)) => {
            (prove_entry(log.as_ref(), &checkpoint, &policy, index)?, format!("entry-{index}.tlog-proof"))
        }
        _ => return Err("which message? Give --device, --session and --seq, or --index".into()),
    };
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(name));
    fs::write(&out, proof.write()).map_err(|error| format!("cannot write {}: {error}", out.display()))?;
    let size = read_unsigned(&checkpoint)?.head.size;
    writeln!(to, "{}", out.display())?;
    writeln!(to, "entry {} of {}, under a checkpoint of {size} entries", proof.index, policy.log.origin())?;
    Ok(0)
}

/// The proof of an entry. A message whose sender can be judged comes with the certificate.
fn prove_entry(log: &dyn Source, checkpoint: &[u8], policy: &Policy, index: u64) -> Result<Proof, Failure> {
    let proof = prove(log, checkpoint, index)?;
    let Some(wanted) = wanted(&proof) else { return Ok(proof) };
    let found = find(log, checkpoint, policy, &wanted, Some(index))?;
    Ok(Proof { certificate: Some(found.certificate), ..proof })
}

/// Which numbered message the entry claims to be.
fn wanted(proof: &Proof) -> Option<Wanted> {
    let entry = entry::read(&proof.entry).ok()?;
    let Payload::Bytes(payload) = &entry.payload else { return None };
    let Heard::Signed(signed) = hear(&entry.topic, payload).ok()? else { return None };
    let header = &signed.header;
    Some(Wanted { device: header.from.clone(), session: header.session, seq: header.seq? })
}

fn policy(arguments: &ProveArguments) -> Result<Policy, Failure> {
    if let Some(file) = &arguments.policy {
        return read_policy(file);
    }
    let beside = Path::new(&arguments.log).parent().map(|data_dir| data_dir.join(POLICY));
    match beside.filter(|file| file.is_file()) {
        Some(file) => read_policy(&file),
        None => Err("who vouches for the log? There is no site.policy beside it: give --policy".into()),
    }
}
