//! Single lines of a GPIO chip through the kernel's character device (Linux, Documentation/userspace-api/gpio).
//!
//! By the crate `gpiocdev`: it speaks the newer interface (uAPI v2), in which bias and active-low are the kernel's, and is
//! kept up. What `linux-embedded-hal` would bring (`gpio-cdev`) speaks only the older one, which kernels may leave out.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use gpiocdev::Request;
use gpiocdev::chip::Chip;
use gpiocdev::line::{Bias, Value};
use serde::{Deserialize, Serialize};

/// Who uses the line, as `gpioinfo` shows it.
const CONSUMER: &str = "grid-agent";
/// `EBUSY`.
const BUSY: i32 = 16;
/// `EINVAL`: the chip has no such line, or cannot do what is asked of it.
const INVALID: i32 = 22;

/// A line that can be switched.
pub trait Output: Send {
    /// Makes it active or not.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn set(&mut self, active: bool) -> Result<(), GpioError>;
}

/// A line that can be read.
pub trait Input: Send {
    /// Whether it is active.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn is_active(&mut self) -> Result<bool, GpioError>;
}

/// What holds an input that nobody drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// The line is pulled up: for a contact between line and ground.
    #[default]
    Up,
    /// The line is pulled down: for a contact between line and supply.
    Down,
    /// There is a resistor outside.
    None,
}

/// Why a GPIO line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpioError {
    /// There is no such chip.
    #[error(
        "there is no {}: name another `chip` of `gpiodetect` (a Raspberry Pi's pins are on /dev/gpiochip0, on a Pi 5 with an \
         older kernel on /dev/gpiochip4)", .0.display()
    )]
    NoChip(PathBuf),
    /// The device file belongs to somebody else.
    #[error(
        "{} may not be opened: add the agent's user to the group that owns it (on Raspberry Pi OS `sudo usermod -aG gpio \
         USER`) and log in again", .0.display()
    )]
    Forbidden(PathBuf),
    /// Somebody else has the line.
    #[error("line {line} of {} is busy: `gpioinfo` tells who uses it", chip.display())]
    Busy {
        /// The chip's device file.
        chip: PathBuf,
        /// The line.
        line: u32,
    },
    /// The chip has no such line, or it cannot do what is asked of it.
    #[error("line {line} of {} cannot be used so: `gpioinfo` lists the lines there are", chip.display())]
    NoLine {
        /// The chip's device file.
        chip: PathBuf,
        /// The line.
        line: u32,
    },
    /// Anything else.
    #[error("line {line} of {}: {why}", chip.display())]
    Failed {
        /// The chip's device file.
        chip: PathBuf,
        /// The line.
        line: u32,
        /// What the system said.
        why: String,
    },
}

/// A line of the character device.
pub struct Line {
    chip: PathBuf,
    line: u32,
    request: Request,
}

impl Line {
    /// Takes a line as output. It has its value from the first moment on.
    ///
    /// # Errors
    /// If it is not there, not ours or in use.
    pub fn output(chip: &Path, line: u32, active_low: bool, active: bool) -> Result<Self, GpioError> {
        Self::request(chip, line, active_low, |request| {
            request.as_output(value(active));
        })
    }

    /// Takes a line as input.
    ///
    /// # Errors
    /// If it is not there, not ours or in use.
    pub fn input(chip: &Path, line: u32, active_low: bool, pull: Pull) -> Result<Self, GpioError> {
        let bias = match pull {
            Pull::Up => Some(Bias::PullUp),
            Pull::Down => Some(Bias::PullDown),
            Pull::None => None,
        };
        Self::request(chip, line, active_low, |request| {
            request.as_input().with_bias(bias);
        })
    }

    fn request(
        chip: &Path,
        line: u32,
        active_low: bool,
        configure: impl FnOnce(&mut gpiocdev::request::Builder),
    ) -> Result<Self, GpioError> {
        may_be_opened(chip, line)?;
        let mut request = Request::builder();
        request.on_chip(chip).with_consumer(CONSUMER).with_line(line);
        configure(&mut request);
        if active_low {
            request.as_active_low();
        }
        let request = request.request().map_err(|error| explain(chip, line, &error))?;
        Ok(Self { chip: chip.to_owned(), line, request })
    }
}

impl Output for Line {
    fn set(&mut self, active: bool) -> Result<(), GpioError> {
        self.request.set_value(self.line, value(active)).map_err(|error| explain(&self.chip, self.line, &error))
    }
}

impl Input for Line {
    fn is_active(&mut self) -> Result<bool, GpioError> {
        let read = self.request.value(self.line).map_err(|error| explain(&self.chip, self.line, &error))?;
        Ok(read == Value::Active)
    }
}

/// Who uses a line, if anybody does. It is not taken.
///
/// # Errors
/// If it is not there or not ours.
pub fn user_of(chip: &Path, line: u32) -> Result<Option<String>, GpioError> {
    may_be_opened(chip, line)?;
    let info = Chip::from_path(chip).and_then(|chip| chip.line_info(line));
    let info = info.map_err(|error| explain(chip, line, &error))?;
    Ok(info.used.then_some(info.consumer))
}

/// Of a chip that cannot be opened the system's own words are clearer than the crate's.
fn may_be_opened(chip: &Path, line: u32) -> Result<(), GpioError> {
    let opened = OpenOptions::new().read(true).write(true).open(chip);
    opened.map(|_| ()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GpioError::NoChip(chip.to_owned()),
        io::ErrorKind::PermissionDenied => GpioError::Forbidden(chip.to_owned()),
        _ => GpioError::Failed { chip: chip.to_owned(), line, why: error.to_string() },
    })
}

fn value(active: bool) -> Value {
    if active { Value::Active } else { Value::Inactive }
}

fn explain(chip: &Path, line: u32, error: &gpiocdev::Error) -> GpioError {
    let chip = chip.to_owned();
    let said = |errno: i32| error.to_string().contains(&io::Error::from_raw_os_error(errno).to_string());
    match error {
        gpiocdev::Error::Uapi(..) if said(BUSY) => GpioError::Busy { chip, line },
        gpiocdev::Error::Uapi(..) if said(INVALID) => GpioError::NoLine { chip, line },
        error => GpioError::Failed { chip, line, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_is_missing_or_none_at_all_is_named() {
        let error = Line::output(Path::new("/dev/gpiochip99"), 17, false, false).err().unwrap().to_string();
        assert!(error.contains("/dev/gpiochip99") && error.contains("gpiodetect"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Line::input(file.path(), 17, false, Pull::Up).err().unwrap().to_string();
        assert!(error.contains("line 17") && error.contains("not a"), "{error}");
    }
}
