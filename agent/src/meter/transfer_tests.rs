//! The meter, transfer by transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use embedded_hal::i2c::{ErrorType, Operation};

use super::super::{ChipConfig, LinuxBusError, Meter, MeterError};
use super::tests::{Bench, CONVERSION_US, LOOKED_AT_US};
use super::*;
use crate::simulated_ina219::{NoAcknowledge, Sensed, SimulatedBus};

type Transfer = dyn Fn(&mut SimulatedBus, u8, &mut [Operation<'_>]) -> Result<(), NoAcknowledge> + Send + Sync;

/// Somebody between the meter and its bus, who may do what he likes with each transfer.
#[derive(Clone)]
struct Between(SimulatedBus, Arc<Transfer>);

impl Between {
    fn meter(
        bench: &Bench,
        transfer: impl Fn(&mut SimulatedBus, u8, &mut [Operation<'_>]) -> Result<(), NoAcknowledge> + Send + Sync + 'static,
    ) -> Ina219Meter<Self> {
        let (between, now) = (Self(bench.bus.clone(), Arc::new(transfer)), Arc::clone(&bench.now));
        let clock = move || now.load(Ordering::Relaxed);
        Ina219Meter::open_with_clock(bench.configs.clone(), move |_| Ok(between.clone()), clock).unwrap()
    }
}

impl ErrorType for Between {
    type Error = NoAcknowledge;
}

impl I2c for Between {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), NoAcknowledge> {
        let Self(bus, transfer) = self;
        transfer(bus, address, operations)
    }
}

/// A bus whose every transfer the kernel refuses with this error number.
struct Refuses(i32);

impl ErrorType for Refuses {
    type Error = LinuxBusError;
}

impl I2c for Refuses {
    fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), LinuxBusError> {
        Err(LinuxBusError { errno: Some(self.0) })
    }
}

#[test]
fn each_error_number_of_the_kernel_is_a_kind_of_its_own() {
    let error_of = |errno| Ina219Meter::new(vec![ChipConfig::default()], move |_| Ok(Refuses(errno))).unwrap().poll();
    let claimed = error_of(16).unwrap_err();
    assert!(matches!(claimed, MeterError::AddressClaimed { address: 0x40, .. }));
    let said = claimed.to_string();
    for named in ["a driver of Linux has claimed 0x40 on /dev/i2c-1", "[[meter.hwmon]]", "rmmod ina2xx"] {
        assert!(said.contains(named), "{said}");
    }
    let gone = error_of(19).unwrap_err();
    assert!(matches!(&gone, MeterError::AdapterGone { bus } if bus == "/dev/i2c-1"), "{gone}");
    assert!(matches!(error_of(121), Err(MeterError::NotAnswering { .. })));
    assert!(matches!(error_of(110), Err(MeterError::BusStuck { .. })));
    assert!(matches!(error_of(5), Err(MeterError::Transfer { .. })));
}

#[test]
fn a_transfer_that_took_long_is_not_held_against_the_chip() {
    let bench = Bench::with(vec![ChipConfig::default()]);
    let (now, delay) = (Arc::clone(&bench.now), Arc::new(AtomicU64::new(0)));
    let takes = Arc::clone(&delay);
    let mut meter = Between::meter(&bench, move |bus, address, operations| {
        if matches!(operations, [Operation::Write([3]), ..]) {
            now.fetch_add(takes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        bus.transaction(address, operations)
    });
    bench.pass(LOOKED_AT_US);
    delay.store(2_000_000, Ordering::Relaxed);
    assert!(meter.poll().unwrap().is_some());
    assert_eq!(delay.load(Ordering::Relaxed), 0, "it did take long");
    bench.pass(1_000);
    assert_eq!(meter.poll().unwrap(), None);
}

#[test]
fn what_no_chip_can_show_that_is_set_up_is_told_and_measuring_goes_on_when_it_is_over() {
    // More than 320 mV over the shunt, and more than 32 V at the load with the conversion ready.
    for (garbled, shown) in [(1, 0x7FFF_u16), (2, 0xFFFA)] {
        let bench = Bench::with(vec![ChipConfig::default()]);
        let garbles = Arc::new(AtomicBool::new(false));
        let garbling = Arc::clone(&garbles);
        let mut meter = Between::meter(&bench, move |bus, address, operations| {
            bus.transaction(address, operations)?;
            if let [Operation::Write([register]), Operation::Read(bytes)] = operations
                && *register == garbled
                && garbling.load(Ordering::Relaxed)
            {
                bytes.copy_from_slice(&shown.to_be_bytes());
            }
            Ok(())
        });
        garbles.store(true, Ordering::Relaxed);
        bench.pass(LOOKED_AT_US);
        let error = meter.poll().unwrap_err();
        assert!(matches!(error, MeterError::BeyondRange { address: 0x40, .. }), "{error}");
        assert!(error.to_string().contains("more than 26 V"), "{error}");
        garbles.store(false, Ordering::Relaxed);
        bench.pass(LOOKED_AT_US);
        assert!(meter.poll().unwrap().is_some());
    }
}

/// A chip's clock is up to a tenth slow (SBOS448G, section 6.5), and here also fast. What it shows is known to be no older
/// than it is, to a quarter of a conversion.
#[test]
fn a_chip_is_left_alone_until_its_conversion_is_about_to_end_and_then_looked_at_closely() {
    for percent in [90, 100, 110] {
        let (now, ended, transfers): (Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let clock = Arc::clone(&now);
        let bus = SimulatedBus::new(move || clock.load(Ordering::Relaxed) * percent / 100);
        let end = Arc::clone(&ended);
        let wire = move |at_us| {
            end.store(at_us * 100 / percent, Ordering::Relaxed);
            Sensed::default()
        };
        bus.attach(0x40, wire).unwrap();
        let bench = Bench { bus, now, grid_ma: Default::default(), configs: vec![ChipConfig::default()] };
        let count = Arc::clone(&transfers);
        let mut meter = Between::meter(&bench, move |bus, address, operations| {
            count.fetch_add(1, Ordering::Relaxed);
            bus.transaction(address, operations)
        });
        transfers.store(0, Ordering::Relaxed);
        for _ in 0..100 {
            let reading = loop {
                if let Some(reading) = meter.poll().unwrap() {
                    break reading;
                }
                bench.wait_for(&meter);
            };
            let ended = ended.load(Ordering::Relaxed);
            // The chip's clock is rounded.
            let known = reading.taken_us <= ended + 1 && ended - reading.taken_us <= CONVERSION_US / 4 + 1;
            assert!(known, "{percent} %: ended at {ended}, taken at {}", reading.taken_us);
        }
        // Three of them take what was converted.
        let each = transfers.load(Ordering::Relaxed) as f64 / 100.0;
        assert!((4.0..5.0).contains(&each), "{percent} %: {each}");
    }
}
