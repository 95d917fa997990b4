//! See `tests/fuzz/mod.rs` of the anchor.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
mod fuzz;
#[path = "../../tests/street/mod.rs"]
mod street;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = (fuzz::SESSIONS.hold)(bytes) {
        panic!("{what}");
    }
});
