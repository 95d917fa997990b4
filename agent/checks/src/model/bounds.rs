//! How far the model goes: it is finite only within bounds.

use crate::twin::Weakness;

/// A device reports at most this often, and is sent as many setpoints: so two can be on their way each way.
pub const MOST_EACH: u8 = 2;

/// Which clocks run how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// The transformer's fast, devices' slow: a lease is over soonest for who counts it, and latest for who obeys it.
    Worst,
    /// Each fast or slow, in all combinations.
    All,
}

/// How far the model goes. Each device sends and is sent at most two messages of what there are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What these bounds let one see.
    pub shows: &'static str,
    /// How many seconds pass.
    pub ticks: u64,
    /// How many reports devices send together.
    pub reports: u8,
    /// How many setpoints the transformer sends.
    pub setpoints: u8,
    /// How often each device crashes and starts again.
    pub device_crashes: u8,
    /// How often the transformer does.
    pub transformer_crashes: u8,
    /// Whether device 0 may also report current that it is not entitled to.
    pub overdraw: bool,
    /// How fast clocks run.
    pub clocks: Clocks,
}

/// A setpoint is confirmed and another device raised, or it runs out; nobody crashes.
const MESSAGES: Bounds = Bounds {
    shows: "messages alone",
    ticks: 4,
    reports: 3,
    setpoints: 3,
    device_crashes: 0,
    transformer_crashes: 0,
    overdraw: false,
    clocks: Clocks::Worst,
};
/// Devices crash.
const DEVICES: Bounds = Bounds { shows: "devices crash", setpoints: 2, device_crashes: 1, ..MESSAGES };
/// The transformer crashes.
const TRANSFORMER: Bounds =
    Bounds { shows: "the transformer crashes", setpoints: 2, transformer_crashes: 1, ..MESSAGES };
/// All crash.
const CRASHES: Bounds = Bounds { shows: "all crash", transformer_crashes: 1, ..DEVICES };
/// A device draws what it may not.
const OVERDRAW: Bounds = Bounds { shows: "a device draws too much", setpoints: 2, overdraw: true, ..MESSAGES };

/// For every change: some ten seconds.
pub const QUICK: &[Bounds] = &[MESSAGES, CRASHES, OVERDRAW];

/// For the slow suite: some minutes.
pub const FULL: &[Bounds] = &[
    Bounds { clocks: Clocks::All, ..MESSAGES },
    Bounds { clocks: Clocks::All, ..CRASHES },
    Bounds { clocks: Clocks::All, ..OVERDRAW },
    Bounds { shows: "all crash, three setpoints", setpoints: 3, ..CRASHES },
];

/// For unoptimised tests.
pub const SMALL: &[Bounds] = &[Bounds { setpoints: 2, ..MESSAGES }, Bounds { reports: 2, ..TRANSFORMER }];

/// Where a twin is hunted: where that happens which its rule is for. With two setpoints at the most the books can differ;
/// with `three_setpoints` there is also one that makes the rule itself break.
pub fn hunting_ground(weakness: Weakness, three_setpoints: bool) -> Bounds {
    match weakness {
        Weakness::NewSessionFrees => DEVICES,
        Weakness::NoEpochOrder | Weakness::NoWindow => TRANSFORMER,
        Weakness::NoCurrentReserve => OVERDRAW,
        Weakness::CountsFromArrival
        | Weakness::NoSeqOrder
        | Weakness::NoDriftMargin
        | Weakness::NewestAloneCounts
        | Weakness::EqualValueConfirms
        | Weakness::UnsettledConfirms
        | Weakness::NoFailsafeReserve
        | Weakness::HoldDropped
        | Weakness::DecreaseWithoutHold => Bounds { setpoints: if three_setpoints { 3 } else { 2 }, ..MESSAGES },
    }
}
