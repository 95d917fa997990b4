//! One line on a terminal that says how far a long verification is.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::verify::Progress;

/// What is done sooner needs no line.
const PATIENCE: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_millis(200);
const BAR: u64 = 20;

/// The line on standard error, if that is a terminal.
pub struct ProgressLine {
    started: Instant,
    is_terminal: bool,
    shown: Mutex<Option<Instant>>,
}

impl ProgressLine {
    /// Work starts now.
    pub fn start() -> Self {
        Self { started: Instant::now(), is_terminal: io::stderr().is_terminal(), shown: Mutex::new(None) }
    }

    /// Work is so far.
    pub fn show(&self, progress: Progress) {
        let elapsed = self.started.elapsed();
        let Ok(mut shown) = self.shown.lock() else { return };
        if !self.is_terminal || elapsed < PATIENCE || shown.is_some_and(|shown| shown.elapsed() < REFRESH) {
            return;
        }
        *shown = Some(Instant::now());
        // Carriage return, text, clear to the end of the line (ECMA-48, EL). A terminal that is gone stops nothing.
        let _ = write!(io::stderr(), "\r{}\x1b[K", line(progress, elapsed));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown.lock().is_ok_and(|shown| shown.is_some()) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(Progress { entries, of, bytes }: Progress, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let filled = (BAR * entries).checked_div(of).unwrap_or(BAR).min(BAR);
    let bar: String = (0..BAR).map(|at| if at < filled { '█' } else { '·' }).collect();
    let speed = bytes / 1000 / millis;
    let left = of.saturating_sub(entries).saturating_mul(millis).checked_div(entries).unwrap_or(0) / 1000;
    format!("{bar}  {entries} of {of} entries  {speed} MB/s  {}:{:02} left", left / 60, left % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long_yet() {
        let progress = Progress { entries: 250_000, of: 1_000_000, bytes: 90_000_000 };
        let expected = "█████···············  250000 of 1000000 entries  30 MB/s  0:09 left";
        assert_eq!(line(progress, Duration::from_secs(3)), expected);
        let nothing = line(Progress { entries: 0, of: 0, bytes: 0 }, Duration::ZERO);
        assert!(nothing.ends_with("0 of 0 entries  0 MB/s  0:00 left"), "{nothing}");
    }
}
