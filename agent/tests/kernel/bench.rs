//! `read`, `scan` and `calibrate` through the device files.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use grid_agent::simulated_ina219::Fault;
use serde_json::Value;

use crate::agent::{INA219, Machine, SIX_AMPERES_UV, device, said, until};
use crate::emulated::{Adapter, EACCES, EAGAIN, EBUSY, EIO, ENODEV, ENOENT, ETIMEDOUT, Kernel};
use crate::faults::{
    Happening, absent_on_another_adapter, fails, fault, mend, overflow, taken_away, taken_by_a_driver,
};
use crate::mosquitto::{Process, SOON};

#[test]
fn a_chip_is_found_read_and_calibrated_through_the_device_file() {
    let machine = Machine::boot();
    machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
    let (code, text) = said(machine.kernel.grid_agent(&["scan"]).output().unwrap());
    assert_eq!((code, text.as_str()), (0, "0x40  behaves like an INA219, as after power-on\n"));

    let (code, text) = machine.result("read", &device(INA219), &["--json", "--count", "3"]);
    assert_eq!((code, text.lines().count()), (0, 3), "{text}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["phases"][0]["current_ma"], 6_000, "{line}");
    }
    let (code, text) = machine.result("calibrate", &device(INA219), &["--current-ma", "400"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = machine.result("calibrate", &device(INA219), &["--current-ma", "500"]);
    assert!(code == 1 && text.starts_with("L1: "), "{text}");
    let (code, text) = said(machine.kernel.grid_agent(&["scan"]).output().unwrap());
    assert!(code == 0 && text.contains("set up with configuration 0x39e7"), "it was set up by now: {text}");
}

/// Of three chips on a bus of 100 kHz, where a transfer takes half a millisecond, each may have so many in its 9 ms.
#[test]
fn a_reading_takes_no_more_transfers_than_a_slow_bus_has_room_for() {
    let machine = Machine::boot();
    machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
    let calls = |readings: u64| {
        let before = machine.kernel.calls();
        let (code, text) = machine.result("read", &device(INA219), &["--json", "--count", &readings.to_string()]);
        assert_eq!(code, 0, "{text}");
        machine.kernel.calls() - before
    };
    let (few, many) = (calls(5), calls(55));
    assert!((many - few) / 50 <= 12, "{few} calls for 5 readings, {many} for 55");
}

#[test]
fn check_reads_the_meter_through_the_device_file() {
    let machine = Machine::boot();
    machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
    let (code, text) = machine.result("check", &device(INA219), &[]);
    assert!(code == 1 && text.contains("ok     meter           reads L1 6000 mA\n"), "{text}");
    assert!(text.contains("WRONG  identity        bundle \"/nowhere/cp-1.bundle\""), "{text}");
}

const WRONG_AT_THE_START: [Happening; 13] = [
    ("absent", |kernel| fault(kernel, Fault::Absent), "no chip answers at 0x40 on /dev/i2c-1: check supply"),
    ("loose", |kernel| fault(kernel, Fault::NoAcknowledgeOfData), "no chip answers at 0x40 on /dev/i2c-1"),
    ("another adapter", absent_on_another_adapter, "no chip answers at 0x40 on /dev/i2c-1"),
    ("swapped", |kernel| fault(kernel, Fault::OtherKind), "is not an INA219 (its configuration is not the default"),
    ("no permission", |kernel| kernel.refuse("/dev/i2c-1", EACCES), "sudo usermod -aG i2c USER"),
    ("no bus", |kernel| kernel.refuse("/dev/i2c-1", ENOENT), "there is no /dev/i2c-1: enable I2C"),
    ("unplugged", |kernel| kernel.i2c.unplug(), "there is no /dev/i2c-1: enable I2C"),
    ("claimed", |kernel| kernel.i2c.claim(Some(0x40)), "a driver of Linux has claimed"),
    ("clock held", |kernel| fails(kernel, ETIMEDOUT), "/dev/i2c-1 is stuck (transfers time out; met at 0x40)"),
    ("data held", |kernel| fails(kernel, EAGAIN), "/dev/i2c-1 is stuck (arbitration is lost; met at 0x40)"),
    ("reads zeros", |kernel| fault(kernel, Fault::StuckLow), "/dev/i2c-1 is stuck (every read gives zeros"),
    ("gone", |kernel| fails(kernel, ENODEV), "the adapter of /dev/i2c-1 is gone"),
    ("short circuit", |kernel| fails(kernel, EIO), "failed (Input/output error"),
];

#[test]
fn each_fault_at_the_start_is_told_in_words_of_its_own() {
    for (fault, occurs, words) in WRONG_AT_THE_START {
        let machine = Machine::boot();
        machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
        occurs(&machine.kernel);
        let (code, text) = machine.result("read", &device(INA219), &["--json", "--count", "1"]);
        assert!(code != 0 && text.contains(words), "{fault}: {text}");
    }
}

#[test]
fn a_driver_that_has_the_chip_is_told_with_what_reads_it_then() {
    let machine = Machine::boot();
    machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
    machine.kernel.i2c.claim(Some(0x40));
    let (_, text) = machine.result("read", &device(INA219), &["--count", "1"]);
    assert!(text.contains("[[meter.hwmon]]"), "{text}");
    let (code, text) = said(machine.kernel.grid_agent(&["scan"]).output().unwrap());
    assert!(code == 1 && text.contains("0x40  cannot be asked: a driver of Linux has claimed"), "{text}");
}

#[test]
fn a_scan_shows_the_address_that_is_wrong_in_the_settings() {
    let machine = Machine::boot();
    machine.kernel.i2c.solder(0x41, SIX_AMPERES_UV);
    let (code, text) = machine.result("read", &device(INA219), &["--count", "1"]);
    assert!(code != 0 && text.contains("no chip answers at 0x40") && text.contains("grid-agent scan"), "{text}");
    let (code, text) = said(machine.kernel.grid_agent(&["scan"]).output().unwrap());
    assert!(code == 0 && text.starts_with("0x41  behaves like an INA219"), "{text}");
}

#[test]
fn a_scan_tells_what_is_no_ina219_and_what_keeps_it_from_asking() {
    let scan = |kernel: &Kernel| said(kernel.grid_agent(&["scan"]).output().unwrap());
    let kernel = Kernel::boot();
    let (code, text) = scan(&kernel);
    assert!(code == 1 && text.starts_with("nothing answers at 0x40 to 0x4f on /dev/i2c-1"), "{text}");
    kernel.i2c.solder(0x45, 0);
    kernel.i2c.set_fault(0x45, Fault::OtherKind);
    let (code, text) = scan(&kernel);
    assert!(code == 1 && text.starts_with("0x45  no INA219: its configuration reads 0x4127"), "{text}");
    kernel.i2c.fail(Some(ETIMEDOUT));
    let (code, text) = scan(&kernel);
    assert!(code == 1 && text.contains("0x40  cannot be asked: transfers time out"), "{text}");
    kernel.refuse("/dev/i2c-1", EBUSY);
    let (code, text) = scan(&kernel);
    assert!(code == 2 && text.contains("/dev/i2c-1 cannot be opened"), "{text}");
}

/// A `grid-agent read --json` that goes on.
struct Reading {
    lines: Receiver<String>,
    _process: Process,
}

impl Reading {
    fn begin(machine: &Machine, settings: &str) -> Self {
        let mut command = machine.command("read", settings, &["--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { lines, _process: Process(child) }
    }

    fn shows(&self, fault: &str, words: &str) {
        let end = Instant::now() + SOON;
        let mut last = String::new();
        while !last.contains(words) {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            last = line.unwrap_or_else(|_| panic!("{fault}: expected {words:?}, last was {last}"));
        }
    }
}

const WRONG_MEANWHILE: [Happening; 16] = [
    ("absent", |kernel| fault(kernel, Fault::Absent), "no chip answers at 0x40"),
    ("loose", |kernel| fault(kernel, Fault::NoAcknowledgeOfData), "no chip answers at 0x40"),
    ("gone in a read", |kernel| fault(kernel, Fault::DisappearsAfter(3)), "no chip answers at 0x40"),
    ("another adapter", absent_on_another_adapter, "no chip answers at 0x40"),
    ("swapped", |kernel| fault(kernel, Fault::OtherKind), "is not an INA219"),
    ("clock held", |kernel| fails(kernel, ETIMEDOUT), "is stuck (transfers time out"),
    ("data held", |kernel| fails(kernel, EAGAIN), "is stuck (arbitration is lost"),
    ("reads zeros", |kernel| fault(kernel, Fault::StuckLow), "is stuck (every read gives zeros"),
    ("short circuit", |kernel| fails(kernel, EIO), "failed (Input/output error"),
    ("brown-out", |kernel| kernel.i2c.brown_out(0x40), "had lost its configuration"),
    ("calibrated by others", overflow, "reports an overflow (OVF)"),
    ("converts nothing", |kernel| fault(kernel, Fault::NoConversion), "has converted nothing for"),
    ("unplugged", |kernel| kernel.i2c.unplug(), "the adapter of /dev/i2c-1 is gone"),
    ("unplugged for long", |kernel| kernel.i2c.unplug(), "there is no /dev/i2c-1"),
    ("no permission", taken_away, "sudo usermod -aG i2c USER"),
    ("taken by a driver", taken_by_a_driver, "a driver of Linux has claimed"),
];

#[test]
fn each_fault_while_it_reads_is_told_and_reading_goes_on_when_it_is_over() {
    let machine = Machine::boot();
    machine.kernel.i2c.solder(0x40, 160_000);
    let reading = Reading::begin(&machine, &device(INA219));
    let good = "\"current_ma\":24000,\"saturated\":false";
    reading.shows("at the start", good);
    for (fault, occurs, words) in WRONG_MEANWHILE {
        occurs(&machine.kernel);
        reading.shows(fault, words);
        mend(&machine.kernel);
        reading.shows(fault, good);
    }
    until("nothing stays open of what failed", || machine.kernel.i2c.open_files() == 1);
}

#[test]
fn what_a_chip_shows_at_the_end_of_its_range_and_the_wrong_way_round_is_read_as_such() {
    let machine = Machine::boot();
    let shunt = machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
    let reading = Reading::begin(&machine, &device(INA219));
    shunt.becomes(400_000);
    reading.shows("beyond the range", "\"current_ma\":48000,\"saturated\":true");
    machine.kernel.i2c.set_fault(0x40, Fault::SwappedPolarity);
    shunt.becomes(SIX_AMPERES_UV);
    reading.shows("turned round", "\"current_ma\":-6000,\"saturated\":false");
}

#[test]
fn noise_is_read_as_it_comes_and_a_value_that_is_stuck_looks_like_a_current_that_does_not_change() {
    let machine = Machine::boot();
    let shunt = machine.kernel.i2c.solder(0x40, SIX_AMPERES_UV);
    let reading = Reading::begin(&machine, &device(INA219));
    reading.shows("at the start", "\"current_ma\":6000,");
    let next = || {
        let line: Value = serde_json::from_str(&reading.lines.recv_timeout(SOON).unwrap()).unwrap();
        line["phases"][0]["current_ma"].as_i64().unwrap()
    };
    machine.kernel.i2c.set_fault(0x40, Fault::StuckValue);
    shunt.becomes(160_000);
    (0..20).for_each(|_| assert_eq!(next(), 6_000));
    shunt.becomes(SIX_AMPERES_UV);
    // 2 mV are 300 mA.
    machine.kernel.i2c.set_fault(0x40, Fault::Noise(2_000));
    let noisy: Vec<i64> = (0..40).map(|_| next()).collect();
    assert!(noisy.iter().all(|ma| (5_690..=6_310).contains(ma)), "{noisy:?}");
    assert!(noisy.iter().any(|ma| *ma != 6_000), "{noisy:?}");
}

#[test]
fn three_chips_on_one_bus_are_three_phases_and_one_that_fails_is_named() {
    let machine = Machine::boot();
    let adapter: &Adapter = &machine.kernel.i2c;
    for (address, microvolts) in [(0x40, 10_000), (0x41, 20_000), (0x44, 30_000)] {
        adapter.solder(address, microvolts);
    }
    let chips =
        [0x40, 0x41, 0x44].map(|address| format!("[[meter.ina219]]\naddress = {address}\nscale = 15\n")).concat();
    let settings = device(&chips).replace("[\"L1\"]", "[\"L1\", \"L2\", \"L3\"]");
    let (code, text) = machine.result("read", &settings, &["--count", "1"]);
    let currents: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!((code, currents.as_slice()), (0, ["1500", "3000", "4500"].as_slice()), "{text}");
    adapter.set_fault(0x41, Fault::Absent);
    let (_, text) = machine.result("read", &settings, &["--count", "1"]);
    assert!(text.contains("no chip answers at 0x41"), "{text}");
}

#[test]
fn a_sensor_that_linux_reads_is_found_below_sys_and_missed_when_its_driver_lets_go() {
    let machine = Machine::boot();
    let settings = device("[[meter.hwmon]]\ndevice = \"1-0040\"\nscale = 15\n");
    let (_, text) = machine.result("read", &settings, &["--count", "1"]);
    assert!(text.contains("no sensor \"ina219\" at 1-0040 below /sys/class/hwmon: there is none at all"), "{text}");
    let bind = || {
        let attributes = [("name", "ina219"), ("curr1_input", "400"), ("in0_input", "40"), ("update_interval", "20")];
        machine.kernel.sysfs.bind_sensor("1-0040", &attributes);
    };
    bind();
    let reading = Reading::begin(&machine, &settings);
    reading.shows("at the start", "\"current_ma\":6000");
    machine.kernel.sysfs.unbind_sensor();
    reading.shows("unbound", "\"error\"");
    bind();
    reading.shows("bound again", "\"current_ma\":6000");
    machine.kernel.sysfs.sensor_shows(&[("curr1_input", "0")]);
    reading.shows("without calibration", "has lost its calibration");
    machine.kernel.sysfs.sensor_shows(&[("curr1_input", "-400")]);
    reading.shows("turned round", "\"current_ma\":-6000");
}
