//! What `verify --log` prints.

use std::io::{self, Write};

use super::ledger::{Notarized, UNSIGNED};
use crate::show::date;
use crate::verify::{Beside, Continued, Explanation, Files, Gap, LedgerReport, Messages, Report};

/// So many gaps of each kind are named; --json names all.
const MOST_GAPS: usize = 20;

pub fn print_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if let Some(failure) = &report.failure {
        writeln!(out, "DOES NOT HOLD: {failure}")?;
        return writeln!(out, "{} entries were looked at before that", report.entries);
    }
    writeln!(out, "log        {}", report.origin)?;
    writeln!(out, "entries    {}", report.tree_size)?;
    if report.minimum_index > 0 {
        let first = report.minimum_index;
        writeln!(out, "           those before entry {first} were dropped; of them only the hashes were checked")?;
    }
    writeln!(out, "root       {}", report.root_hash)?;
    if report.vouched {
        print_messages(&report.messages, out)?;
    }
    print_beside(&report.beside, out)?;
    match report.since {
        Some(since) if since.continued => {
            writeln!(out, "since      it continues the older checkpoint of {} entries", since.tree_size)?;
        }
        Some(since) => writeln!(
            out,
            "since      the older checkpoint ends with entry {}, within what was dropped: whether the log continues it \
             CANNOT BE TOLD",
            since.tree_size.saturating_sub(1)
        )?,
        None => {}
    }
    if report.vouched {
        writeln!(out, "HOLDS")
    } else {
        let keys = report.keys.join(", ");
        writeln!(out, "internally consistent, but nobody vouches for key {keys}: give --policy")
    }
}

fn print_beside(Beside { ahead, left_over, foreign }: &Beside, out: &mut impl Write) -> io::Result<()> {
    for (name, Files { count, first }, what) in [
        ("ahead", ahead, "about entries that no checkpoint covers yet: nobody vouches for them"),
        ("left over", left_over, "of entries that were being dropped: fsck, or the anchor's next start, removes them"),
        ("foreign", foreign, "not the log's, but some system's: they were not looked at"),
    ] {
        if let Some(first) = first {
            writeln!(out, "{name:<10} files {what}")?;
            writeln!(out, "           {count}, the first: {}", first.escape_debug())?;
        }
    }
    Ok(())
}

fn print_messages(messages: &Messages, out: &mut impl Write) -> io::Result<()> {
    let Messages {
        verified,
        sessions,
        duplicates,
        last_wills,
        commands,
        revocations,
        repeated,
        unverified,
        first_unverified,
        revoked,
        first_revoked,
        outside_bracket,
        first_outside_bracket,
        not_logged,
        replayed_later,
        lost,
        dropped,
        missing,
        gaps,
        by_sender: _,
    } = messages;
    writeln!(
        out,
        "messages   {verified} signed, of {sessions} sessions; {last_wills} last wills; {commands} commands"
    )?;
    if revocations + repeated > 0 {
        writeln!(out, "revoked    {revocations} lists of revoked certificates; {repeated} notices that repeat others")?;
    }
    if *revoked > 0 {
        writeln!(out, "           {revoked} messages prove nothing, since their certificate was revoked before them")?;
    }
    if let Some(first) = first_revoked {
        writeln!(out, "           the first: {first}")?;
    }
    writeln!(out, "unverified {unverified}, and {not_logged} counted but not logged; {duplicates} duplicates")?;
    if let Some(first) = first_unverified {
        writeln!(out, "           the first: {first}")?;
    }
    if *outside_bracket > 0 {
        writeln!(out, "times      {outside_bracket} entries claim one that the ledger contradicts by over 5 minutes")?;
    }
    if let Some(first) = first_outside_bracket {
        writeln!(out, "           the first: {first}")?;
    }
    writeln!(out, "missing    {missing} messages without explanation")?;
    print_gaps(gaps, Explanation::Unexplained, out)?;
    for (count, explanation, what) in [
        (lost, Explanation::DeclaredLost, "declared lost by their senders"),
        (replayed_later, Explanation::ReplayedLater, "replayed later: they are there, behind newer ones"),
        (dropped, Explanation::Dropped, "in what was dropped, or missing: that cannot be told"),
    ] {
        if *count > 0 {
            writeln!(out, "           {count} {what}")?;
            print_gaps(gaps, explanation, out)?;
        }
    }
    Ok(())
}

fn print_gaps(gaps: &[Gap], wanted: Explanation, out: &mut impl Write) -> io::Result<()> {
    let of_kind = || gaps.iter().filter(|gap| gap.explanation == wanted);
    for gap in of_kind().take(MOST_GAPS) {
        writeln!(out, "             {} session {}: {} to {}", gap.device, gap.session, gap.from_seq, gap.to_seq)?;
    }
    match of_kind().count().saturating_sub(MOST_GAPS) {
        0 => Ok(()),
        more => writeln!(out, "             and {more} more gaps (--json names all)"),
    }
}

pub fn print_notarized(notarized: &Notarized, out: &mut impl Write) -> io::Result<()> {
    match notarized {
        Notarized::NotAsked => Ok(()),
        Notarized::Yes(report) => print_vouched(report, out),
        Notarized::No(failure) => writeln!(out, "THE LEDGER DOES NOT VOUCH FOR IT: {failure}"),
        Notarized::Unknown(failure) => writeln!(out, "THE LEDGER COULD NOT BE ASKED: {failure}"),
    }
}

fn print_vouched(report: &LedgerReport, out: &mut impl Write) -> io::Result<()> {
    let LedgerReport { trail, records, foreign, not_compared, newest, not_notarized, continued, untold } = report;
    writeln!(out, "ledger     {records} records in the sealed trail {trail}")?;
    print_foreign(*foreign, trail, "this log", out)?;
    if *not_compared > 0 {
        writeln!(out, "           {not_compared} of the log's end within what was dropped, and could not be compared")?;
    }
    if let Some(newest) = newest {
        let (size, at) = (newest.tree_size, date(newest.added_ms));
        let place = if newest.trail == *trail { "the newest" } else { "the newest, in a trail that it continues" };
        writeln!(out, "           {place}, of {at}, vouches for the first {size} entries")?;
        writeln!(out, "           {not_notarized} entries are newer than that")?;
    }
    for old in continued {
        print_continued(old, out)?;
    }
    match (newest, untold) {
        (None, None) => writeln!(out, "NOTHING OF IT IS ON THE LEDGER YET"),
        (None, Some(why)) => {
            writeln!(out, "NOTHING OF IT IS ON THE LEDGER YET, AND THE TRAILS BEFORE COULD NOT BE TOLD: {why}")
        }
        (Some(_), Some(why)) => {
            writeln!(out, "THE LEDGER VOUCHES FOR IT, BUT THE TRAILS BEFORE COULD NOT BE TOLD: {why}")
        }
        (Some(_), None) => writeln!(out, "THE LEDGER VOUCHES FOR IT"),
    }
}

fn print_foreign(foreign: u64, trail: &str, log: &str, out: &mut impl Write) -> io::Result<()> {
    match foreign {
        0 => return Ok(()),
        1 => writeln!(out, "           1 RECORD OF TRAIL {trail} IS NO CHECKPOINT of {log}, or an old one:")?,
        _ => writeln!(out, "           {foreign} RECORDS OF TRAIL {trail} ARE NO CHECKPOINTS of {log}, or old ones:")?,
    }
    writeln!(out, "           SOMEBODY ELSE HAS, OR HAD, ITS LEDGER KEY")
}

fn print_continued(old: &Continued, out: &mut impl Write) -> io::Result<()> {
    let Continued {
        trail,
        log,
        is_same_log,
        other_authority,
        signed,
        said_ms,
        records,
        foreign,
        newest,
        not_named,
        added_later,
    } = old;
    writeln!(out, "continues  the sealed trail {trail}, as was said {}", date(*said_ms))?;
    match (is_same_log, signed) {
        (true, _) => writeln!(out, "           SIGNED: it is of the same log, and its records were compared too")?,
        (false, true) => writeln!(out, "           SIGNED by the key of its log, {log}")?,
        (false, false) => {
            writeln!(out, "           UNSIGNED by the key of its log, {log}:")?;
            writeln!(out, "           {}", UNSIGNED.to_uppercase())?;
        }
    }
    match newest {
        Some(newest) => {
            let (number, size, at) = (newest.number, newest.tree_size, date(newest.added_ms));
            writeln!(
                out,
                "           {records} checkpoints, to record {number} of {at}, for the first {size} entries"
            )?;
        }
        None => writeln!(out, "           no checkpoint")?,
    }
    print_foreign(*foreign, trail, "its log", out)?;
    if let Some(digest) = other_authority {
        writeln!(out, "           its authority is another, whose certificate has SHA-256 {digest}")?;
    }
    if *not_named > 0 {
        writeln!(out, "           {not_named} more records were there already and do not count")?;
    }
    if *added_later > 0 {
        writeln!(out, "           {added_later} RECORDS WERE ADDED TO IT LATER: somebody still uses its keys")?;
    }
    Ok(())
}
