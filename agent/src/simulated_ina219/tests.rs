use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ina219::SyncIna219;
use ina219::address::Address;
use ina219::configuration::{Configuration, MeasuredSignals, OperatingMode, Resolution, ShuntVoltageRange};

use super::super::Sensed;
use super::*;

/// A bus whose time and whose one wire the test moves.
struct Bench {
    bus: SimulatedBus,
    now: Arc<AtomicU64>,
    shunt_uv: Arc<AtomicI64>,
    bus_mv: Arc<AtomicI64>,
}

impl Bench {
    fn new(shunt_uv: i64, bus_mv: i64) -> Self {
        let now = Arc::new(AtomicU64::new(1_000));
        let bench = Self {
            bus: SimulatedBus::new({
                let now = Arc::clone(&now);
                move || now.load(Ordering::Relaxed)
            }),
            now,
            shunt_uv: Arc::new(AtomicI64::new(shunt_uv)),
            bus_mv: Arc::new(AtomicI64::new(bus_mv)),
        };
        let (shunt, supply) = (Arc::clone(&bench.shunt_uv), Arc::clone(&bench.bus_mv));
        let wire = move |_| Sensed { shunt_uv: shunt.load(Ordering::Relaxed), bus_mv: supply.load(Ordering::Relaxed) };
        bench.bus.attach(0x40, wire).unwrap();
        bench
    }

    fn pass(&self, us: u64) {
        self.now.fetch_add(us, Ordering::Relaxed);
    }

    fn shunt_becomes(&self, uv: i64) {
        self.shunt_uv.store(uv, Ordering::Relaxed);
    }

    fn write(&self, register: u8, value: u16) {
        let [high, low] = value.to_be_bytes();
        self.bus.clone().write(0x40, &[register, high, low]).unwrap();
    }

    fn read(&self, register: u8) -> u16 {
        let mut bytes = [0; 2];
        self.bus.clone().write_read(0x40, &[register], &mut bytes).unwrap();
        u16::from_be_bytes(bytes)
    }

    fn ready(&self) -> bool {
        self.read(2) & 0b10 != 0
    }
}

#[test]
fn the_worked_example_of_the_datasheet_gives_its_register_contents() {
    // SBOS448G, section 9.2.2.1, table 8: 10 A through 2 mΩ at 11.98 V, calibration 0x5000 for 1 mA a bit.
    let bench = Bench::new(20_000, 11_980);
    bench.write(0, 0x019F);
    bench.write(5, 0x5000);
    bench.pass(1_064);
    assert_eq!(bench.read(0), 0x019F);
    assert_eq!(bench.read(1), 0x07D0);
    assert_eq!(bench.read(2) & !0b111, 0x5D98);
    assert_eq!(bench.read(2) & 0b111, 0b010, "ready, and nothing overflowed");
    assert_eq!(bench.read(5), 0x5000);
    assert_eq!(bench.read(4), 0x2710);
    assert_eq!(bench.read(3), 0x1766);
}

#[test]
fn the_shunt_register_shows_what_the_datasheet_lists_for_each_range() {
    // SBOS448G, table 7: (µV, PG bits, register).
    for (uv, pg, register) in [
        (320_000, 3, 0x7D00),
        (319_990, 3, 0x7CFF),
        (320_020, 3, 0x7D00),
        (160_000, 2, 0x3E80),
        (200_000, 2, 0x3E80),
        (80_000, 1, 0x1F40),
        (40_010, 0, 0x0FA0),
        (40_000, 0, 0x0FA0),
        (20, 0, 0x0002),
        (0, 0, 0x0000),
        (-10, 0, 0xFFFF),
        (-40_010, 1, 0xF05F),
        (-40_010, 0, 0xF060),
        (-320_000, 3, 0x8300),
        (-320_020, 3, 0x8300),
    ] {
        let bench = Bench::new(uv, 0);
        bench.write(0, 0x219F | pg << 11);
        bench.pass(1_064);
        assert_eq!(bench.read(1), register, "{uv} µV with PG {pg:02b}");
    }
}

#[test]
fn the_bus_register_stops_at_the_end_of_its_range() {
    let bench = Bench::new(0, 20_000);
    bench.write(0, 0x199F);
    bench.pass(1_064);
    assert_eq!(bench.read(2) >> 3, 4_000, "16 V");
    bench.write(0, 0x399F);
    bench.pass(1_064);
    assert_eq!(bench.read(2) >> 3, 5_000, "20 V");
}

#[test]
fn reading_power_clears_conversion_ready_and_reading_the_bus_voltage_does_not() {
    let bench = Bench::new(1_000, 5_000);
    assert!(!bench.ready());
    bench.pass(1_063);
    assert!(!bench.ready());
    bench.pass(1);
    assert!(bench.ready());
    assert!(bench.ready());
    bench.read(3);
    assert!(!bench.ready());
    bench.pass(1_064);
    assert!(bench.ready());
}

#[test]
fn writing_a_mode_clears_conversion_ready_unless_it_turns_conversion_off() {
    let bench = Bench::new(1_000, 5_000);
    for (mode, clears) in [(0b111, true), (0b011, true), (0b101, true), (0b000, false), (0b100, false)] {
        bench.write(0, 0x399F);
        bench.pass(2_000);
        bench.write(0, 0x3998 | mode);
        assert_eq!(bench.ready(), !clears, "mode {mode:03b}");
    }
}

#[test]
fn a_triggered_conversion_happens_once_for_each_write() {
    let bench = Bench::new(1_000, 5_000);
    bench.write(0, 0x399B);
    bench.pass(1_064);
    assert!(bench.ready());
    bench.shunt_becomes(2_000);
    bench.read(3);
    bench.pass(1_000_000);
    assert!(!bench.ready());
    assert_eq!(bench.read(1), 100);
    bench.write(0, 0x399B);
    bench.pass(1_064);
    assert!(bench.ready());
    assert_eq!(bench.read(1), 200);
}

#[test]
fn a_mode_with_one_voltage_leaves_the_other_as_it_was_and_is_quicker() {
    let bench = Bench::new(1_000, 5_000);
    bench.pass(1_064);
    assert_eq!(bench.read(1), 100);
    bench.shunt_becomes(2_000);
    bench.bus_mv.store(6_000, Ordering::Relaxed);
    bench.write(0, 0x399E);
    bench.pass(532);
    assert_eq!((bench.read(1), bench.read(2) >> 3), (100, 1_500));
}

#[test]
fn a_powered_down_chip_converts_nothing_and_wakes_in_40_us() {
    let bench = Bench::new(1_000, 5_000);
    bench.pass(1_064);
    bench.write(0, 0x3998);
    bench.shunt_becomes(2_000);
    bench.pass(1_000_000);
    assert_eq!(bench.read(1), 100);
    bench.write(0, 0x399F);
    bench.pass(1_064 + 39);
    assert!(!bench.ready());
    bench.pass(1);
    assert!(bench.ready());
    assert_eq!(bench.read(1), 200);
}

#[test]
fn an_average_is_not_seen_before_it_is_complete() {
    let bench = Bench::new(1_000, 5_000);
    bench.write(0, 0x3FFF);
    bench.pass(2 * 68_100 - 1);
    assert!(!bench.ready());
    bench.pass(1);
    assert!(bench.ready());
}

#[test]
fn a_product_out_of_range_sets_the_overflow_flag() {
    let bench = Bench::new(320_000, 12_000);
    bench.write(5, 0xFFFE);
    bench.pass(1_064);
    assert_eq!(bench.read(2) & 0b11, 0b11);
    bench.write(5, 0x0200);
    bench.pass(1_064);
    assert_eq!(bench.read(2) & 0b11, 0b10);
}

#[test]
fn bit_zero_of_the_calibration_and_the_read_only_registers_cannot_be_written() {
    let bench = Bench::new(1_000, 5_000);
    bench.pass(1_064);
    bench.write(5, 0x1001);
    bench.write(1, 0x1234);
    bench.write(4, 0x1234);
    assert_eq!((bench.read(5), bench.read(1), bench.read(4)), (0x1000, 100, 0));
}

#[test]
fn the_pointer_stays_so_that_a_register_can_be_read_again_without_naming_it() {
    let bench = Bench::new(1_000, 5_000);
    bench.read(5);
    bench.write(5, 0xABCE);
    let mut bytes = [0; 2];
    bench.bus.clone().read(0x40, &mut bytes).unwrap();
    assert_eq!(bytes, [0xAB, 0xCE]);
}

#[test]
fn the_reset_bit_and_a_brown_out_set_every_register_back() {
    let bench = Bench::new(1_000, 5_000);
    for brown_out in [false, true] {
        bench.write(0, 0x019F);
        bench.write(5, 0x5000);
        bench.pass(1_064);
        if brown_out {
            bench.bus.brown_out(0x40).unwrap();
        } else {
            bench.write(0, 0x8000);
        }
        let registers: Vec<_> = (0..6).map(|register| bench.read(register)).collect();
        assert_eq!(registers, [0x399F, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn several_chips_on_one_bus_answer_each_for_itself() {
    let bench = Bench::new(1_000, 5_000);
    bench.bus.attach(0x4F, |_| Sensed { shunt_uv: 7_000, bus_mv: 0 }).unwrap();
    bench.pass(1_064);
    let mut bytes = [0; 2];
    bench.bus.clone().write_read(0x4F, &[1], &mut bytes).unwrap();
    assert_eq!(u16::from_be_bytes(bytes), 700);
    assert_eq!(bench.read(1), 100);
    assert_eq!(bench.bus.clone().write(0x41, &[0]), Err(NoAcknowledge));
}

#[test]
fn only_free_addresses_of_an_ina219_take_a_chip() {
    let bench = Bench::new(0, 0);
    let wire = |_| Sensed::default();
    assert_eq!(bench.bus.attach(0x40, wire), Err(SimulationError::Taken(0x40)));
    assert_eq!(bench.bus.attach(0x50, wire), Err(SimulationError::NotAnAddress(0x50)));
    assert_eq!(bench.bus.set_fault(0x41, Fault::Absent), Err(SimulationError::NoChip(0x41)));
}

#[test]
fn faults_act_from_when_they_are_set_until_they_are_mended() {
    let bench = Bench::new(1_000, 5_000);
    bench.pass(1_064);

    bench.bus.set_fault(0x40, Fault::Absent).unwrap();
    assert_eq!(bench.bus.clone().write(0x40, &[0]), Err(NoAcknowledge));

    bench.bus.set_fault(0x40, Fault::StuckValue).unwrap();
    bench.shunt_becomes(2_000);
    bench.read(3);
    bench.pass(1_064);
    assert!(bench.ready());
    assert_eq!(bench.read(1), 100);

    bench.bus.set_fault(0x40, Fault::NoConversion).unwrap();
    bench.read(3);
    bench.pass(1_064);
    assert!(!bench.ready());

    bench.bus.set_fault(0x40, Fault::SwappedPolarity).unwrap();
    bench.pass(1_064);
    assert_eq!(bench.read(1) as i16, -200);

    bench.bus.set_fault(0x40, Fault::None).unwrap();
    bench.pass(1_064);
    assert_eq!(bench.read(1), 200);
}

#[test]
fn the_driver_that_runs_on_a_pi_accepts_the_chip_and_measures_with_it() {
    let bench = Bench::new(-12_340, 11_980);
    let mut driver = SyncIna219::new(bench.bus.clone(), Address::from_byte(0x40).unwrap()).unwrap();
    let configuration = Configuration {
        shunt_voltage_range: ShuntVoltageRange::Fsr40mv,
        shunt_resolution: Resolution::Avg16,
        operating_mode: OperatingMode::Continous(MeasuredSignals::ShutAndBusVoltage),
        ..Configuration::default()
    };
    driver.set_configuration(configuration).unwrap();
    assert_eq!(driver.configuration().unwrap(), configuration);
    assert!(driver.next_measurement().unwrap().is_none());
    bench.pass(8_510 + 532);
    let measured = driver.next_measurement().unwrap().expect("a conversion is complete");
    assert_eq!(measured.shunt_voltage.shunt_voltage_uv(), -12_340);
    assert_eq!(measured.bus_voltage.voltage_mv(), 11_980);
    assert!(driver.next_measurement().unwrap().is_none(), "the same conversion is not new twice");
}

#[test]
fn a_loose_contact_fails_in_the_middle_of_a_transfer() {
    let bench = Bench::new(1_000, 5_000);
    bench.pass(1_064);
    let mut bus = bench.bus.clone();
    let mut bytes = [0; 2];

    bench.bus.set_fault(0x40, Fault::NoAcknowledgeOfData).unwrap();
    assert_eq!(bus.write(0x40, &[]), Ok(()), "the address is acknowledged");
    assert_eq!(bus.write_read(0x40, &[1], &mut bytes), Err(NoAcknowledge));

    bench.bus.set_fault(0x40, Fault::DisappearsAfter(1)).unwrap();
    assert_eq!(bus.write_read(0x40, &[1], &mut bytes), Err(NoAcknowledge), "the pointer was taken");
    assert_eq!(bus.write(0x40, &[1]), Err(NoAcknowledge));
}

#[test]
fn a_line_that_is_held_down_acknowledges_and_reads_as_zeros() {
    let bench = Bench::new(1_000, 5_000);
    bench.pass(1_064);
    bench.bus.set_fault(0x40, Fault::StuckLow).unwrap();
    bench.write(0, 0x019F);
    assert_eq!((0..6).map(|register| bench.read(register)).collect::<Vec<_>>(), [0; 6]);
    bench.bus.set_fault(0x40, Fault::None).unwrap();
    assert_eq!(bench.read(0), 0x399F);
}

#[test]
fn noise_stays_within_what_was_set_and_is_the_same_each_time() {
    let series = || -> Vec<i16> {
        let bench = Bench::new(10_000, 5_000);
        bench.bus.set_fault(0x40, Fault::Noise(200)).unwrap();
        let next = |_| {
            bench.pass(1_064);
            bench.read(1) as i16
        };
        (0..100).map(next).collect()
    };
    let shown = series();
    assert!(shown.iter().all(|value| (980..=1_020).contains(value)), "{shown:?}");
    assert!(shown.iter().min() < Some(&990) && shown.iter().max() > Some(&1_010), "{shown:?}");
    assert_eq!(shown, series());
}

#[test]
fn a_calibration_that_is_too_large_overflows_and_says_so() {
    // 320 mV as 32000, times 0xFFFE over 4096, is beyond 16 bits (SBOS448G, section 8.5.1).
    let bench = Bench::new(320_000, 5_000);
    bench.write(5, 0xFFFE);
    bench.pass(1_064);
    assert_eq!(bench.read(2) & 0b11, 0b11);
}
