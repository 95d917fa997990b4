//! One INA219 on `/dev/i2c-*` that answers within the program, so that what the program takes can be measured without the
//! connection to a test.
//!
//! Register by register as far as a meter goes (TI datasheet SBOS448G, section 8.6): reset, conversion times, the
//! conversion-ready bit, and a shunt voltage that steps. Faults are the test's to play, which has a whole chip.
//!
//! A transfer is one call to the kernel. It puts the thread to sleep for as many microseconds as `$GRID_KERNEL_WITHIN` says, as
//! the driver of an adapter does for as long as the bus takes, or returns at once if that is none. What a driver does besides
//! is not here.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const CONFIGURATION: u8 = 0;
const SHUNT_VOLTAGE: u8 = 1;
const BUS_VOLTAGE: u8 = 2;
const POWER: u8 = 3;

const RESET: u16 = 1 << 15;
const POWER_ON: u16 = 0x399F;
/// 5 V in steps of 4 mV, above the flags.
const FIVE_VOLTS: u16 = 1_250 << 3;
const CONVERSION_READY: u16 = 1 << 1;

/// How long a conversion takes in microseconds, by the four bits that say so (table 5).
const CONVERSION_US: [u64; 16] =
    [84, 148, 276, 532, 84, 148, 276, 532, 532, 1_060, 2_130, 4_260, 8_510, 17_020, 34_050, 68_100];

/// 40 mV and 53.33 mV by turns, in steps of 10 µV.
const SHUNT: [u16; 2] = [4_000, 5_333];
const STEPS_EVERY: Duration = Duration::from_millis(100);

unsafe extern "C" {
    /// Of all calls the one that does least in the kernel.
    fn getppid() -> i32;
}

static CHIP: Mutex<Option<Chip>> = Mutex::new(None);

struct Chip {
    powered_at: Instant,
    pointer: u8,
    configuration: u16,
    converting_since: Instant,
    ready: bool,
}

/// Speaks to the chip, message after message, which takes so long.
pub fn transfer(messages: &mut [Message<'_>], takes: Duration) {
    match takes {
        Duration::ZERO => drop(unsafe { getppid() }),
        takes => thread::sleep(takes),
    }
    let now = Instant::now();
    let mut chip = CHIP.lock().unwrap();
    let chip = chip.get_or_insert(Chip {
        powered_at: now,
        pointer: CONFIGURATION,
        configuration: POWER_ON,
        converting_since: now,
        ready: false,
    });
    while now >= chip.converting_since + chip.conversion() {
        chip.converting_since += chip.conversion();
        chip.ready = true;
    }
    for message in messages {
        match message {
            Message::Write(bytes) => chip.write(bytes),
            Message::Read(bytes) => bytes.iter_mut().zip(chip.read().to_be_bytes()).for_each(|(to, from)| *to = from),
        }
    }
}

/// What of a transfer goes one way.
pub enum Message<'a> {
    Write(&'a [u8]),
    Read(&'a mut [u8]),
}

impl Chip {
    fn conversion(&self) -> Duration {
        let [bus, shunt] = [7, 3].map(|at| CONVERSION_US[usize::from(self.configuration >> at & 0xF)]);
        Duration::from_micros(bus + shunt)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.pointer = bytes.first().copied().unwrap_or(self.pointer);
        if let (&[high, low], CONFIGURATION) = (bytes.get(1..).unwrap_or_default(), self.pointer) {
            let written = u16::from_be_bytes([high, low]);
            self.configuration = if written & RESET == 0 { written } else { POWER_ON };
            (self.converting_since, self.ready) = (Instant::now(), false);
        }
    }

    fn read(&mut self) -> u16 {
        match self.pointer {
            CONFIGURATION => self.configuration,
            SHUNT_VOLTAGE => SHUNT[(self.powered_at.elapsed().as_millis() / STEPS_EVERY.as_millis() % 2) as usize],
            BUS_VOLTAGE => FIVE_VOLTS | if self.ready { CONVERSION_READY } else { 0 },
            POWER => {
                self.ready = false;
                0
            }
            _ => 0,
        }
    }
}
