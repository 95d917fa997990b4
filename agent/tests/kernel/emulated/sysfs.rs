//! `/sys/class/pwm` and `/sys/class/hwmon`: real files, which the kernel's own rules change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Answer, EACCES, EBUSY, EINVAL, ENODEV, ENOENT, Errno, OpenFile, lock};

/// How many channels the PWM chip has.
const CHANNELS: u32 = 2;
/// How long udev takes for each file of a new channel, and in which order it comes to them.
const UDEV_TIME: Duration = Duration::from_millis(30);
const UDEV_ORDER: [&str; 4] = ["duty_cycle", "enable", "polarity", "period"];

/// Everything below the folder that stands for `/`.
#[derive(Clone)]
pub struct Sysfs {
    root: PathBuf,
    /// One write or look after the other.
    turn: Arc<Mutex<()>>,
    /// When a channel was exported. udev takes a moment to give its files to a group, one after the other.
    exported: Arc<Mutex<Option<Instant>>>,
    /// What each write to a PWM channel ends with, if it does not work.
    broken: Arc<Mutex<Option<Errno>>>,
}

/// What a PWM channel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub period: u64,
    pub duty_cycle: u64,
    pub inversed: bool,
    pub enabled: bool,
}

impl Sysfs {
    pub fn mount(root: &Path) -> Self {
        let sysfs =
            Self { root: root.to_owned(), turn: Arc::default(), exported: Arc::default(), broken: Arc::default() };
        fs::create_dir_all(sysfs.chip()).unwrap();
        fs::create_dir_all(sysfs.real("/sys/class/hwmon")).unwrap();
        for (file, text) in [("export", ""), ("unexport", ""), ("npwm", "2\n")] {
            fs::write(sysfs.chip().join(file), text).unwrap();
        }
        sysfs
    }

    /// Takes the PWM chip away: its overlay is not loaded.
    pub fn remove_pwm(&self) {
        fs::remove_dir_all(self.chip()).unwrap();
    }

    /// What channel 0 does, if it is exported.
    pub fn channel(&self) -> Option<Channel> {
        let (folder, _turn) = (self.chip().join("pwm0"), lock(&self.turn));
        folder.exists().then(|| state(&folder))
    }

    /// Somebody else switches channel 0 off.
    pub fn switch_off(&self) {
        self.store(&self.chip().join("pwm0/enable"), "0").unwrap();
    }

    /// Each write to a channel ends with this, or works again.
    pub fn break_channels(&self, errno: Option<Errno>) {
        *lock(&self.broken) = errno;
    }

    /// A driver binds a sensor to `device`, whose attributes have these values.
    pub fn bind_sensor(&self, device: &str, attributes: &[(&str, &str)]) {
        let (sensor, device) = (self.sensor(), self.real("/sys/devices").join(device));
        fs::create_dir_all(&sensor).unwrap();
        fs::create_dir_all(&device).unwrap();
        std::os::unix::fs::symlink(device, sensor.join("device")).unwrap();
        self.sensor_shows(attributes);
    }

    pub fn sensor_shows(&self, attributes: &[(&str, &str)]) {
        for (file, value) in attributes {
            fs::write(self.sensor().join(file), format!("{value}\n")).unwrap();
        }
    }

    /// The driver lets go of it.
    pub fn unbind_sensor(&self) {
        fs::remove_dir_all(self.sensor()).unwrap();
    }

    fn sensor(&self) -> PathBuf {
        self.real("/sys/class/hwmon/hwmon3")
    }

    fn chip(&self) -> PathBuf {
        self.real("/sys/class/pwm/pwmchip0")
    }

    fn real(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn open(&self, path: &str) -> Result<Box<dyn OpenFile>, Errno> {
        let file = self.real(path);
        if !file.is_file() {
            return Err(ENOENT);
        }
        let of_a_channel = file.parent().is_some_and(|folder| folder.starts_with(self.chip().join("pwm0")));
        let place = UDEV_ORDER.iter().position(|name| path.ends_with(name)).unwrap_or(0);
        let is_roots = |at: Instant| at.elapsed() < UDEV_TIME * u32::try_from(place + 1).unwrap();
        if of_a_channel && lock(&self.exported).is_some_and(is_roots) {
            return Err(EACCES);
        }
        Ok(Box::new(Attribute { sysfs: self.clone(), file, read: 0 }))
    }

    /// What a write to a file does (drivers/pwm/sysfs.c, and what drivers/pwm/core.c checks for it).
    fn store(&self, file: &Path, text: &str) -> Result<(), Errno> {
        let _turn = lock(&self.turn);
        let (folder, name) = (file.parent().unwrap(), file.file_name().unwrap().to_str().unwrap());
        if folder == self.chip() {
            let channel: u32 = text.parse().map_err(|_| EINVAL)?;
            let made = folder.join(format!("pwm{channel}"));
            return match (name, made.exists()) {
                _ if channel >= CHANNELS => Err(ENODEV),
                ("export", true) => Err(EBUSY),
                ("export", false) => {
                    *lock(&self.exported) = Some(Instant::now());
                    fs::create_dir(&made).unwrap();
                    show(&made, &Channel { period: 0, duty_cycle: 0, inversed: false, enabled: false });
                    Ok(())
                }
                ("unexport", true) => {
                    fs::remove_dir_all(&made).unwrap();
                    Ok(())
                }
                ("unexport", false) => Err(ENODEV),
                _ => Err(EACCES),
            };
        }
        lock(&self.broken).map_or(Ok(()), Err)?;
        let before = state(folder);
        let mut channel = before.clone();
        let number = text.parse::<u64>().map_err(|_| EINVAL);
        match (name, text) {
            ("period", _) => channel.period = number?,
            ("duty_cycle", _) => channel.duty_cycle = number?,
            ("enable", "0" | "1") => channel.enabled = text == "1",
            // As the documentation has it; some drivers can.
            ("polarity", "normal" | "inversed") if before.enabled => return Err(EBUSY),
            ("polarity", "normal" | "inversed") => channel.inversed = text == "inversed",
            _ => return Err(EINVAL),
        }
        // Of each write, also one that switches a new channel off (pwm_apply_state of Linux before 6.11; later ones are
        // less strict).
        if channel.period == 0 || channel.duty_cycle > channel.period {
            return Err(EINVAL);
        }
        show(folder, &channel);
        Ok(())
    }
}

fn state(folder: &Path) -> Channel {
    let read = |file| fs::read_to_string(folder.join(file)).unwrap().trim().to_owned();
    Channel {
        period: read("period").parse().unwrap(),
        duty_cycle: read("duty_cycle").parse().unwrap(),
        inversed: read("polarity") == "inversed",
        enabled: read("enable") == "1",
    }
}

/// Each file is replaced: whoever reads meanwhile sees the old value or the new one.
fn show(folder: &Path, channel: &Channel) {
    let write = |file: &str, text: String| {
        fs::write(folder.join("new"), text + "\n").unwrap();
        fs::rename(folder.join("new"), folder.join(file)).unwrap();
    };
    write("period", channel.period.to_string());
    write("duty_cycle", channel.duty_cycle.to_string());
    write("polarity", if channel.inversed { "inversed" } else { "normal" }.to_owned());
    write("enable", u8::from(channel.enabled).to_string());
}

/// One open file.
struct Attribute {
    sysfs: Sysfs,
    file: PathBuf,
    read: usize,
}

impl OpenFile for Attribute {
    fn read(&mut self, most: usize) -> Answer {
        // An attribute whose device is gone meanwhile.
        let text = fs::read(&self.file).map_err(|_| ENODEV)?;
        let rest: Vec<u8> = text.into_iter().skip(self.read).take(most).collect();
        self.read += rest.len();
        Ok((i32::try_from(rest.len()).unwrap(), rest))
    }

    fn write(&mut self, bytes: &[u8]) -> Answer {
        if !self.file.exists() {
            return Err(ENODEV);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| EINVAL)?.trim_end();
        self.sysfs.store(&self.file, text)?;
        Ok((i32::try_from(bytes.len()).unwrap(), Vec::new()))
    }
}
