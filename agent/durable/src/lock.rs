//! Only one process works on a folder at a time.

use std::fs::File;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long to wait for a lock that another has.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Takes the lock of an open file, which is free again when all handles of this opening are closed; `false` if another
/// keeps it for as long as [`LOCK_PATIENCE`]. Who had it may be about to end, and a program that was being started at that
/// moment has, until it runs, a copy of every handle.
pub fn lock_alone(file: &File) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < LOCK_PATIENCE => sleep(LOCK_RETRY),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}
