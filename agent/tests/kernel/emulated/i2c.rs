//! `/dev/i2c-1` as `i2c-dev` and the adapter of a Raspberry Pi (`i2c-bcm2835`) have it, with simulated chips on the wires.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use embedded_hal::i2c::I2c;
use grid_agent::simulated_ina219::{Fault, Sensed, SimulatedBus};
use grid_service::clock::boot_micros;

use super::{Answer, EBUSY, EINVAL, ENODEV, ENOENT, ENOTTY, EOPNOTSUPP, EREMOTEIO, Errno, OpenFile, lock};

const I2C_SLAVE: u64 = 0x0703;
const I2C_RDWR: u64 = 0x0707;
const I2C_PEC: u64 = 0x0708;
const I2C_M_RD: u16 = 1;
/// `I2C_RDWR_IOCTL_MAX_MSGS`.
const MOST_MESSAGES: usize = 42;

pub struct Adapter {
    bus: SimulatedBus,
    state: Mutex<State>,
}

struct State {
    /// Counts how often it was plugged in. A file that was opened before is worth nothing.
    plugged: u32,
    is_there: bool,
    /// What each transfer ends with.
    fails: Option<Errno>,
    /// How it reports that nobody acknowledged.
    unacknowledged: Errno,
    /// A driver in the kernel has it.
    claimed: Option<u16>,
    /// How many device files are open.
    open: u32,
}

/// What flows through one chip's shunt, as a test sets it.
#[derive(Clone)]
pub struct Shunt(Arc<AtomicI64>);

impl Shunt {
    /// The voltage over it.
    pub fn becomes(&self, microvolts: i64) {
        self.0.store(microvolts, Relaxed);
    }
}

impl Adapter {
    pub fn new() -> Arc<Self> {
        let state =
            State { plugged: 1, is_there: true, fails: None, unacknowledged: EREMOTEIO, claimed: None, open: 0 };
        Arc::new(Self { bus: SimulatedBus::new(boot_micros), state: Mutex::new(state) })
    }

    /// Solders an INA219 onto the bus, with this many microvolts over its shunt.
    pub fn solder(&self, address: u8, microvolts: i64) -> Shunt {
        let shunt = Shunt(Arc::new(AtomicI64::new(microvolts)));
        let end = shunt.clone();
        self.bus.attach(address, move |_| Sensed { shunt_uv: end.0.load(Relaxed), bus_mv: 5_000 }).unwrap();
        shunt
    }

    pub fn set_fault(&self, address: u8, fault: Fault) {
        self.bus.set_fault(address, fault).unwrap();
    }

    pub fn brown_out(&self, address: u8) {
        self.bus.brown_out(address).unwrap();
    }

    /// Another program writes a register.
    pub fn meddle(&self, address: u8, register: u8, value: u16) {
        let [high, low] = value.to_be_bytes();
        self.bus.clone().write(address, &[register, high, low]).unwrap();
    }

    /// Each transfer ends with this, or works again.
    pub fn fail(&self, errno: Option<Errno>) {
        lock(&self.state).fails = errno;
    }

    /// How the adapter reports that nobody acknowledged: `EREMOTEIO` on a Raspberry Pi, `ENXIO` on most others.
    pub fn report_no_acknowledge_as(&self, errno: Errno) {
        lock(&self.state).unacknowledged = errno;
    }

    /// A driver in the kernel takes the address, or frees it.
    pub fn claim(&self, address: Option<u16>) {
        lock(&self.state).claimed = address;
    }

    /// As a USB adapter is pulled out: its device file is gone, and what had it open can do nothing with it any more.
    pub fn unplug(&self) {
        lock(&self.state).is_there = false;
    }

    pub fn plug_in(&self) {
        let mut state = lock(&self.state);
        if !state.is_there {
            (state.is_there, state.plugged) = (true, state.plugged + 1);
        }
    }

    /// How often the device file is open now.
    pub fn open_files(&self) -> u32 {
        lock(&self.state).open
    }

    pub fn open(self: &Arc<Self>) -> Result<Box<dyn OpenFile>, Errno> {
        let mut state = lock(&self.state);
        if !state.is_there {
            return Err(ENOENT);
        }
        state.open += 1;
        Ok(Box::new(Device { adapter: self.clone(), plugged: state.plugged }))
    }
}

/// One open `/dev/i2c-1`.
struct Device {
    adapter: Arc<Adapter>,
    plugged: u32,
}

impl Drop for Device {
    fn drop(&mut self) {
        lock(&self.adapter.state).open -= 1;
    }
}

impl OpenFile for Device {
    fn ioctl(&mut self, request: u64, argument: &[u8]) -> Answer {
        let adapter = self.adapter.clone();
        let state = lock(&adapter.state);
        match request {
            // Only this asks whether a driver has the address (i2c-dev, i2cdev_check_addr).
            I2C_SLAVE if Some(address(argument)) == state.claimed => Err(EBUSY),
            I2C_SLAVE if address(argument) > 0x7F => Err(EINVAL),
            I2C_SLAVE | I2C_PEC => Ok((0, Vec::new())),
            I2C_RDWR if !state.is_there || state.plugged != self.plugged => Err(ENODEV),
            I2C_RDWR => state.fails.map_or_else(|| self.transfer(state.unacknowledged, argument), Err),
            _ => Err(ENOTTY),
        }
    }
}

fn address(argument: &[u8]) -> u16 {
    u16::try_from(u64::from_ne_bytes(*argument.first_chunk().unwrap())).unwrap_or(u16::MAX)
}

struct Message<'a> {
    address: u16,
    reads: bool,
    length: usize,
    bytes: &'a [u8],
}

/// The messages as the library has lined them up.
fn messages(mut question: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = question.split_first_chunk::<6>() {
        let [address, flags, length] = [0, 2, 4].map(|at| u16::from_ne_bytes([head[at], head[at + 1]]));
        let reads = flags & I2C_M_RD != 0;
        let (bytes, rest) = rest.split_at(if reads { 0 } else { length.into() });
        messages.push(Message { address, reads, length: length.into(), bytes });
        question = rest;
    }
    messages
}

impl Device {
    fn transfer(&self, unacknowledged: Errno, question: &[u8]) -> Answer {
        let messages = messages(question);
        if messages.is_empty() || messages.len() > MOST_MESSAGES {
            return Err(EINVAL);
        }
        // i2c-bcm2835 can read once, at the end.
        if messages.iter().rev().skip(1).any(|message| message.reads) {
            return Err(EOPNOTSUPP);
        }
        let mut read = Vec::new();
        for message in &messages {
            let mut bytes = vec![0; if message.reads { message.length } else { 0 }];
            let address = u8::try_from(message.address).unwrap();
            let mut bus = self.adapter.bus.clone();
            let done = if message.reads { bus.read(address, &mut bytes) } else { bus.write(address, message.bytes) };
            done.map_err(|_| unacknowledged)?;
            read.extend(bytes);
        }
        Ok((i32::try_from(messages.len()).unwrap(), read))
    }
}
