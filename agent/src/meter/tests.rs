use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use grid_protocol::units::{MilliAmps, MilliVolts};
use proptest::prelude::*;

use super::super::{ChipConfig, ConfigError, MeterError, Reading, ShuntRange, problems};
use super::*;
use crate::simulated_ina219::{Fault, Sensed, SimulatedBus};

/// Longer than any of the tests' chips converts.
pub(super) const CONVERSION_US: u64 = 9_042;
/// … after which it is looked at: an eighth later.
pub(super) const LOOKED_AT_US: u64 = 10_172;

/// A bus with one chip for each phase; the test moves time and currents.
pub(super) struct Bench {
    pub(super) bus: SimulatedBus,
    pub(super) now: Arc<AtomicU64>,
    pub(super) grid_ma: [Arc<AtomicI64>; 3],
    pub(super) configs: Vec<ChipConfig>,
}

impl Bench {
    pub(super) fn with(configs: Vec<ChipConfig>) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let bus = SimulatedBus::new({
            let now = Arc::clone(&now);
            move || now.load(Ordering::Relaxed)
        });
        let grid_ma: [Arc<AtomicI64>; 3] = Default::default();
        for (config, grid_ma) in configs.iter().zip(&grid_ma) {
            let (config, grid_ma) = (config.clone(), Arc::clone(grid_ma));
            let address = config.address;
            let wire = move |_| Sensed {
                shunt_uv: config.shunt_uv(MilliAmps(grid_ma.load(Ordering::Relaxed))),
                bus_mv: 5_000,
            };
            bus.attach(address, wire).unwrap();
        }
        Self { bus, now, grid_ma, configs }
    }

    fn three_phases() -> Self {
        Self::with((0x40..0x43).map(|address| ChipConfig { address, ..ChipConfig::default() }).collect())
    }

    fn meter(&self) -> Ina219Meter<SimulatedBus> {
        let (bus, now) = (self.bus.clone(), Arc::clone(&self.now));
        let clock = move || now.load(Ordering::Relaxed);
        Ina219Meter::open_with_clock(self.configs.clone(), move |_| Ok(bus.clone()), clock).unwrap()
    }

    pub(super) fn pass(&self, us: u64) {
        self.now.fetch_add(us, Ordering::Relaxed);
    }

    fn flows(&self, phase: usize, ma: i64) {
        self.grid_ma[phase].store(ma, Ordering::Relaxed);
    }

    /// Waits as a meter that is read does.
    pub(super) fn wait_for(&self, meter: &impl Meter) {
        self.pass(u64::try_from(meter.poll_interval().as_micros()).unwrap());
    }

    /// Lets everything convert and takes the reading.
    fn next(&self, meter: &mut Ina219Meter<SimulatedBus>) -> Reading {
        self.pass(LOOKED_AT_US);
        meter.poll().unwrap().expect("every chip has converted")
    }
}

fn amps(reading: &Reading) -> Vec<i64> {
    reading.currents().iter().map(|current| current.0).collect()
}

#[test]
fn three_chips_give_three_phases_in_their_configured_order() {
    let bench = Bench::three_phases();
    bench.flows(0, 98_100);
    bench.flows(1, 97_400);
    bench.flows(2, -3_000);
    let mut meter = bench.meter();
    let reading = bench.next(&mut meter);
    assert_eq!(amps(&reading), [98_100, 97_400, -3_000]);
    assert_eq!(reading.voltages(), [MilliVolts(230_000); 3]);
    assert!(!reading.is_saturated());
    assert_eq!(meter.phases(), 3);
}

#[test]
fn a_conversion_is_reported_once() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    assert_eq!(meter.poll().unwrap(), None);
    bench.next(&mut meter);
    assert_eq!(meter.poll().unwrap(), None);
    bench.pass(1_000);
    assert_eq!(meter.poll().unwrap(), None);
    bench.wait_for(&meter);
    assert!(meter.poll().unwrap().is_some());
}

#[test]
fn a_reading_waits_for_the_slowest_chip_and_takes_the_newest_of_the_others() {
    let mut configs = vec![ChipConfig::default(), ChipConfig { address: 0x41, ..ChipConfig::default() }];
    configs[0].adc = Adc::Bits12;
    let bench = Bench::with(configs);
    let mut meter = bench.meter();
    bench.flows(0, 1_000);
    bench.pass(1_064);
    assert_eq!(meter.poll().unwrap(), None);
    bench.flows(0, 2_000);
    bench.pass(LOOKED_AT_US);
    assert_eq!(amps(&meter.poll().unwrap().unwrap()), [2_000, 0]);
}

#[test]
fn within_one_percent_of_the_range_a_reading_means_at_least_this_much() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    // 3.2 A through 0.1 Ω at scale 100.
    for (ma, shown, saturated) in
        [(316_700, 316_700, false), (316_800, 316_800, true), (900_000, 320_000, true), (-900_000, -320_000, true)]
    {
        bench.flows(1, ma);
        let reading = bench.next(&mut meter);
        assert_eq!((amps(&reading)[1], reading.is_saturated()), (shown, saturated), "{ma} mA");
        assert!(!reading.phases[0].saturated);
    }
}

#[test]
fn sign_offset_shunt_and_scale_are_applied() {
    let config = ChipConfig { shunt_milliohm: 10, scale: 50, invert: true, offset_ma: 120, ..ChipConfig::default() };
    assert_eq!(config.grid_current(10_000), MilliAmps(-50_000 + 120));
    assert_eq!(config.shunt_uv(MilliAmps(-50_000 + 120)), 10_000);
    let bench = Bench::with(vec![config]);
    bench.flows(0, 16_020);
    assert_eq!(amps(&bench.next(&mut bench.meter())), [16_020]);
}

#[test]
fn a_shunt_that_is_wired_the_wrong_way_round_turns_the_sign() {
    let bench = Bench::three_phases();
    bench.bus.set_fault(0x40, Fault::SwappedPolarity).unwrap();
    bench.flows(0, 16_000);
    assert_eq!(amps(&bench.next(&mut bench.meter())), [-16_000, 0, 0]);
}

#[test]
fn a_voltage_scale_reports_the_bus_voltage_instead_of_the_nominal_one() {
    let bench = Bench::with(vec![ChipConfig { voltage_scale: Some(46), ..ChipConfig::default() }]);
    assert_eq!(bench.next(&mut bench.meter()).voltages(), [MilliVolts(230_000)]);
}

#[test]
fn a_brown_out_is_reported_once_and_the_range_and_resolution_are_set_again() {
    let bench = Bench::with(vec![ChipConfig { range: ShuntRange::Mv80, ..ChipConfig::default() }]);
    bench.flows(0, 50_000);
    let mut meter = bench.meter();
    bench.next(&mut meter);
    bench.bus.brown_out(0x40).unwrap();
    // Beyond the range that was set, within that of a reset chip.
    bench.flows(0, 200_000);
    bench.pass(LOOKED_AT_US);
    assert!(matches!(meter.poll(), Err(MeterError::ConfigurationLost { address: 0x40, .. })));
    let reading = bench.next(&mut meter);
    assert_eq!((amps(&reading), reading.is_saturated()), (vec![80_000], true));
}

#[test]
fn a_chip_that_falls_off_the_bus_is_named_and_goes_on_when_it_is_back() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    bench.bus.set_fault(0x41, Fault::Absent).unwrap();
    bench.pass(LOOKED_AT_US);
    let error = meter.poll().unwrap_err();
    assert!(matches!(error, MeterError::NotAnswering { address: 0x41, .. }));
    assert!(error.to_string().contains("0x41 on /dev/i2c-1"), "{error}");
    // It comes back as after power-on, and is set up.
    bench.bus.set_fault(0x41, Fault::None).unwrap();
    bench.bus.brown_out(0x41).unwrap();
    assert_eq!(meter.poll().unwrap(), None);
    bench.next(&mut meter);
}

#[test]
fn another_ina219_at_the_same_address_is_told_of_set_up_and_read() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    bench.flows(1, 5_000);
    assert_eq!(amps(&bench.next(&mut meter)), [0, 5_000, 0]);
    bench.bus.swap(0x41, |_| Sensed { shunt_uv: 7_000, bus_mv: 5_000 }).unwrap();
    bench.pass(LOOKED_AT_US);
    assert!(matches!(meter.poll(), Err(MeterError::ConfigurationLost { address: 0x41, .. })));
    assert_eq!(amps(&bench.next(&mut meter)), [0, 7_000, 0]);
}

#[test]
fn another_kind_of_chip_at_the_same_address_gives_no_reading_and_is_named_until_an_ina219_is_back() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    bench.next(&mut meter);
    bench.bus.set_fault(0x41, Fault::OtherKind).unwrap();
    let mut complaints = Vec::new();
    for _ in 0..100 {
        bench.pass(LOOKED_AT_US);
        match meter.poll() {
            Ok(reading) => assert_eq!(reading, None),
            Err(error) => complaints.push(error),
        }
    }
    // Then it is reset, which shows what it is; a look at its configuration with each poll would be a third transfer.
    assert!(matches!(complaints[0], MeterError::NotConverting { address: 0x41, for_ms: ..500, .. }), "{complaints:?}");
    let others = &complaints[1..];
    assert!(others.iter().all(|error| matches!(error, MeterError::NotAnIna219 { address: 0x41, .. })), "{others:?}");
    assert!(others.len() > 40);
    bench.bus.swap(0x41, |_| Sensed { shunt_uv: 7_000, bus_mv: 5_000 }).unwrap();
    assert_eq!(meter.poll().unwrap(), None);
    assert_eq!(amps(&bench.next(&mut meter)), [0, 7_000, 0]);
}

#[test]
fn a_meter_whose_chips_are_not_there_yet_reads_when_they_are() {
    let bus = SimulatedBus::new(|| 0);
    let handle = bus.clone();
    let mut meter = Ina219Meter::new(vec![ChipConfig::default()], move |_| Ok(handle.clone())).unwrap();
    for _ in 0..3 {
        assert!(matches!(meter.poll(), Err(MeterError::NotAnswering { address: 0x40, .. })));
    }
    bus.attach(0x40, |_| Sensed::default()).unwrap();
    assert_eq!(meter.poll().unwrap(), None);
    let wrong = Ina219Meter::new(vec![ChipConfig { scale: 0, ..ChipConfig::default() }], move |_| Ok(bus.clone()));
    assert!(wrong.is_err());
}

#[test]
fn a_reading_is_as_old_as_the_oldest_moment_at_which_its_conversions_can_have_ended() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    // A conversion that began at 0 takes at least nine tenths of its usual time, and so does the next.
    let shortest = CONVERSION_US * 9 / 10;
    bench.pass(LOOKED_AT_US);
    assert_eq!(meter.poll().unwrap().unwrap().taken_us, shortest);
    bench.wait_for(&meter);
    assert_eq!(meter.poll().unwrap().unwrap().taken_us, 2 * shortest);
    // Looked at just before the end of the third: it ended after that.
    bench.wait_for(&meter);
    let looked_at = bench.now.load(Ordering::Relaxed);
    assert_eq!(meter.poll().unwrap(), None);
    bench.wait_for(&meter);
    assert_eq!(meter.poll().unwrap().unwrap().taken_us, looked_at);
    // Not looked at for a second: the newest conversion is at most one conversion time old.
    bench.pass(1_000_000);
    let now = bench.now.load(Ordering::Relaxed);
    assert_eq!(meter.poll().unwrap().unwrap().taken_us, now - CONVERSION_US);
}

#[test]
fn a_chip_that_disappears_or_stops_acknowledging_in_the_middle_of_a_transfer_is_named_and_comes_back() {
    for fault in (0..8).map(Fault::DisappearsAfter).chain([Fault::NoAcknowledgeOfData]) {
        let bench = Bench::three_phases();
        let mut meter = bench.meter();
        bench.bus.set_fault(0x41, fault).unwrap();
        bench.pass(LOOKED_AT_US);
        let error = meter.poll().and_then(|_| meter.poll()).unwrap_err();
        assert!(matches!(error, MeterError::NotAnswering { address: 0x41, .. }), "{fault:?}: {error}");
        bench.bus.set_fault(0x41, Fault::None).unwrap();
        assert_eq!(meter.poll().unwrap(), None, "{fault:?}");
        bench.next(&mut meter);
    }
}

#[test]
fn a_bus_that_is_held_down_is_told_from_a_wrong_chip_and_comes_back() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    for address in 0x40..0x43 {
        bench.bus.set_fault(address, Fault::StuckLow).unwrap();
    }
    bench.pass(1_000_000);
    for _ in 0..3 {
        let error = meter.poll().and_then(|_| meter.poll()).err();
        let silent = matches!(error, Some(MeterError::BusStuck { .. } | MeterError::NotConverting { .. }));
        assert!(silent, "{error:?}");
    }
    assert!(matches!(meter.poll(), Err(MeterError::BusStuck { address: 0x40, .. })));
    for address in 0x40..0x43 {
        bench.bus.set_fault(address, Fault::None).unwrap();
    }
    assert_eq!(meter.poll().unwrap(), None);
    bench.next(&mut meter);
}

#[test]
fn an_overflow_means_that_somebody_else_calibrated_the_chip_which_is_reset() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    bench.flows(1, 300_000);
    bench.bus.clone().write(0x41, &[5, 0xFF, 0xFE]).unwrap();
    bench.pass(LOOKED_AT_US);
    assert!(matches!(meter.poll(), Err(MeterError::Overflow { address: 0x41, .. })));
    assert_eq!(meter.poll().unwrap(), None);
    assert_eq!(amps(&bench.next(&mut meter))[1], 300_000);
}

#[test]
fn a_chip_that_was_powered_down_is_reset_after_half_a_second() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    bench.bus.clone().write(0x42, &[0, 0x39, 0x98]).unwrap();
    bench.pass(LOOKED_AT_US);
    assert_eq!(meter.poll().unwrap(), None);
    bench.pass(500_000);
    assert!(matches!(meter.poll(), Err(MeterError::NotConverting { address: 0x42, for_ms: 509.., .. })));
    assert_eq!(meter.poll().unwrap(), None);
    bench.next(&mut meter);
}

#[test]
fn a_bus_whose_device_file_vanishes_is_opened_again_when_it_is_back() {
    let bench = Bench::three_phases();
    let there = Arc::new(AtomicBool::new(true));
    let (bus, now, plugged) = (bench.bus.clone(), Arc::clone(&bench.now), Arc::clone(&there));
    let open = move |name: &str| match plugged.load(Ordering::Relaxed) {
        true => Ok(bus.clone()),
        false => Err(MeterError::BusMissing { bus: name.to_owned() }),
    };
    let clock = move || now.load(Ordering::Relaxed);
    let mut meter = Ina219Meter::open_with_clock(bench.configs.clone(), open, clock).unwrap();
    there.store(false, Ordering::Relaxed);
    for address in 0x40..0x43 {
        bench.bus.set_fault(address, Fault::Absent).unwrap();
    }
    bench.pass(LOOKED_AT_US);
    assert!(matches!(meter.poll(), Err(MeterError::NotAnswering { .. })));
    assert!(matches!(meter.poll(), Err(MeterError::BusMissing { .. })));
    for address in 0x40..0x43 {
        bench.bus.set_fault(address, Fault::None).unwrap();
    }
    there.store(true, Ordering::Relaxed);
    assert_eq!(meter.poll().unwrap(), None);
    bench.next(&mut meter);
}

#[test]
fn noise_of_the_wire_is_noise_of_the_reading_and_no_more() {
    let bench = Bench::three_phases();
    bench.flows(0, 50_000);
    bench.bus.set_fault(0x40, Fault::Noise(100)).unwrap();
    let mut meter = bench.meter();
    for _ in 0..100 {
        let shown = amps(&bench.next(&mut meter))[0];
        // 100 µV over 0.1 Ω at scale 100, and half a step of 10 µV.
        assert!((shown - 50_000).abs() <= 105, "{shown}");
    }
}

#[test]
fn a_chip_that_stops_converting_gives_no_reading() {
    let bench = Bench::three_phases();
    let mut meter = bench.meter();
    bench.next(&mut meter);
    bench.bus.set_fault(0x42, Fault::NoConversion).unwrap();
    bench.pass(10 * CONVERSION_US);
    assert_eq!(meter.poll().unwrap(), None);
    let error = meter.read(Duration::from_millis(3)).unwrap_err();
    assert!(matches!(error, MeterError::NoConversion { .. }));
}

#[test]
fn opening_an_address_without_a_chip_says_what_to_check() {
    let bench = Bench::three_phases();
    let config = ChipConfig { address: 0x4A, ..ChipConfig::default() };
    let error = Ina219Meter::open(vec![config], move |_| Ok(bench.bus.clone())).err().unwrap().to_string();
    assert!(error.contains("0x4a on /dev/i2c-1") && error.contains("grid-agent scan"), "{error}");
}

#[test]
fn a_scale_whose_range_ends_below_one_and_a_half_limits_is_refused_with_the_numbers() {
    // 80 kW over three phases.
    let limit = MilliAmps(115_942);
    let config = ChipConfig { scale: 54, ..ChipConfig::default() };
    let error = config.covers_limit(limit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "scale = 54 of the chip at 0x40 on /dev/i2c-1 lets ±320 mV over 100 mΩ measure up to 172800 mA, but 1.5 times the \
         limit of 115942 mA is 173913 mA: set scale to at least 55 and build the model to match, or take a smaller shunt"
    );
    ChipConfig { scale: 55, ..config }.covers_limit(limit).unwrap();
}

#[test]
fn every_wrong_value_is_reported_at_once() {
    let wrong = ChipConfig { address: 0x39, shunt_milliohm: 0, scale: 0, nominal_mv: -1, ..ChipConfig::default() };
    let small = ChipConfig { scale: 1, ..ChipConfig::default() };
    let found = problems(&[wrong, small.clone(), small], Some(MilliAmps(16_000)));
    let count = |matches: fn(&ConfigError) -> bool| found.iter().filter(|problem| matches(problem)).count();
    assert_eq!(count(|problem| matches!(problem, ConfigError::Address { address: 0x39, .. })), 1);
    assert_eq!(count(|problem| matches!(problem, ConfigError::NotPositive { .. })), 3);
    assert_eq!(count(|problem| matches!(problem, ConfigError::RangeTooSmall { .. })), 2);
    assert_eq!(count(|problem| matches!(problem, ConfigError::Twice { .. })), 1);
    assert_eq!(problems(&[], None), [ConfigError::ChipCount(0)]);
}

#[test]
fn a_configuration_file_may_leave_out_everything_but_no_key_is_overlooked() {
    let parse = |json: &str| serde_json::from_str::<ChipConfig>(json);
    assert_eq!(parse("{}").unwrap(), ChipConfig::default());
    let config = parse(r#"{"address":65,"range":"40mV","adc":"avg128","voltage_scale":46}"#).unwrap();
    assert_eq!((config.address, config.range, config.adc), (0x41, ShuntRange::Mv40, Adc::Average128));
    assert!(parse(r#"{"adress":65}"#).unwrap_err().to_string().contains("adress"));
}

#[test]
fn three_expected_intervals_are_the_half_second_after_which_an_ina219_is_stale() {
    let meter = Bench::three_phases().meter();
    assert!((500..=510).contains(&(3 * meter.expected_interval().0)));
    assert!(u128::from(meter.expected_interval().0) > meter.poll_interval().as_millis());
}

proptest! {
    #[test]
    fn what_a_wire_shows_reads_back_as_the_grid_current(
        ma in -300_000_i64..=300_000, shunt_milliohm in 1_u32..=100, scale in 100_u32..=1_000, invert: bool,
        offset_ma in -500_i64..=500,
    ) {
        let config = ChipConfig { shunt_milliohm, scale, invert, offset_ma, ..ChipConfig::default() };
        let back = config.grid_current(config.shunt_uv(MilliAmps(ma)));
        // Half a microvolt over the shunt, scaled, and half a milliamp of rounding.
        let tolerance = i64::from(scale.div_ceil(2 * shunt_milliohm)) + 1;
        prop_assert!((back.0 - ma).abs() <= tolerance, "{ma} became {back}");
    }
}
