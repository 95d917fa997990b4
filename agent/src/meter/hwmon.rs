//! Sensors that a driver of Linux reads, by their files below `/sys/class/hwmon`.
//!
//! The driver `ina2xx` serves the INA219 and its relatives (Linux, Documentation/hwmon/ina2xx.rst): `curr1_input` is the
//! current in mA over the shunt that the driver was told of (`shunt_resistor`), `in0_input` the voltage over the shunt and
//! `in1_input` that of the bus in mV, `update_interval` in ms is how long a conversion takes. The driver tells neither when
//! a value was converted nor whether it is new. So a value is taken once in each interval, and counts as one interval old.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use grid_service::clock::boot_micros;
use serde::{Deserialize, Serialize};

use super::{Meter, MeterError, PhaseReading, Reading};

/// Where Linux shows its sensors.
pub const SYSFS: &str = "/sys/class/hwmon";
/// A value is not taken more often than this: each takes some transfers of the driver.
const LEAST_INTERVAL_US: u64 = 20_000;
/// From here on a shunt voltage, in whole millivolts, is no rounding and no offset of the chip.
const CERTAIN_SHUNT_MV: i64 = 3;
/// So many intervals may pass before a reading is there, on a busy machine …
const EXPECTED_INTERVALS: u64 = 3;
/// … and so much time in any case.
const LEAST_EXPECTED: Millis = Millis(167);

/// One sensor of Linux, measuring one phase.
///
/// ```toml
/// [[meter.hwmon]]
/// chip = "ina219"
/// device = "1-0040"
/// scale = 100
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HwmonConfig {
    /// What the sensor's file `name` holds. Default: `ina219`.
    pub chip: String,
    /// The device that the driver is bound to, as bus and address: `1-0040` is 0x40 on `/dev/i2c-1`. Default: none, which
    /// will do where there is only one such chip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The sensor's folder, instead of searching by `chip` and `device`: mind that Linux counts `hwmonN` anew at each
    /// start. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The most that the sensor shows, in its own milliamps: what the driver's shunt leaves of the chip's range. Default:
    /// 3200, an INA219 with 100 mΩ.
    pub most_ma: u32,
    /// How many grid milliamps one of the sensor's milliamps stands for. Default: 100. With `most_ma` it must cover 1.5
    /// times the limit that is to be kept.
    pub scale: u32,
    /// The shunt is wired the wrong way round: turn the sign. Default: false.
    pub invert: bool,
    /// Added to the current after scale and sign, in grid milliamps. Default: 0.
    pub offset_ma: i64,
    /// The voltage that is reported, in millivolts, while no `voltage_scale` is set. Default: 230000.
    pub nominal_mv: i64,
    /// How many grid millivolts one millivolt of the sensor stands for. Default: none, so that `nominal_mv` is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voltage_scale: Option<u32>,
}

impl Default for HwmonConfig {
    fn default() -> Self {
        Self {
            chip: "ina219".to_owned(),
            device: None,
            path: None,
            most_ma: 3_200,
            scale: 100,
            invert: false,
            offset_ma: 0,
            nominal_mv: 230_000,
            voltage_scale: None,
        }
    }
}

impl HwmonConfig {
    /// What is wrong with the values, for a limit that is to be kept.
    pub(super) fn problems(&self, limit: Option<MilliAmps>) -> Vec<String> {
        let named = self.wanted();
        let numbers = [
            ("scale", i64::from(self.scale)),
            ("most_ma", i64::from(self.most_ma)),
            ("nominal_mv", self.nominal_mv),
            ("voltage_scale", self.voltage_scale.map_or(1, i64::from)),
        ];
        let not_positive = numbers.into_iter().filter(|(_, value)| *value < 1);
        let mut problems: Vec<String> =
            not_positive.map(|(key, value)| format!("{key} of {named} is {value}: it must be at least 1")).collect();
        let covers = i64::from(self.most_ma) * i64::from(self.scale);
        if let Some(limit) = limit.filter(|limit| problems.is_empty() && covers < limit.0.saturating_mul(3) / 2) {
            let (most, scale) = (self.most_ma, self.scale);
            problems.push(format!(
                "most_ma = {most} times scale = {scale} of {named} covers {covers} mA, but 1.5 times the limit of {limit} is \
                 {}",
                MilliAmps(limit.0.saturating_mul(3) / 2)
            ));
        }
        problems
    }

    fn wanted(&self) -> String {
        match (&self.path, &self.device) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(device)) => format!("{:?} at {device}", self.chip),
            (None, None) => format!("{:?}", self.chip),
        }
    }

    /// The folder of the sensor that is meant.
    fn find(&self, root: &Path) -> Result<PathBuf, MeterError> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let mut fitting = Vec::new();
        let mut others = Vec::new();
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let Ok(name) = fs::read_to_string(entry.path().join("name")) else { continue };
            let device = device_of(&entry.path());
            if name.trim() == self.chip && self.device.as_ref().is_none_or(|wanted| *wanted == device) {
                fitting.push(entry.path());
            } else {
                others.push(format!("{:?} at {device}", name.trim()));
            }
        }
        others.sort();
        match (fitting.pop(), fitting.len()) {
            (Some(found), 0) => Ok(found),
            (Some(_), more) => Err(MeterError::HwmonAmbiguous { wanted: self.wanted(), count: more + 1 }),
            (None, _) => Err(MeterError::HwmonMissing {
                folder: root.display().to_string(),
                wanted: self.wanted(),
                found: if others.is_empty() { "none at all".to_owned() } else { others.join(", ") },
            }),
        }
    }

    fn reading(&self, folder: &Path) -> Result<PhaseReading, MeterError> {
        let current = number(&folder.join("curr1_input"))?;
        let shunt = folder.join("in0_input");
        if current == 0 && shunt.exists() {
            let shunt_mv = number(&shunt)?;
            if shunt_mv.abs() >= CERTAIN_SHUNT_MV {
                let (folder, device) = (folder.display().to_string(), device_of(folder));
                return Err(MeterError::HwmonUncalibrated { folder, device, shunt_mv });
            }
        }
        let scaled = current.saturating_mul(i64::from(self.scale));
        let scaled = if self.invert { -scaled } else { scaled };
        let voltage = match self.voltage_scale {
            Some(scale) => number(&folder.join("in1_input"))?.saturating_mul(i64::from(scale)),
            None => self.nominal_mv,
        };
        Ok(PhaseReading {
            current: MilliAmps(scaled.saturating_add(self.offset_ma)),
            voltage: MilliVolts(voltage),
            saturated: current.saturating_abs().saturating_mul(100) >= i64::from(self.most_ma) * 99,
        })
    }
}

/// The device that a sensor's driver is bound to, as the kernel names it; nothing, if that cannot be told.
fn device_of(folder: &Path) -> String {
    let device = fs::canonicalize(folder.join("device")).unwrap_or_default();
    device.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The whole number in an attribute's file.
fn number(file: &Path) -> Result<i64, MeterError> {
    let name = || file.display().to_string();
    let text = fs::read_to_string(file)
        .map_err(|error| MeterError::HwmonUnreadable { file: name(), detail: reason(&error) })?;
    text.trim().parse().map_err(|_| MeterError::HwmonNonsense { file: name(), value: text.chars().take(64).collect() })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the sensor has no such file, or the driver let go of it".to_owned(),
        _ => error.to_string(),
    }
}

/// A meter of one to three sensors of Linux.
///
/// At the start and after a failure they are searched for: a driver may come later, or let go of a chip and take it up again.
pub struct HwmonMeter {
    root: PathBuf,
    configs: Vec<HwmonConfig>,
    /// Empty at the start and after a failure.
    folders: Vec<PathBuf>,
    interval_us: u64,
    read_at: u64,
}

impl HwmonMeter {
    /// A meter of sensors below `root`, which is [`SYSFS`] but in tests. The first poll looks for them.
    pub fn new(root: &Path, configs: Vec<HwmonConfig>) -> Self {
        Self { root: root.to_owned(), configs, folders: Vec::new(), interval_us: LEAST_INTERVAL_US, read_at: 0 }
    }

    fn find(&mut self) -> Result<(), MeterError> {
        let folders: Vec<PathBuf> =
            self.configs.iter().map(|config| config.find(&self.root)).collect::<Result<_, _>>()?;
        let interval = |folder: &PathBuf| match folder.join("update_interval") {
            file if file.exists() => number(&file),
            _ => Ok(0),
        };
        let intervals: Vec<i64> = folders.iter().map(interval).collect::<Result<_, _>>()?;
        let slowest = intervals.into_iter().max().and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default();
        self.interval_us = slowest.saturating_mul(1000).max(LEAST_INTERVAL_US);
        self.folders = folders;
        Ok(())
    }

    fn read_all(&self) -> Result<Vec<PhaseReading>, MeterError> {
        self.configs.iter().zip(&self.folders).map(|(config, folder)| config.reading(folder)).collect()
    }
}

impl Meter for HwmonMeter {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        if self.folders.is_empty() {
            self.find()?;
        }
        let now = boot_micros();
        if now.saturating_sub(self.read_at) < self.interval_us {
            return Ok(None);
        }
        match self.read_all() {
            Ok(phases) => {
                self.read_at = now;
                Ok(Some(Reading { taken_us: now.saturating_sub(self.interval_us), phases }))
            }
            Err(error) => {
                self.folders.clear();
                Err(error)
            }
        }
    }

    fn phases(&self) -> usize {
        self.configs.len()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_micros(self.interval_us)
    }

    fn expected_interval(&self) -> Millis {
        Millis(self.interval_us * EXPECTED_INTERVALS / 1000).max(LEAST_EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree as the kernel shows it: sensors are links to their devices' folders.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn with(sensors: &[(&str, &str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (place, (name, device, current)) in sensors.iter().enumerate() {
                tree.add(place, name, device, current);
            }
            tree
        }

        fn add(&self, place: usize, name: &str, device: &str, current: &str) {
            let device = self.0.path().join("devices").join(device);
            let folder = self.root().join(format!("hwmon{place}"));
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(&folder).unwrap();
            symlink(device, folder.join("device")).unwrap();
            for (file, value) in
                [("name", name), ("curr1_input", current), ("in1_input", "5012"), ("update_interval", "2")]
            {
                fs::write(folder.join(file), format!("{value}\n")).unwrap();
            }
        }

        fn root(&self) -> PathBuf {
            self.0.path().join("hwmon")
        }

        fn open(&self, configs: &[HwmonConfig]) -> Result<HwmonMeter, MeterError> {
            let mut meter = HwmonMeter::new(&self.root(), configs.to_vec());
            meter.poll().map(|_| meter)
        }

        fn set(&self, place: usize, current: &str) {
            fs::write(self.root().join(format!("hwmon{place}/curr1_input")), format!("{current}\n")).unwrap();
        }
    }

    fn at(device: &str) -> HwmonConfig {
        HwmonConfig { device: Some(device.to_owned()), ..HwmonConfig::default() }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn sensors_are_found_by_name_and_device_and_give_scaled_readings() {
        let tree =
            Tree::with(&[("cpu_thermal", "thermal", "0"), ("ina219", "1-0041", "-200"), ("ina219", "1-0040", "160")]);
        let inverted = HwmonConfig { invert: true, offset_ma: 5, voltage_scale: Some(46), ..at("1-0041") };
        let mut meter = tree.open(&[at("1-0040"), inverted]).unwrap();
        let reading = meter.read(PATIENCE).unwrap();
        assert_eq!(reading.currents(), [MilliAmps(16_000), MilliAmps(20_005)]);
        assert_eq!(reading.voltages(), [MilliVolts(230_000), MilliVolts(230_552)]);
        assert!(!reading.is_saturated() && reading.taken_us < boot_micros());
        tree.set(2, "3170");
        assert!(meter.read(PATIENCE).unwrap().phases[0].saturated);
    }

    #[test]
    fn a_sensor_can_be_named_by_its_folder() {
        let tree = Tree::with(&[("ina226", "1-0040", "1")]);
        let path = Some(tree.root().join("hwmon0"));
        let mut meter = tree.open(&[HwmonConfig { path, ..HwmonConfig::default() }]).unwrap();
        assert_eq!(meter.read(PATIENCE).unwrap().currents(), [MilliAmps(100)]);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let tree = Tree::with(&[("ina219", "1-0041", "0"), ("ina219", "1-0044", "0")]);
        let error = |config: HwmonConfig| tree.open(&[config]).err().unwrap().to_string();
        let missing = error(at("1-0040"));
        for named in ["\"ina219\" at 1-0040", "\"ina219\" at 1-0041", "modprobe ina2xx"] {
            assert!(missing.contains(named), "{missing}");
        }
        let ambiguous = error(HwmonConfig::default());
        assert!(ambiguous.contains("2 sensors fit") && ambiguous.contains("device"), "{ambiguous}");
    }

    #[test]
    fn a_sensor_that_goes_and_comes_back_under_another_number_is_read_on() {
        let tree = Tree::with(&[("ina219", "1-0040", "10")]);
        let mut meter = tree.open(&[at("1-0040")]).unwrap();
        fs::remove_dir_all(tree.root().join("hwmon0")).unwrap();
        assert!(matches!(meter.read(PATIENCE), Err(MeterError::HwmonUnreadable { .. })));
        assert!(matches!(meter.read(PATIENCE), Err(MeterError::HwmonMissing { .. })));
        tree.add(3, "ina219", "1-0040", "20");
        assert_eq!(meter.read(PATIENCE).unwrap().currents(), [MilliAmps(2_000)]);
    }

    #[test]
    fn a_sensor_that_comes_later_is_found_and_tells_how_often_it_reads() {
        let tree = Tree::with(&[]);
        let mut meter = HwmonMeter::new(&tree.root(), vec![at("1-0040")]);
        assert!(matches!(meter.read(PATIENCE), Err(MeterError::HwmonMissing { .. })));
        assert_eq!(meter.expected_interval(), Millis(167));
        tree.add(0, "ina219", "1-0040", "20");
        fs::write(tree.root().join("hwmon0/update_interval"), "137\n").unwrap();
        assert_eq!(meter.read(PATIENCE).unwrap().currents(), [MilliAmps(2_000)]);
        assert_eq!(meter.expected_interval(), Millis(411));
    }

    #[test]
    fn a_chip_that_lost_its_calibration_is_told_from_one_without_a_current() {
        let tree = Tree::with(&[("ina219", "1-0040", "0")]);
        let shunt = tree.root().join("hwmon0/in0_input");
        fs::write(&shunt, "1\n").unwrap();
        let mut meter = tree.open(&[at("1-0040")]).unwrap();
        assert_eq!(meter.read(PATIENCE).unwrap().currents(), [MilliAmps(0)]);
        fs::write(&shunt, "-16\n").unwrap();
        let error = meter.read(PATIENCE).unwrap_err().to_string();
        assert!(error.contains("-16 mV") && error.contains("1-0040"), "{error}");
    }

    #[test]
    fn what_is_no_number_is_shown() {
        let tree = Tree::with(&[("ina219", "1-0040", "10")]);
        let mut meter = tree.open(&[at("1-0040")]).unwrap();
        tree.set(0, "n/a");
        let error = meter.read(PATIENCE).unwrap_err().to_string();
        assert!(error.contains("curr1_input") && error.contains("n/a"), "{error}");
    }

    #[test]
    fn a_range_that_does_not_cover_the_limit_is_named_with_the_numbers() {
        let config = HwmonConfig { scale: 10, ..HwmonConfig::default() };
        let problems = config.problems(Some(MilliAmps(32_000)));
        assert!(problems[0].contains("32000 mA") && problems[0].contains("48000 mA"), "{problems:?}");
        let zero = HwmonConfig { scale: 0, most_ma: 0, ..HwmonConfig::default() };
        assert_eq!(zero.problems(Some(MilliAmps(32_000))).len(), 2);
    }
}
