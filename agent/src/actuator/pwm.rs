//! The kernel's PWM through sysfs (Linux, Documentation/driver-api/pwm.rst).
//!
//! ```text
//! /sys/class/pwm/pwmchip0/export            a channel's number makes its folder
//!                        /pwm0/period       in nanoseconds, never below duty_cycle
//!                             /duty_cycle   in nanoseconds
//!                             /polarity     normal or inversed, only while it is off
//!                             /enable       0 or 1
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::guard::Hardware;
use super::{ActuatorError, pilot};

/// udev gives a new chip's files to the group `gpio`, and after `export` those of the channel, which takes a moment.
const UDEV_TIME: Duration = Duration::from_secs(2);
/// So long once it runs: nothing else can be set meanwhile, and it is tried again.
const UDEV_TIME_AGAIN: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The files of a channel.
const FILES: [&str; 4] = ["period", "duty_cycle", "polarity", "enable"];
/// Whether the channel still runs as it was set is looked at this often: anybody in its group may set it otherwise.
const LOOK_AFTER: Millis = Millis(500);
/// `ENODEV`, and `EINVAL`: the chip has no channel of that number.
const NO_SUCH_CHANNEL: [i32; 2] = [19, 22];

/// Which channel, and how it is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// `/sys/class/pwm`.
    pub sysfs: PathBuf,
    /// The number of its chip.
    pub chip: u32,
    /// Its number on the chip.
    pub channel: u32,
    /// The period in nanoseconds.
    pub period_ns: u64,
    /// Whether the output is turned over: low for the duty, high for the rest.
    pub inverted: bool,
}

/// What a duty stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// From 0 to 1000 ‰ of the period, as the limit is from 0 to this.
    Proportional(MilliAmps),
    /// As IEC 61851-1 has it.
    ControlPilot,
}

impl Signal {
    fn duty_ns(self, limit: MilliAmps, period_ns: u64) -> u64 {
        match self {
            Self::Proportional(full) => {
                let limit = limit.max(MilliAmps::ZERO).min(full);
                let per_mille = limit.0.saturating_mul(1000) / full.0.max(1);
                u64::try_from(per_mille).unwrap_or(0) * period_ns / 1000
            }
            Self::ControlPilot => pilot::duty_ns(limit),
        }
    }
}

/// Why a PWM channel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PwmError {
    /// The kernel knows no such chip.
    #[error(
        "there is no {}: enable PWM (on a Raspberry Pi `dtoverlay=pwm` in /boot/firmware/config.txt, then restart), or name \
         another `chip` of `ls /sys/class/pwm`", .0.display()
    )]
    NoChip(PathBuf),
    /// The chip has no such channel.
    #[error("{} has no channel {channel}: `cat {}/npwm` tells how many it has, counted from 0", chip.display(), chip.display())]
    NoChannel {
        /// The chip's folder.
        chip: PathBuf,
        /// The number that was asked for.
        channel: u32,
    },
    /// The files belong to somebody else.
    #[error(
        "{} may not be written: add the agent's user to the group that owns it (on Raspberry Pi OS `sudo usermod -aG gpio \
         USER`) and log in again", .0.display()
    )]
    Forbidden(PathBuf),
    /// Another driver has it.
    #[error("{} is busy: something else in the kernel uses the channel (another overlay, audio, a backlight)", .0.display())]
    Busy(PathBuf),
    /// The channel's files do not come.
    #[error("{} did not appear within {} ms after `export`", file.display(), waited.as_millis())]
    NotExported {
        /// The first that is missing.
        file: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Somebody gave the channel back, switched it off or set it otherwise.
    #[error(
        "{} did not run as it was set ({found}) and was taken again: find out what else uses the channel", folder.display()
    )]
    TakenAway {
        /// The channel's folder.
        folder: PathBuf,
        /// What its files said.
        found: String,
    },
    /// Anything else.
    #[error("{} does not take {value:?}: {source}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// What the system said.
        source: io::Error,
    },
}

impl From<PwmError> for ActuatorError {
    fn from(error: PwmError) -> Self {
        Self(error.to_string())
    }
}

/// One channel in use.
#[derive(Debug)]
pub struct Pwm {
    config: Channel,
    signal: Signal,
    chip: PathBuf,
    folder: PathBuf,
    /// What was written last.
    duty_ns: u64,
}

impl Pwm {
    /// Takes the channel and sets it to `safe`. One that runs already as it should is not interrupted.
    ///
    /// # Errors
    /// If it is not there, not ours or refuses.
    pub fn open(config: Channel, signal: Signal, safe: MilliAmps) -> Result<Self, PwmError> {
        let chip = config.sysfs.join(format!("pwmchip{}", config.chip));
        let folder = chip.join(format!("pwm{}", config.channel));
        let duty_ns = signal.duty_ns(safe, config.period_ns);
        let pwm = Self { config, signal, chip, folder, duty_ns };
        pwm.take(UDEV_TIME)?;
        Ok(pwm)
    }

    /// Takes the channel, for whose files it waits so long, and sets it.
    fn take(&self, patience: Duration) -> Result<(), PwmError> {
        if !self.chip.exists() {
            return Err(PwmError::NoChip(self.chip.clone()));
        }
        let until = Instant::now() + patience;
        if !self.folder.exists() {
            wait_for_udev(&self.chip.join("export"), until)?;
            export(&self.chip, self.config.channel)?;
        }
        // Its rule gives them away one after the other.
        for file in FILES {
            wait_for_udev(&self.folder.join(file), until).map_err(|error| match error {
                PwmError::Refused { file, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    PwmError::NotExported { file, waited: patience }
                }
                other => other,
            })?;
        }
        if !self.runs_as_it_should() {
            // A channel that was never used has no period, and takes nothing else before it has one (Linux before 6.11).
            if self.read("period").as_deref() != Some("0") {
                self.write("enable", "0")?;
                // A period below the old duty would be refused, and so would a duty above the old period.
                self.write("duty_cycle", "0")?;
            }
            self.write("period", &self.config.period_ns.to_string())?;
            // Not every driver knows the other polarity, and some refuse even the one they have.
            if self.read("polarity").as_deref() != Some(self.polarity()) {
                self.write("polarity", self.polarity())?;
            }
        }
        self.write("duty_cycle", &self.duty_ns.to_string())?;
        self.write("enable", "1")
    }

    /// Takes the channel again if it does not run as it should, or not with this duty, which is a failure even if it succeeds:
    /// for a while it said something else than what was set.
    fn check(&self, duty_ns: u64) -> Result<(), PwmError> {
        if self.runs_as_it_should() && self.read("duty_cycle") == Some(duty_ns.to_string()) {
            return Ok(());
        }
        let says = |file| format!("{file} {}", self.read(file).unwrap_or_else(|| "not there".to_owned()));
        let found = ["enable", "period", "polarity", "duty_cycle"].map(says).join(", ");
        self.take(UDEV_TIME_AGAIN)?;
        Err(PwmError::TakenAway { folder: self.folder.clone(), found })
    }

    fn polarity(&self) -> &'static str {
        if self.config.inverted { "inversed" } else { "normal" }
    }

    fn runs_as_it_should(&self) -> bool {
        let is = |file, wanted: &str| self.read(file).as_deref() == Some(wanted);
        is("enable", "1") && is("period", &self.config.period_ns.to_string()) && is("polarity", self.polarity())
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok().map(|text| text.trim().to_owned())
    }

    fn write(&self, file: &str, value: &str) -> Result<(), PwmError> {
        write(&self.folder.join(file), value)
    }
}

impl Hardware for Pwm {
    fn apply(&mut self, limit: MilliAmps, _now: BootTime) -> Result<(), ActuatorError> {
        let before = std::mem::replace(&mut self.duty_ns, self.signal.duty_ns(limit, self.config.period_ns));
        self.check(before)?;
        Ok(self.write("duty_cycle", &self.duty_ns.to_string())?)
    }

    fn attend(&mut self, now: BootTime) -> Result<Option<BootTime>, ActuatorError> {
        self.check(self.duty_ns)?;
        Ok(Some(now + LOOK_AFTER))
    }
}

impl Drop for Pwm {
    /// Gives the channel back, if it is silent anyway: what a pin does without its channel is the driver's business, so a
    /// safe state that needs the channel keeps it.
    fn drop(&mut self) {
        if self.duty_ns > 0 || self.config.inverted {
            return;
        }
        let given_back = self.write("enable", "0");
        let given_back = given_back.and_then(|()| write(&self.chip.join("unexport"), &self.config.channel.to_string()));
        if let Err(error) = given_back {
            tracing::warn!(%error, "the PWM channel could not be given back");
        }
    }
}

/// The file that is written first: of the channel, or that which makes it. Nothing is changed.
///
/// # Errors
/// If there is no such channel.
pub fn way_in(sysfs: &Path, chip: u32, channel: u32) -> Result<PathBuf, PwmError> {
    let chip = sysfs.join(format!("pwmchip{chip}"));
    if !chip.exists() {
        return Err(PwmError::NoChip(chip));
    }
    let channels = fs::read_to_string(chip.join("npwm")).ok().and_then(|count| count.trim().parse::<u32>().ok());
    if channels.is_some_and(|count| channel >= count) {
        return Err(PwmError::NoChannel { chip, channel });
    }
    let enable = chip.join(format!("pwm{channel}")).join("enable");
    Ok(if enable.exists() { enable } else { chip.join("export") })
}

fn export(chip: &Path, channel: u32) -> Result<(), PwmError> {
    write(&chip.join("export"), &channel.to_string()).map_err(|error| match error {
        PwmError::Refused { source, .. } if source.raw_os_error().is_some_and(|no| NO_SUCH_CHANNEL.contains(&no)) => {
            PwmError::NoChannel { chip: chip.to_owned(), channel }
        }
        other => other,
    })
}

/// Until the file may be written.
fn wait_for_udev(file: &Path, until: Instant) -> Result<(), PwmError> {
    loop {
        match OpenOptions::new().write(true).open(file) {
            Ok(_) => return Ok(()),
            Err(error) => {
                let may_come = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
                if !may_come || Instant::now() >= until {
                    return Err(refused(file, "", error));
                }
                thread::sleep(LOOK_EVERY);
            }
        }
    }
}

fn write(file: &Path, value: &str) -> Result<(), PwmError> {
    // Not created: a file that sysfs does not have is a fault.
    let opened = OpenOptions::new().write(true).truncate(true).open(file);
    opened.and_then(|mut open| open.write_all(value.as_bytes())).map_err(|error| refused(file, value, error))
}

fn refused(file: &Path, value: &str, source: io::Error) -> PwmError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => PwmError::Forbidden(file.to_owned()),
        io::ErrorKind::ResourceBusy => PwmError::Busy(file.to_owned()),
        _ => PwmError::Refused { file: file.to_owned(), value: value.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::super::pwm_tree::{Tree, make_channel};
    use super::*;

    fn channel(tree: &Tree, inverted: bool, period_ns: u64) -> Channel {
        Channel { sysfs: tree.root().to_owned(), chip: 0, channel: 0, period_ns, inverted }
    }

    /// Does what the kernel and udev do when the channel is exported.
    fn exports_once(tree: &Tree) -> thread::JoinHandle<()> {
        let chip = tree.chip();
        thread::spawn(move || {
            while fs::read_to_string(chip.join("export")).unwrap() != "0" {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(50));
            make_channel(&chip);
        })
    }

    const LAMP: Signal = Signal::Proportional(MilliAmps(16_000));

    #[test]
    fn a_lamp_is_as_bright_as_the_limit_and_its_channel_is_given_back_when_it_is_dark() {
        let tree = Tree::new(true);
        let mut lamp = Pwm::open(channel(&tree, false, 20_000), LAMP, MilliAmps(4_000)).unwrap();
        assert_eq!(tree.says(), ["20000", "5000", "normal", "1"]);
        for (limit, duty) in [(16_000, "20000"), (99_000, "20000"), (8_000, "10000"), (5, "0"), (-5, "0")] {
            lamp.apply(MilliAmps(limit), BootTime(0)).unwrap();
            assert_eq!(tree.says()[1], duty, "{limit}");
        }
        drop(lamp);
        assert_eq!(tree.says()[3], "0");
        assert_eq!(fs::read_to_string(tree.chip().join("unexport")).unwrap(), "0");
    }

    #[test]
    fn a_channel_is_exported_and_waited_for() {
        let tree = Tree::new(false);
        let kernel = exports_once(&tree);
        let pilot = Pwm::open(channel(&tree, true, pilot::PERIOD_NS), Signal::ControlPilot, MilliAmps(0)).unwrap();
        kernel.join().unwrap();
        assert_eq!(tree.says(), ["1000000", "1000000", "inversed", "1"]);
        drop(pilot);
        assert_eq!(tree.says()[3], "1", "the car must go on seeing that it may not charge");
        assert_eq!(fs::read_to_string(tree.chip().join("unexport")).unwrap(), "");
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let tree = Tree::new(false);
        let mut elsewhere = channel(&tree, false, 20_000);
        elsewhere.chip = 3;
        let error = Pwm::open(elsewhere, LAMP, MilliAmps(0)).unwrap_err().to_string();
        assert!(error.contains("pwmchip3") && error.contains("dtoverlay=pwm"), "{error}");
        let error = Pwm::open(channel(&tree, false, 20_000), LAMP, MilliAmps(0)).unwrap_err().to_string();
        assert!(error.contains("did not appear"), "{error}");
    }

    #[test]
    fn each_errno_has_its_own_words() {
        let file = Path::new("/sys/class/pwm/pwmchip0/export");
        for (errno, words) in [(13, "usermod -aG gpio"), (16, "busy"), (5, "does not take")] {
            let said = refused(file, "0", io::Error::from_raw_os_error(errno)).to_string();
            assert!(said.contains(words) && said.contains("pwmchip0/export"), "{said}");
        }
    }

    #[test]
    fn a_file_that_is_gone_is_an_error_and_is_not_made() {
        let tree = Tree::new(true);
        let mut lamp = Pwm::open(channel(&tree, false, 20_000), LAMP, MilliAmps(0)).unwrap();
        let file = tree.chip().join("pwm0/enable");
        fs::remove_file(&file).unwrap();
        assert!(lamp.apply(MilliAmps(8_000), BootTime(0)).unwrap_err().0.contains("pwm0/enable"));
        assert!(!file.exists());
    }

    #[test]
    fn a_channel_that_is_set_otherwise_is_taken_again_and_told_of() {
        let tree = Tree::new(true);
        let mut lamp = Pwm::open(channel(&tree, false, 20_000), LAMP, MilliAmps(4_000)).unwrap();
        assert_eq!(lamp.attend(BootTime(0)), Ok(Some(BootTime(500))));
        for (file, value) in [("enable", "0"), ("period", "10000"), ("polarity", "inversed"), ("duty_cycle", "0")] {
            fs::write(tree.chip().join("pwm0").join(file), value).unwrap();
            let error = lamp.attend(BootTime(500)).unwrap_err().0;
            assert!(error.contains(&format!("{file} {value}")) && error.contains("taken again"), "{error}");
            assert_eq!(tree.says(), ["20000", "5000", "normal", "1"], "{file}");
            lamp.attend(BootTime(600)).unwrap();
        }
        // What is ordered meanwhile is set all the same.
        fs::write(tree.chip().join("pwm0/enable"), "0").unwrap();
        assert!(lamp.apply(MilliAmps(8_000), BootTime(700)).unwrap_err().0.contains("enable 0"));
        assert_eq!(tree.says(), ["20000", "10000", "normal", "1"]);
        lamp.apply(MilliAmps(8_000), BootTime(800)).unwrap();
    }

    #[test]
    fn a_channel_that_somebody_gave_back_is_exported_again() {
        let tree = Tree::new(true);
        let mut lamp = Pwm::open(channel(&tree, false, 20_000), LAMP, MilliAmps(4_000)).unwrap();
        fs::remove_dir_all(tree.chip().join("pwm0")).unwrap();
        let kernel = exports_once(&tree);
        let error = lamp.attend(BootTime(500)).unwrap_err().0;
        kernel.join().unwrap();
        assert!(error.contains("enable not there") && error.contains("taken again"), "{error}");
        assert_eq!(tree.says(), ["20000", "5000", "normal", "1"]);
    }
}
