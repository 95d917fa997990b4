//! `grid-anchor verify PROOF`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;

use super::ledger::Asked;
use super::{Failure, UNKNOWN};
use crate::checkpoint::read_unsigned;
use crate::policy::Policy;
use crate::proof::{LARGEST, Malformed, Proof, Proven, Spoken, check_inclusion, check_proof};
use crate::show::date;
use crate::verify::{Bracket, LedgerFailure, Standing};

/// What came of a proof.
#[derive(Serialize)]
struct Checked<'a> {
    holds: bool,
    proven: Option<&'a Proven>,
    failure: Option<String>,
    /// Between which times it was received, where the ledger tells.
    received: Option<Bracket>,
    ledger: Option<&'a Standing>,
    ledger_failure: Option<String>,
}

pub(super) fn verify_proof(
    file: &Path,
    policy: Option<&Policy>,
    asked: Asked,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let refused = |why: String| Checked { failure: Some(why), ..nothing() };
    let proof = match read_proof(file)? {
        Ok(proof) => proof,
        Err(why) => return finish(out, json, &refused(why.to_string()), 1),
    };
    let Some(policy) = policy else { return without_policy(&proof, out, json) };
    let (knowledge, bracket) = knowledge(&proof, asked);
    let proven = match check_proof(&proof, policy, bracket.unwrap_or_default()) {
        Ok(proven) => proven,
        Err(why) => return finish(out, json, &refused(why.to_string()), 1),
    };
    let (code, standing, failure) = match &knowledge {
        Knowledge::NotAsked => (0, None, None),
        Knowledge::Says(standing @ Standing::Notarized { .. }) => (0, Some(standing), None),
        Knowledge::Says(standing @ (Standing::Covered { .. } | Standing::NotYet)) => (UNKNOWN, Some(standing), None),
        Knowledge::Failed(failure) => (if failure.is_unknown() { UNKNOWN } else { 1 }, None, Some(failure.to_string())),
    };
    if json {
        let (proven, received, ledger, ledger_failure) = (Some(&proven), bracket, standing, failure);
        let checked = Checked { holds: code != 1, proven, failure: None, received, ledger, ledger_failure };
        return finish(out, json, &checked, code);
    }
    print_proven(&proven, out)?;
    print_knowledge(&knowledge, bracket, &proven, out)?;
    Ok(code)
}

/// What the ledger says of the proof's head.
enum Knowledge {
    NotAsked,
    Says(Standing),
    Failed(LedgerFailure),
}

/// Asks the records about the proof's head. Only one that they know says when its entries were received.
fn knowledge(proof: &Proof, asked: Asked) -> (Knowledge, Option<Bracket>) {
    let records = match asked {
        Asked::Not => return (Knowledge::NotAsked, None),
        Asked::Failed(failure) => return (Knowledge::Failed(failure), None),
        Asked::Records(records) => records,
    };
    // A checkpoint that does not read is refused with the proof.
    let Ok(unsigned) = read_unsigned(&proof.checkpoint) else { return (Knowledge::NotAsked, None) };
    match records.standing(&unsigned.head) {
        Ok(standing) => {
            let is_known = matches!(standing, Standing::Notarized { .. });
            let bracket = is_known.then(|| records.brackets().of(proof.index));
            (Knowledge::Says(standing), bracket)
        }
        Err(failure) => (Knowledge::Failed(failure), None),
    }
}

fn print_proven(proven: &Proven, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "log        {}", proven.origin)?;
    writeln!(out, "entry      {}, under a checkpoint of {} entries", proven.index, proven.tree_size)?;
    writeln!(out, "received   {}, as the anchor says", date(proven.received_ms))?;
    writeln!(out, "topic      {}", printable(&proven.topic))?;
    match &proven.spoken {
        Some(spoken) => {
            let number = spoken.seq.map_or_else(|| "last will".to_owned(), |seq| format!("message {seq}"));
            let Spoken { from, role, session, time_ms, certificate_serial, .. } = spoken;
            writeln!(
                out,
                "said by    {from}, {role}: {number} of session {session}, at {} by its clock",
                date(*time_ms)
            )?;
            writeln!(
                out,
                "           signed with the key in certificate {certificate_serial} of the site's authority"
            )?;
        }
        None => writeln!(out, "said by    nobody who signed it: only the anchor says that it came")?,
    }
    writeln!(out, "message    {}", printable(&proven.payload))?;
    writeln!(out, "HOLDS")
}

fn print_knowledge(
    knowledge: &Knowledge,
    bracket: Option<Bracket>,
    proven: &Proven,
    out: &mut impl Write,
) -> io::Result<()> {
    match knowledge {
        Knowledge::NotAsked => {
            writeln!(out, "(The ledger was not asked whether it knows this checkpoint. To ask it, add --network.)")?;
        }
        Knowledge::Says(Standing::Notarized { trail, number, added_ms }) => {
            writeln!(out, "ledger     record {number}, added {}, is this checkpoint", date(*added_ms))?;
            writeln!(out, "           in the sealed trail {trail}")?;
            if let Some(bracket) = bracket {
                let from = bracket.from_ms.map(|from| format!("after {} and ", date(from))).unwrap_or_default();
                let until = bracket.until_ms.map_or_else(|| "now".to_owned(), date);
                writeln!(out, "           so the message was received {from}before {until}")?;
                if bracket.excludes(proven.received_ms) {
                    writeln!(out, "           THAT IS NOT WHEN THE ANCHOR SAYS THAT IT RECEIVED IT")?;
                }
            }
            writeln!(out, "THE LEDGER VOUCHES FOR IT")?;
        }
        Knowledge::Says(Standing::Covered { trail, number, added_ms, tree_size }) => {
            let added = date(*added_ms);
            writeln!(
                out,
                "ledger     no record is this checkpoint; record {number}, added {added}, covers {tree_size} entries"
            )?;
            writeln!(out, "           in the sealed trail {trail}")?;
            writeln!(
                out,
                "WHETHER THAT CONTINUES THIS CHECKPOINT CANNOT BE TOLD without the log: verify --log --since, or"
            )?;
            writeln!(out, "make the proof under a record's text: prove --checkpoint")?;
        }
        Knowledge::Says(Standing::NotYet) => writeln!(out, "THE LEDGER HAS NO RECORD AS NEW AS THIS CHECKPOINT")?,
        Knowledge::Failed(failure) if failure.is_unknown() => {
            writeln!(out, "THE LEDGER COULD NOT BE ASKED: {failure}")?;
        }
        Knowledge::Failed(failure) => writeln!(out, "THE LEDGER DOES NOT VOUCH FOR IT: {failure}")?,
    }
    if proven.spoken.is_some() {
        writeln!(out, "(Whether the certificate was revoked before, only the log tells.)")?;
    }
    Ok(())
}

/// On one line, and without what could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn nothing<'a>() -> Checked<'a> {
    Checked { holds: false, proven: None, failure: None, received: None, ledger: None, ledger_failure: None }
}

fn finish(out: &mut impl Write, json: bool, checked: &Checked, code: u8) -> Result<u8, Failure> {
    if json {
        writeln!(out, "{}", serde_json::to_string(checked)?)?;
    } else if let Some(failure) = &checked.failure {
        writeln!(out, "DOES NOT HOLD: {}", printable(failure))?;
    }
    Ok(code)
}

fn read_proof(file: &Path) -> Result<Result<Proof, Malformed>, Failure> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", file.display());
    let mut bytes = Vec::new();
    File::open(file).map_err(cannot)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(Proof::read(&bytes))
}

/// Without a policy only the hashes can be checked.
fn without_policy(proof: &Proof, out: &mut impl Write, json: bool) -> Result<u8, Failure> {
    let included = read_unsigned(&proof.checkpoint)
        .map_err(|why| why.to_string())
        .and_then(|unsigned| check_inclusion(proof, &unsigned.head).map(|()| unsigned).map_err(|why| why.to_string()));
    let unsigned = match included {
        Ok(unsigned) => unsigned,
        Err(why) => return finish(out, json, &Checked { failure: Some(why), ..nothing() }, 1),
    };
    let keys = unsigned.keys.join(", ");
    let doubt = format!("internally consistent, but nobody vouches for key {keys}: give --policy");
    if json {
        return finish(out, json, &Checked { failure: Some(doubt), ..nothing() }, UNKNOWN);
    }
    writeln!(out, "{}", printable(&doubt))?;
    Ok(UNKNOWN)
}
