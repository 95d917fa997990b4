//! What happens to a bus and to the chip at 0x40, and how it ends.

use grid_agent::simulated_ina219::Fault;

use crate::emulated::{EACCES, EIO, ENXIO, EREMOTEIO, Errno, Kernel};

/// What happens, and words that must be said of it.
pub type Happening = (&'static str, fn(&Kernel), &'static str);

pub fn fault(kernel: &Kernel, fault: Fault) {
    kernel.i2c.set_fault(0x40, fault);
}

pub fn fails(kernel: &Kernel, errno: Errno) {
    kernel.i2c.fail(Some(errno));
}

pub fn absent_on_another_adapter(kernel: &Kernel) {
    kernel.i2c.report_no_acknowledge_as(ENXIO);
    fault(kernel, Fault::Absent);
}

/// The largest calibration: 160 mV times that are beyond 16 bits (SBOS448G, section 8.5.1).
pub fn overflow(kernel: &Kernel) {
    kernel.i2c.meddle(0x40, 5, 0xFFFE);
}

/// Permissions are asked when a file is opened, so when something else made that necessary.
pub fn taken_away(kernel: &Kernel) {
    kernel.refuse("/dev/i2c-1", EACCES);
    fails(kernel, EIO);
}

/// As [`taken_away`].
pub fn taken_by_a_driver(kernel: &Kernel) {
    kernel.i2c.claim(Some(0x40));
    fault(kernel, Fault::Absent);
}

/// All of it is over.
pub fn mend(kernel: &Kernel) {
    kernel.allow("/dev/i2c-1");
    kernel.i2c.plug_in();
    kernel.i2c.fail(None);
    kernel.i2c.claim(None);
    kernel.i2c.report_no_acknowledge_as(EREMOTEIO);
    fault(kernel, Fault::None);
}
