//! When a device reports.
//!
//! | because | when |
//! |---|---|
//! | a setpoint was accepted | at once; where it changed the limit, with the first reading after the change (rule 9) |
//! | the change has settled | at once |
//! | it asks for more | at once, beyond what the token bucket allows once a second |
//! | current moved by more than the deadband, it asks for less, state or priority changed | at once, through a token bucket |
//! | current flows, or is wanted | every heartbeat |
//! | it wants current and no setpoint came for a heartbeat and 500 ms | every 100 ms |
//! | it wants current and has no lease | every second or so |
//! | it is idle | every 10 s |

use grid_protocol::message::{Activity, Session};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use crate::bucket::Bucket;

/// A smaller move of the current, or of what is asked for, is not worth a message.
pub const DEADBAND: MilliAmps = MilliAmps(250);
const UNANSWERED: Millis = Millis(500);
const REPEAT_UNANSWERED: Millis = Millis(100);
const REPEAT_WITHOUT_LEASE: Millis = Millis(1000);
const REPORT_IDLE: Millis = Millis(10_000);
const BURST: u64 = 10;
const SUSTAINED: Millis = Millis(500);
const ASK_FOR_MORE: Millis = Millis(1000);

/// What a report says, as far as it decides about the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gist {
    /// What the device is doing.
    pub state: Activity,
    /// Whether it has followed its limit.
    pub settled: bool,
    /// What flows, per phase.
    pub current: Vec<MilliAmps>,
    /// What it asks for.
    pub demand: MilliAmps,
    /// Its priority.
    pub priority: u8,
}

/// How often an answer is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// How often a lease is to be renewed.
    pub beat: Millis,
    /// When a setpoint was accepted last, if the lease still lives.
    pub accepted_at: Option<BootTime>,
    /// Whether current is wanted.
    pub wants: bool,
}

/// What was reported, and how often.
#[derive(Clone, Debug)]
pub struct Reports {
    session: Session,
    last: Option<(BootTime, Gist)>,
    count: u64,
    bucket: Bucket,
    more: Bucket,
}

impl Reports {
    /// Nothing was reported yet.
    pub fn new(session: Session, now: BootTime) -> Self {
        let (bucket, more) = (Bucket::new(BURST, SUSTAINED, now), Bucket::new(1, ASK_FOR_MORE, now));
        Self { session, last: None, count: 0, bucket, more }
    }

    /// Whether this is worth a report by itself.
    pub fn is_news(&mut self, gist: &Gist, rhythm: Rhythm, now: BootTime) -> bool {
        let (Some((_, said)), Some(next)) = (&self.last, self.next(rhythm)) else { return true };
        if (gist.settled && !said.settled) || now >= next {
            return true;
        }
        let moved = |now: MilliAmps, then: MilliAmps| (now.0 - then.0).abs() > DEADBAND.0;
        let differs = gist.current.iter().zip(&said.current).any(|(now, then)| moved(*now, *then))
            || moved(gist.demand, said.demand)
            || (gist.state, gist.priority) != (said.state, said.priority);
        let wants_more = gist.demand > said.demand + DEADBAND;
        differs && (self.bucket.take(now) || (wants_more && self.more.take(now)))
    }

    /// It was reported.
    pub fn on_report(&mut self, gist: Gist, now: BootTime) {
        self.last = Some((now, gist));
        self.count += 1;
    }

    /// When to report again if nothing happens; `None` before the first report.
    pub fn next(&self, rhythm: Rhythm) -> Option<BootTime> {
        let (at, said) = self.last.as_ref()?;
        let Rhythm { beat, accepted_at, wants } = rhythm;
        let flows = said.current.iter().any(|current| current.0.abs() > DEADBAND.0);
        Some(match (wants, accepted_at) {
            (false, _) if flows => *at + beat,
            (false, _) => *at + REPORT_IDLE,
            // Without an answer a heartbeat and 500 ms after the last one, every 100 ms from then on.
            (true, Some(accepted)) => (*at + beat).min((accepted + beat + UNANSWERED).max(*at + REPEAT_UNANSWERED)),
            // Jitter, so that a street that comes back after a power cut does not speak in step.
            (true, None) => {
                *at + REPEAT_WITHOUT_LEASE + Millis(self.session.0.rotate_left(self.count as u32 % 64) % 200)
            }
        })
    }
}
