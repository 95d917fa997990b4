//! `/dev/gpiochip0` by the second version of its interface (linux/gpio.h, `GPIO_V2_…`), one line a request.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{Answer, EBUSY, EINVAL, ENODEV, ENOTTY, Errno, OpenFile, lock};

const GET_LINE: u64 = 0xC250_B407;
const GET_VALUES: u64 = 0xC010_B40E;
const SET_VALUES: u64 = 0xC010_B40F;

// `struct gpio_v2_line_request`.
const OFFSET_AT: usize = 0;
const FLAGS_AT: usize = 288;
const ATTRIBUTES_AT: usize = 296;
const FIRST_ATTRIBUTE_AT: usize = 320;
const LINES_AT: usize = 560;
const DESCRIPTOR_AT: usize = 588;

const ACTIVE_LOW: u64 = 1 << 1;
const INPUT: u64 = 1 << 2;
const OUTPUT: u64 = 1 << 3;
const PULL_UP: u64 = 1 << 8;
const PULL_DOWN: u64 = 1 << 9;
/// `GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES`.
const OUTPUT_VALUES: u32 = 2;

pub struct GpioChip {
    lines: Mutex<Vec<Line>>,
    gone: Mutex<bool>,
    /// Counts how often its driver was unbound. A line that was requested before is worth nothing.
    unbound: AtomicU32,
}

#[derive(Clone, Default)]
struct Line {
    taken: bool,
    /// As requested last.
    flags: u64,
    /// What the chip drives it to, while it is an output and afterwards.
    driven: bool,
    /// What somebody outside connects it to.
    held: Option<bool>,
}

impl Line {
    fn is_high(&self) -> bool {
        if self.flags & OUTPUT != 0 {
            return self.driven;
        }
        // An input that nobody holds and nothing pulls floats; here it is low.
        self.held.unwrap_or(self.flags & PULL_UP != 0 && self.flags & PULL_DOWN == 0)
    }
}

impl GpioChip {
    pub fn new(lines: usize) -> Arc<Self> {
        Arc::new(Self {
            lines: Mutex::new(vec![Line::default(); lines]),
            gone: Mutex::new(false),
            unbound: AtomicU32::new(0),
        })
    }

    /// Whether the pin has the supply's voltage.
    pub fn is_high(&self, line: usize) -> bool {
        lock(&self.lines)[line].is_high()
    }

    /// Whether somebody has requested it.
    pub fn is_taken(&self, line: usize) -> bool {
        lock(&self.lines)[line].taken
    }

    /// Another driver takes a line, or gives it back.
    pub fn take(&self, line: usize, taken: bool) {
        lock(&self.lines)[line].taken = taken;
    }

    /// A contact connects a pin to the supply or to ground, or opens.
    pub fn hold(&self, line: usize, high: Option<bool>) {
        lock(&self.lines)[line].held = high;
    }

    /// The chip's driver is unbound, or bound again.
    pub fn is_gone(&self, gone: bool) {
        if gone {
            self.unbound.fetch_add(1, Relaxed);
            lock(&self.lines).iter_mut().for_each(|line| (line.taken, line.flags) = (false, 0));
        }
        *lock(&self.gone) = gone;
    }

    pub fn open(self: &Arc<Self>) -> Box<dyn OpenFile> {
        Box::new(Chip(self.clone()))
    }

    /// The line that a request gave away.
    pub fn line(self: &Arc<Self>, line: usize) -> Box<dyn OpenFile> {
        Box::new(Request { chip: self.clone(), line, unbound: self.unbound.load(Relaxed) })
    }

    fn check(&self) -> Result<(), Errno> {
        if *lock(&self.gone) { Err(ENODEV) } else { Ok(()) }
    }

    /// Gives a line away, whose number then stands where the kernel would put a descriptor.
    fn request(&self, asked: &[u8]) -> Answer {
        let [line, lines] = [OFFSET_AT, LINES_AT].map(|at| number(asked, at));
        let flags = long(asked, FLAGS_AT);
        let offset = usize::try_from(line).unwrap();
        let mut all = lock(&self.lines);
        let found = all.get_mut(offset).filter(|_| lines == 1 && (flags & INPUT != 0) != (flags & OUTPUT != 0));
        let found = found.ok_or(EINVAL)?;
        if found.taken {
            return Err(EBUSY);
        }
        (found.taken, found.flags) = (true, flags);
        if flags & OUTPUT != 0 {
            let has_value = number(asked, ATTRIBUTES_AT) > 0 && number(asked, FIRST_ATTRIBUTE_AT) == OUTPUT_VALUES;
            let active = has_value && long(asked, FIRST_ATTRIBUTE_AT + 8) & 1 != 0;
            found.driven = active != (flags & ACTIVE_LOW != 0);
        }
        let mut answer = asked.to_vec();
        answer[DESCRIPTOR_AT..].copy_from_slice(&line.to_ne_bytes());
        Ok((0, answer))
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap())
}

/// One open `/dev/gpiochip0`.
struct Chip(Arc<GpioChip>);

impl OpenFile for Chip {
    fn ioctl(&mut self, request: u64, argument: &[u8]) -> Answer {
        self.0.check()?;
        if request == GET_LINE { self.0.request(argument) } else { Err(ENOTTY) }
    }
}

/// One line that somebody has.
struct Request {
    chip: Arc<GpioChip>,
    line: usize,
    /// How often the driver was unbound before.
    unbound: u32,
}

impl Request {
    fn is_void(&self) -> bool {
        self.unbound != self.chip.unbound.load(Relaxed)
    }
}

impl OpenFile for Request {
    /// The argument is `struct gpio_v2_line_values`: bits and mask, one bit a line of the request.
    fn ioctl(&mut self, request: u64, argument: &[u8]) -> Answer {
        self.chip.check()?;
        if self.is_void() {
            return Err(ENODEV);
        }
        let mut lines = lock(&self.chip.lines);
        let line = &mut lines[self.line];
        let active_low = line.flags & ACTIVE_LOW != 0;
        let mut answer = argument.to_vec();
        match request {
            GET_VALUES => answer[..8].copy_from_slice(&u64::from(line.is_high() != active_low).to_ne_bytes()),
            SET_VALUES if line.flags & OUTPUT == 0 => return Err(Errno(1)),
            SET_VALUES => line.driven = (long(argument, 0) & 1 != 0) != active_low,
            _ => return Err(ENOTTY),
        }
        Ok((0, answer))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_void() {
            lock(&self.chip.lines)[self.line].taken = false;
        }
    }
}
