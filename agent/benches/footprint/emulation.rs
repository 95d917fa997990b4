//! What a call to the emulated kernel costs the program that makes it, beyond what it would cost to a real one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::process::of_this_thread;

const TIMES: u32 = 2_000;
/// Calls are made after a pause, as an agent makes them.
const PAUSE: Duration = Duration::from_micros(500);
/// A transfer of the I2C bus: a register's number there, its two bytes back, with lengths and numbers around them.
const QUESTION: [u8; 34] = [7; 34];
const ANSWER: [u8; 10] = [7; 10];

/// The processor time of one call, measured as the preloaded library makes it: a question is sent, and its answer is read
/// in three parts, from a thread that has to wake up first.
pub fn cost_of_a_call() -> Duration {
    let (mut program, mut kernel) = UnixStream::pair().unwrap();
    let answering = thread::spawn(move || {
        let mut question = QUESTION;
        while kernel.read_exact(&mut question).is_ok() && kernel.write_all(&ANSWER).is_ok() {}
    });
    let pauses = times(|| ());
    let calls = times(|| {
        program.write_all(&QUESTION).unwrap();
        let (mut length, mut result, mut rest) = ([0; 4], [0; 4], [0; 2]);
        program.read_exact(&mut length).unwrap();
        program.read_exact(&mut result).unwrap();
        program.read_exact(&mut rest).unwrap();
    });
    drop(program);
    answering.join().unwrap();
    calls.saturating_sub(pauses) / TIMES
}

/// The processor time of doing it [`TIMES`] times, with pauses.
fn times(mut what: impl FnMut()) -> Duration {
    let before = of_this_thread();
    for _ in 0..TIMES {
        thread::sleep(PAUSE);
        what();
    }
    of_this_thread() - before
}
