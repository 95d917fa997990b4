//! Checkpoints on the IOTA ledger.
