//! What the protocol allows a transaction, and what it costs (protocol configuration of `iotaledger/iota`).

/// NANOS per unit of computation.
pub(super) const GAS_PRICE: u64 = 1000;
/// The price must be below this.
pub(super) const HIGHEST_GAS_PRICE: u64 = 100_000;
/// The smallest bucket. None of the calls that the mock knows needs more.
pub(super) const COMPUTATION_UNITS: u64 = 1000;
/// Of storage.
const UNITS_PER_BYTE: u64 = 100;
const STORAGE_PRICE: u64 = 76;
pub(super) const NANOS_PER_BYTE: u64 = UNITS_PER_BYTE * STORAGE_PRICE;
/// In NANOS.
pub(super) const LARGEST_BUDGET: u64 = 50_000_000_000;
/// A pure argument must have fewer bytes.
pub(super) const LARGEST_PURE: usize = 16 * 1024;
/// In bytes, with signatures.
pub(super) const LARGEST_TRANSACTION: usize = 128 * 1024;
/// In bytes.
pub(super) const LARGEST_OBJECT: usize = 250 * 1024;
/// There must be fewer commands.
pub(super) const MOST_COMMANDS: usize = 1024;
/// A command must have fewer arguments.
pub(super) const MOST_ARGUMENTS: usize = 512;
/// With packages and gas, there may be as many.
pub(super) const MOST_INPUT_OBJECTS: usize = 2048;
/// There must be fewer coins.
pub(super) const MOST_GAS_OBJECTS: usize = 256;

/// Those that clients ask for, by the protocol's names.
pub(super) fn attributes() -> [(&'static str, u64); 9] {
    [
        ("base_tx_cost_fixed", COMPUTATION_UNITS),
        ("max_gas_payment_objects", MOST_GAS_OBJECTS as u64),
        ("max_gas_price", HIGHEST_GAS_PRICE),
        ("max_tx_gas", LARGEST_BUDGET),
        ("max_tx_size_bytes", LARGEST_TRANSACTION as u64),
        ("max_pure_argument_size", LARGEST_PURE as u64),
        ("max_programmable_tx_commands", MOST_COMMANDS as u64),
        ("obj_data_cost_refundable", UNITS_PER_BYTE),
        ("storage_gas_price", STORAGE_PRICE),
    ]
}
