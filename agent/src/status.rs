//! `grid-agent status`: what of an agent's messages the anchor has not acknowledged, and since when.
//!
//! A running agent is asked through a socket in its outbox's folder. If none runs, the folder's files tell.

use std::fmt::Write;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grid_protocol::topic::Name;
use grid_protocol::units::{Millis, UnixMillis};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::outbox::{DiskReport, LookError, Report, Worth, look};
use crate::run::STATUS_SOCKET;

/// An agent answers at once, unless its machine is very busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// An anchor that is there acknowledges well within this.
const OVERDUE: Millis = Millis(60_000);

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no folder.
    #[error("no [outbox] dir is configured: the agent's messages wait in its memory, and only its log tells of them")]
    NoFolder,
    /// The agent does not answer.
    #[error("the agent does not answer on {socket}: {source}")]
    Silent {
        /// Where it should.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files cannot be read.
    #[error(transparent)]
    Files(#[from] LookError),
}

/// What waits in the outbox of this folder.
pub fn ask(folder: Option<&Path>, name: &Name) -> Result<Report, StatusError> {
    let folder = folder.ok_or(StatusError::NoFolder)?;
    let socket = folder.join(STATUS_SOCKET);
    let stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        // Nobody runs; a socket may be left from one that was killed.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(look(folder, name)?);
        }
        Err(source) => return Err(StatusError::Silent { socket, source }),
    };
    listen(stream).map_err(|source| StatusError::Silent { socket, source })
}

fn listen(mut stream: UnixStream) -> io::Result<Report> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Whether all is well: nothing has waited for long, nothing is lost without the log knowing it, and who should be there
/// is. Of an agent that does not run: whether nothing waits.
pub fn is_well(report: &Report, now: UnixMillis) -> bool {
    let is_overdue = report.oldest_ms.is_some_and(|oldest| now.0.saturating_sub(oldest.0) > OVERDUE.0);
    let all_are_there = report.broker_is_there && report.anchor_is_there;
    let disk_works = !matches!(report.disk_state, DiskReport::Fails(_));
    let nothing_hidden = report.lost_undeclared == 0;
    let quiet = if report.is_running { all_are_there && !is_overdue } else { report.oldest_ms.is_none() };
    quiet && disk_works && nothing_hidden
}

/// The report for a person.
pub fn text(report: &Report, now: UnixMillis) -> String {
    let there = |is_there| if is_there { "there" } else { "not there" };
    let mut text = match report.is_running {
        true => format!(
            "{} runs: the broker is {}, the anchor is {}\n",
            report.name,
            there(report.broker_is_there),
            there(report.anchor_is_there)
        ),
        false => format!("{} does not run: this is what its outbox holds\n", report.name),
    };
    if let Some(view) = &report.view {
        let _ = writeln!(text, "{view}");
    }
    let (memory, disk) = (report.memory, report.disk);
    let since = |oldest: Option<UnixMillis>| oldest.map(|oldest| since(oldest, now)).unwrap_or_default();
    // Writing to a string does not fail.
    let _ = match report.oldest_ms {
        None => writeln!(text, "everything is acknowledged"),
        oldest => writeln!(
            text,
            "unacknowledged {}: {} messages, {} bytes in memory; {} messages, {} bytes on disk",
            since(oldest),
            memory.messages,
            memory.bytes,
            disk.messages,
            disk.bytes
        ),
    };
    for session in &report.sessions {
        let which = if session.is_current { "session now " } else { "session " };
        let messages = session.memory.messages + session.disk.messages;
        let _ = writeln!(text, "  {which}{}: {messages} messages {}", session.session, since(session.oldest_ms));
    }
    if report.is_running {
        let worst = match report.worst_lost {
            None | Some(Worth::Measurement) => "",
            Some(Worth::Setpoint) => ", SETPOINTS AMONG THEM",
            Some(Worth::Lasting) => ", EVENTS OR STATUSES AMONG THEM",
        };
        let _ = writeln!(text, "since the start: {} said again, {} lost{worst}", report.replayed, report.lost);
    }
    if report.lost_undeclared > 0 {
        let _ = writeln!(text, "lost, and to be declared in the log: {}", report.lost_undeclared);
    }
    let _ = match &report.disk_state {
        DiskReport::Works => Ok(()),
        DiskReport::None => writeln!(text, "there is no disk: a restart loses what waits"),
        DiskReport::Fails(why) => writeln!(text, "the disk fails: {why}"),
    };
    text
}

/// `since 2026-11-27 07:12:03 UTC (12 min)`.
fn since(oldest: UnixMillis, now: UnixMillis) -> String {
    let seconds = i64::try_from(oldest.0 / 1000).unwrap_or(i64::MAX);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let date = date.and_then(|date| date.format(&format).ok()).unwrap_or_else(|| format!("{} ms", oldest.0));
    let age = now.0.saturating_sub(oldest.0) / 1000;
    let age = match age {
        0..=119 => format!("{age} s"),
        120..=7199 => format!("{} min", age / 60),
        _ => format!("{} h", age / 3600),
    };
    format!("since {date} ({age})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{Amount, SessionReport};
    use grid_protocol::message::Session;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn report(age_ms: Option<u64>) -> Report {
        let oldest_ms = age_ms.map(|age| UnixMillis(NOW.0 - age));
        let amount = |messages| Amount { messages, bytes: messages * 400 };
        let (memory, disk) = oldest_ms.map_or((amount(0), amount(0)), |_| (amount(3), amount(70)));
        let session = SessionReport { session: Session(9), is_current: true, memory, disk, oldest_ms };
        Report {
            name: "cp-3".parse().unwrap(),
            is_running: true,
            broker_is_there: true,
            anchor_is_there: true,
            view: None,
            memory,
            disk,
            disk_state: DiskReport::Works,
            oldest_ms,
            sessions: oldest_ms.map(|_| session).into_iter().collect(),
            replayed: 12,
            lost: 0,
            worst_lost: None,
            lost_undeclared: 0,
        }
    }

    #[test]
    fn all_is_well_while_nothing_waits_for_long_and_all_are_there() {
        assert!(is_well(&report(None), NOW) && is_well(&report(Some(2_000)), NOW));
        assert!(!is_well(&report(Some(61_000)), NOW));
        assert!(!is_well(&Report { anchor_is_there: false, ..report(None) }, NOW));
        assert!(!is_well(&Report { broker_is_there: false, ..report(None) }, NOW));
        assert!(!is_well(&Report { lost_undeclared: 1, ..report(None) }, NOW));
        assert!(!is_well(&Report { disk_state: DiskReport::Fails("EIO".into()), ..report(None) }, NOW));
        let asleep = |report| Report { is_running: false, broker_is_there: false, anchor_is_there: false, ..report };
        assert!(is_well(&asleep(report(None)), NOW) && !is_well(&asleep(report(Some(0))), NOW));
    }

    #[test]
    fn the_text_says_what_waits_where_and_since_when() {
        let text = text(&report(Some(725_000)), NOW);
        assert_eq!(
            text,
            "cp-3 runs: the broker is there, the anchor is there\n\
             unacknowledged since 2027-01-15 07:47:55 UTC (12 min): 3 messages, 1200 bytes in memory; 70 messages, \
             28000 bytes on disk\n  session now 0000000000000009: 73 messages since 2027-01-15 07:47:55 UTC (12 min)\n\
             since the start: 12 said again, 0 lost\n"
        );
    }

    #[test]
    fn the_text_says_loudly_when_more_than_measurements_is_lost() {
        let lost = |worst_lost| text(&Report { lost: 9, worst_lost, ..report(None) }, NOW);
        assert!(lost(Some(Worth::Measurement)).contains("said again, 9 lost\n"));
        assert!(lost(Some(Worth::Setpoint)).contains("9 lost, SETPOINTS AMONG THEM\n"));
        assert!(lost(Some(Worth::Lasting)).contains("9 lost, EVENTS OR STATUSES AMONG THEM\n"));
    }

    #[test]
    fn without_a_folder_it_says_that_nothing_can_be_told() {
        let complaint = ask(None, &"cp-3".parse().unwrap()).unwrap_err().to_string();
        assert!(complaint.contains("[outbox] dir"), "{complaint}");
    }
}
